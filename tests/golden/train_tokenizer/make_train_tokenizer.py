#!/usr/bin/env python3
"""What Hugging Face `tokenizers` and `transformers` make of the same training text, and of fathom-nano's vocabulary.

    python train_tokenizer/make_train_tokenizer.py     (from tests/golden; tokenizers 0.23.3, transformers 5.23.0)

Writes text.txt (made here), expected.json (the merges of BpeTrainer on it, with the pre-tokenizer that is in
models/fathom-nano/tokenizer.json) and nano.json (texts with their ids, and conversations rendered and encoded by
apply_chat_template with models/fathom-nano).
"""
import json
import os
import random

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
NANO = os.path.join(HERE, "..", "..", "..", "models", "fathom-nano")


def make_text():
    rng = random.Random(7)
    stems = ["river", "stone", "light", "walk", "think", "market", "garden", "letter", "winter", "house", "banana", "mississippi"]
    ends = ["", "s", "ed", "ing", "er", "ly", "'s", "ness"]
    odd = ["12,345.67", "€9", "naïve café", "你好世界", "ひらがな", "x_y=z;", "\tindented", "a--b", "!!??", "🙂🙂", "aaaaaaa", "\r\n"]
    text = ""
    while len(text) < 14000:
        words = [rng.choice(odd) if rng.random() < 0.08 else rng.choice(stems) + rng.choice(ends)
                 for _ in range(rng.randint(3, 14))]
        text += " ".join(words).capitalize() + rng.choice([". ", "? ", ".\n", ".\n\n", "  "])
    return text


def main():
    text = make_text()
    with open(os.path.join(HERE, "text.txt"), "w", newline="") as f:
        f.write(text)
    nano = json.load(open(os.path.join(NANO, "tokenizer.json")))
    cases = {}
    for name, size, frequency in (("all", 600, 1), ("frequent", 2000, 5)):
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = Tokenizer.from_str(json.dumps(nano)).pre_tokenizer
        trainer = trainers.BpeTrainer(vocab_size=size - 4, min_frequency=frequency, show_progress=False,
                                      special_tokens=["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"],
                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
        tokenizer.train_from_iterator([text], trainer)
        model = json.loads(tokenizer.to_str())["model"]
        ids = sorted(model["vocab"].items(), key=lambda item: item[1])
        cases[name] = {"vocab_size": size, "min_frequency": frequency, "merges": model["merges"],
                       "vocab": [token for token, _ in ids]}
    json.dump(cases, open(os.path.join(HERE, "expected.json"), "w"), ensure_ascii=False, indent=0)

    tokenizer = AutoTokenizer.from_pretrained(NANO)
    texts = ["", "Once upon a time", text[:500], "What is 15% of 1,240.50?", "  two  spaces\n\n\nlines\r\n", "你好 🙂 é", "<think> </think>"]
    chats = [
        [{"role": "user", "content": "Hello"}],
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "  12 + 30?\n"}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}],
        [{"role": "system", "content": "one"}, {"role": "user", "content": "a"},
         {"role": "assistant", "content": "old thoughts</think>\n\nb"}, {"role": "system", "content": "two"},
         {"role": "user", "content": "\nc"}],
        [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"},
         {"role": "assistant", "content": "d"}],
    ]
    out = {"texts": [{"text": t, "ids": tokenizer.encode(t, add_special_tokens=False)} for t in texts[:-1]], "chats": []}
    for messages in chats:
        for options in ({}, {"add_generation_prompt": True}, {"add_generation_prompt": True, "thinking": True}):
            rendered = tokenizer.apply_chat_template(messages, tokenize=False, **options)
            out["chats"].append({"messages": messages, "options": options, "text": rendered,
                                 "ids": tokenizer.encode(rendered, add_special_tokens=False)})
    json.dump(out, open(os.path.join(HERE, "nano.json"), "w"), ensure_ascii=False, indent=0)


if __name__ == "__main__":
    main()
