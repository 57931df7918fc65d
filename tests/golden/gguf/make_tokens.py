"""What llama.cpp makes of some strings with the tokenizers of the GGUF goldens, confirmed by tokenizer.json readers.

    python make_tokens.py LLAMA_SERVER [--model GGUF --out FILE]

Without --model: the tiny files here, to tokens.json, checked against the `tokenizers` library where ../hf/<model>
has a tokenizer.json. With it: one other file, unchecked. `plain` reads markers as text, `special` as markers.
"""

import argparse
import json
import os

from check_gguf import Server, post

HERE = os.path.dirname(os.path.abspath(__file__))
FILES = {"v3-mainline": "v3", "v2lite-mainline": None, "llama": "llama", "qwen2": "qwen2"}
TEXTS = [
    "", " ", "  ", "\n", "\n\n", " \n ", "\t\tx", "a", " a", "  a", "the", " the", "The the THE", "and in the end",
    "in\nin", "in  in", "(the) [the] {the} .the ,the", "don't we'll I'VE it's", "1", "12", "123", "1234567890", "3.14159",
    " 42 the 1234", "the42the", "foo_bar-baz+qux", "x = [1, 2, 3]; // the end\n", "    if a:\n        return the\n\n\n",
    "你好，世界", "日本語 the テスト", "한국어 in", "привет the мир", "Ünïcödé the ñandú", "e\u0301 the e\u0301",
    "🙂 the 👩‍👩‍👧", "\u00a0the\u00a0in", "\u200bthe", "the\r\nin\r\n", "...!!!???", "--- the ---", "#include <the>",
    "<｜User｜>the<｜Assistant｜>in", "<think>\nthe\n</think>", "<|start_header_id|>the<|end_header_id|>", "<|im_start|>the",
    "<｜User｜", "｜the｜", "\x00\x01\x7f", "𝒯𝒽𝑒 the", "Ǆ the ǅ", "١٢٣٤ the", "½ ² Ⅳ",
]


def ask(server, special):
    return [post(server.port, "/tokenize", {"content": t, "add_special": False, "parse_special": special})["tokens"]
            for t in TEXTS]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("server")
    parser.add_argument("--model")
    parser.add_argument("--out", default=os.path.join(HERE, "tokens.json"))
    args = parser.parse_args()
    out = {"texts": TEXTS, "ids": {}}
    for file, model in ([(args.model, None)] if args.model else FILES.items()):
        path = args.model or os.path.join(HERE, file + ".gguf")
        extra = ["--override-kv", "deepseek2.attention.q_lora_rank=int:0"] if file.startswith("v2lite") else []
        with Server(args.server, path, *extra) as server:
            got = {"plain": ask(server, False), "special": ask(server, True)}
        name = os.path.basename(path)
        out["ids"][name] = got
        if model:
            from tokenizers import Tokenizer
            other = Tokenizer.from_file(os.path.join(HERE, "..", "hf", model, "tokenizer.json"))
            for text, ids in zip(TEXTS, got["special"]):
                if other.encode(text, add_special_tokens=False).ids != ids:
                    print(name, repr(text), ids, other.encode(text, add_special_tokens=False).ids)
    lines = [json.dumps(t, ensure_ascii=True) for t in TEXTS]
    with open(args.out, "w") as f:
        f.write('{"texts": [\n ' + ",\n ".join(lines) + '\n],\n"ids": {\n')
        f.write(",\n".join(f'"{n}": {{\n "plain": {json.dumps(g["plain"])},\n "special": {json.dumps(g["special"])}}}'
                           for n, g in out["ids"].items()) + "\n}}\n")


if __name__ == "__main__":
    main()
