#!/usr/bin/env python3
"""Trains small byte-level BPE tokenizers with the pre-tokenizers of published models and records what Hugging Face
`tokenizers` says about many strings.

    python make_tokenizers.py            (needs the Python package `tokenizers`; 0.23.3 was used)

Writes NAME.json (a tokenizer.json), strings.json and expected.json ({name: [ids of each string]}). The text that they
are trained on is made here; of the published tokenizers only the pre-tokenizer settings are facts used here.
"""
import json
import os
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
KIMI = (r"[\p{Han}]+|" + O200K.replace(r"\p{M}]", r"\p{M}&&[^\p{Han}]]").replace(r"[\r\n/]*", r"[\r\n]*"))
V3 = (r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"""
      r"|\s*[\r\n]+|\s+(?!\S)|\s+").replace(r"\r", "\r").replace(r"\n", "\n")
CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
# The letters of the cased scripts, as DeepSeek-LLM's tokenizer.json lists them.
LLM_RANGES = """41-5A 61-7A B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373 376-377 37B-37D 37F 386 388-38A 38C
38E-3A1 3A3-3F5 3F7-481 48A-52F 531-556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF 1D00-1D2B 1D6B-1D77 1D79-1D9A
1E00-1F15 1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D 1F5F-1F7D 1F80-1FB4 1FB6-1FBC 1FBE 1FC2-1FC4 1FC6-1FCC
1FD0-1FD3 1FD6-1FDB 1FE0-1FEC 1FF2-1FF4 1FF6-1FFC 2102 2107 210A-2113 2115 2119-211D 2124 2126 2128 212A-212D 212F-2134
2139 213C-213F 2145-2149 214E 2183-2184 2C00-2C7B 2C7E-2CE4 2CEB-2CEE 2CF2-2CF3 A640-A66D A680-A69B A722-A76F A771-A787
A78B-A78E AB70-ABBF FB00-FB06 FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F 104B0-104D3 104D8-104FB 10C80-10CB2 10CC0-10CF2
118A0-118DF 1E900-1E943"""
LLM_LETTERS = "[" + "".join("-".join(chr(int(c, 16)) for c in r.split("-")) for r in LLM_RANGES.split()) + "]+"


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def bytelevel(prefix=False, regex=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex)


def digits():
    return pre_tokenizers.Digits(individual_digits=True)


def seq(*steps):
    return pre_tokenizers.Sequence(list(steps))


def special(text, flag=True, **more):
    return AddedToken(text, special=flag, normalized=more.pop("normalized", False), **more)


CHATML = [special("<|endoftext|>"), special("<|im_start|>"), special("<|im_end|>")]
DEEPSEEK = [special("<｜begin▁of▁sentence｜>"), special("<｜end▁of▁sentence｜>"),
            special("<｜User｜>", False, normalized=True), special("<｜Assistant｜>", False, normalized=True),
            special("<think>", False, normalized=True), special("</think>", False, normalized=True)]
# name: (normalizer, pre-tokenizer, added tokens, GGUF's name for the pre-tokenizer, ignore_merges)
CONFIGS = {
    "gpt2": (None, bytelevel(False, True), [special("<|endoftext|>")], "gpt-2", False),
    "llama3": (None, seq(split(LLAMA3), bytelevel()),
               [special("<|begin_of_text|>"), special("<|eot_id|>"), special("<|start_header_id|>"),
                special("<|end_header_id|>")], "llama-bpe", True),
    "qwen2": (normalizers.NFC(), seq(split(QWEN2), bytelevel()), CHATML + [special("<tool_call>", False)], "qwen2",
              False),
    "smollm2": (None, seq(digits(), bytelevel(False, True)), CHATML + [special("<repo_name>")], "smollm", False),
    "deepseek_llm": (normalizers.Sequence([]),
                     seq(split("[\r\n]"), split(r"\s?" + LLM_LETTERS),
                         split(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"), split(r"\s+$"), split(CJK), digits(), bytelevel()),
                     DEEPSEEK[:2], "deepseek-llm", False),
    "deepseek_coder": (normalizers.Sequence([]),
                       seq(split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(CJK), digits(),
                           bytelevel()), DEEPSEEK[:2], "deepseek-coder", False),
    "deepseek_v3": (normalizers.Sequence([]),
                    seq(split(r"\p{N}{1,3}"), split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"), split(V3),
                        bytelevel()), DEEPSEEK, "deepseek-v3", False),
    "kimi_k2": (None, seq(split(KIMI), bytelevel()), CHATML, "kimi-k2", True),
    # What no published model needs all at once.
    "odd_steps": (normalizers.NFKC(),
                  seq(split(r"\s+", "merged_with_next"), split("[aeiou]", "merged_with_previous"),
                      split("[^t]+", "contiguous", True), pre_tokenizers.Punctuation("contiguous"),
                      pre_tokenizers.Digits(individual_digits=False), split(r"(?<=l)l|x*?y", "isolated"),
                      bytelevel(True, True)),
                  [special("<pad>"), AddedToken("thing", single_word=True, normalized=True),
                   AddedToken("[L]", lstrip=True, normalized=False), AddedToken("[R]", rstrip=True, normalized=False),
                   AddedToken("[LONG]", normalized=False), AddedToken("[LON", normalized=False),
                   AddedToken("ﬁ", normalized=True)], None, False),
    "whitespace": (normalizers.NFD(), seq(pre_tokenizers.Whitespace(), bytelevel(False, False)), [special("<s>")],
                   None, False),
}

WORDS = """the a of and to in is was that it for on with as at by this had not are but from or have an they which one you
were all her she there would their we him been has when who will no more if out so up said what its about than into them
can only other time new some could these two may first then do any like my now over such our man me even most made after
also did many off before must well back through years much where your way down should because long each just state those
people how too little good world still own see men work life without being under never day same another know while last
don't I'm we've it's they'll you'd he's DON'T It'S token model layer expert cache latent attention matrix float return
void const std vector string int size_t uint32_t def class import self None True False lambda print for while if else
naïve café über Straße señor élan дом вода человек слово язык мир свет книга город река λόγος κόσμος νερό שלום עולם ماء
كتاب सूरज पानी ไทย น้ำ 你好 世界 模型 语言 中文 天气 我们 学习 日本語 東京 ひらがな カタカナ さくら 한국어 안녕 세계 사람""".split()


def corpus(rng, lines):
    for _ in range(lines):
        out = []
        for _ in range(rng.randint(3, 18)):
            kind = rng.random()
            if kind < 0.80:
                word = rng.choice(WORDS)
                out.append(word.capitalize() if rng.random() < 0.1 else word)
            elif kind < 0.88:
                out.append(str(rng.randint(0, 10 ** rng.randint(1, 6))))
            elif kind < 0.94:
                out.append(rng.choice(["==", "!=", "->", "::", "{}", "();", "[0]", "+=", "//", "...", "—", "。", "，"]))
            else:
                out.append(rng.choice(["😀", "👍🏽", "½", "€", "™", "é", "e\u0301"]))
        yield rng.choice(["", "", "    ", "\t"]) + " ".join(out) + rng.choice([".", "!", "?", ";", "\n", "\r\n", "\n\n"])


def strings(rng):
    out = ["", " ", "  ", "\n", "\r\n", "\t\n ", "Hello world", " Hello  world ", "don't DON'T we'LL I'M 'S 's 'ſ 'K",
           "1 12 123 1234 12345678 ١٢٣ ４５６ ⅧⅨ ½²", "中文测试 日本語カタカナ 한국어 ไทย", "a\u0301 á Å \u212b ﬁ ſ ß ẞ İ ŉ",
           "if(x != y) { return foo::bar[3]; }\n\n\n\treturn;\r\n", "     five\n   three\n\n  two  \n",
           "\u3000ideographic\u00a0nbsp\u2003em\u200bzw\u180emvs\u0085nel\u2028ls", "👨‍👩‍👧‍👦 🏳️‍🌈 😶‍🌫️ 🇺🇸 ❤️",
           "\U0001FAE8 \U00031350 \u1C89\u1C8A \U00011DE0\U00016FF4 \U000110C2", "\x00\x01\x1c\x1f\x7f", "\ufeffBOM",
           "\u0378 \U000E0001 \ue000 \U0010FFFF \uFFFE", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
           " " * 70 + "x", "\n" * 50, "ĠĊ Ġthe", "something thing things thing.", "a [L] b [R]   c [LONG] [LON] [LONx",
           "don't stop\u2019til  you\tget   enough!!! (really?) -- #hash @at $5.00 50% ~`^|<>",
           "hello xxy y xyz all full l ll lll"]
    pools = [(0x20, 0x7E), (0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x5FF), (0x600, 0x6FF), (0x900, 0xDFF),
             (0x0E00, 0x0E7F), (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x23FF), (0x2E80, 0x30FF), (0x4E00, 0x9FFF),
             (0xA000, 0xA8FF), (0xAC00, 0xD7FF), (0xF900, 0xFFFD), (0x10000, 0x1FFFF), (0x20000, 0x3FFFF)]
    for _ in range(150):
        text = ""
        for _ in range(rng.randint(1, 10)):
            kind = rng.random()
            if kind < 0.4:
                text += rng.choice(WORDS)
            elif kind < 0.6:
                text += "".join(rng.choice(" \n\r\t'") for _ in range(rng.randint(1, 4)))
            elif kind < 0.7:
                text += str(rng.randint(0, 99999))
            else:
                low, high = rng.choice(pools)
                text += "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 4)))
        out.append(text)
    return out


def main():
    rng = random.Random(20261123)
    lines = list(corpus(rng, 6000))
    texts = strings(rng)
    expected = {}
    info = {}
    for name, (normalizer, pre, added, ggml_pre, ignore_merges) in CONFIGS.items():
        tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
        if normalizer is not None:
            tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = pre
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=900, show_progress=False,
                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
        tokenizer.train_from_iterator(lines, trainer)
        tokenizer.add_tokens(added)
        path = os.path.join(HERE, name + ".json")
        tokenizer.save(path, pretty=False)
        tokenizer = Tokenizer.from_file(path)
        expected[name] = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
        info[name] = {"ggml_pre": ggml_pre}
    with open(os.path.join(HERE, "strings.json"), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(t) for t in texts) + "\n]\n")
    with open(os.path.join(HERE, "expected.json"), "w") as f:
        f.write("{\n" + ",\n".join(f'"{n}": ' + json.dumps({**info[n], "ids": e}, separators=(",", ":"))
                                   for n, e in expected.items()) + "\n}\n")


main()
