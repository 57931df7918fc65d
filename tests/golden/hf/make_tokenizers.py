"""Writes tokenizer.json and tokenizer_config.json beside some tiny models: the same 288 ids as in the GGUF files.

    python make_tokenizers.py [--out DIR]

The pre-tokenizers are those of DeepSeek-V3, Llama-3 and Qwen2 (their published expressions). Needs nothing.
"""

import argparse
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "gguf"))
import tiny_tokenizer

WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITS = {
    "deepseek": [r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
                 "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
                 "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"],
    "llama": [WORDS % r"\p{N}{1,3}"],
    "qwen2": [WORDS % r"\p{N}"],
}
MODELS = {"v3": ("deepseek", True), "llama": ("llama", True), "qwen2": ("qwen2", False)}


def byte_level(prefix):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": False}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=HERE)
    out = parser.parse_args().out
    for model, (family, add_bos) in MODELS.items():
        text, kinds = tiny_tokenizer.tokens(family)
        added = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                  "special": kinds[i] == 3} for i, t in enumerate(text) if kinds[i] != 1]
        splits = [{"type": "Split", "pattern": {"Regex": r}, "behavior": "Isolated", "invert": False}
                  for r in SPLITS[family]]
        bos = {"SpecialToken": {"id": text[0], "type_id": 0}}
        whole = {"Sequence": {"id": "A", "type_id": 0}}
        template = {"type": "TemplateProcessing", "single": [bos, whole],
                    "pair": [bos, whole, {"Sequence": {"id": "B", "type_id": 0}}],
                    "special_tokens": {text[0]: {"id": text[0], "ids": [0], "tokens": [text[0]]}}}
        tokenizer = {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": splits + [byte_level(False)]},
            "post_processor": template if add_bos else byte_level(False), "decoder": byte_level(True),
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": {t: i for i, t in enumerate(text) if kinds[i] == 1},
                      "merges": [m.split(" ") for m in tiny_tokenizer.MERGES] if family == "llama"
                      else tiny_tokenizer.MERGES}}
        config = {"add_bos_token": add_bos, "add_eos_token": False, "bos_token": text[0] if add_bos else None,
                  "eos_token": text[1], "pad_token": text[2], "clean_up_tokenization_spaces": False,
                  "model_max_length": 1280, "tokenizer_class": "PreTrainedTokenizerFast"}
        for name, value in (("tokenizer.json", tokenizer), ("tokenizer_config.json", config)):
            with open(os.path.join(out, model, name), "w") as f:
                json.dump(value, f, ensure_ascii=False, indent=1)
                f.write("\n")


if __name__ == "__main__":
    main()
