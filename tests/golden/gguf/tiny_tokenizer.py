"""The byte-level BPE tokenizer of the tiny models: 288 ids, made up here, the same layout in every family.

    0..2      beginning of text, end of text, padding (control)
    3..258    the 256 bytes, in byte order, spelled as GPT-2 spells bytes
    259..283  the results of the 25 merges below, in order of rank
    284..287  four chat markers
"""

MERGES = ("Ġ t|Ġ a|h e|i n|r e|o n|Ġt he|e r|Ġ s|a t|Ġ w|Ġ o|e n|Ġ c|i t|i s|a n|o r|Ġ b|e d|in g|o u|an d|Ġa n|Ġ and"
          ).split("|")
MARKERS = {
    "deepseek": ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>",
                 "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"],
    "llama": ["<|begin_of_text|>", "<|end_of_text|>", "<|pad|>",
              "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>"],
    "qwen2": ["<|bos|>", "<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"],
}


def gpt2_bytes():
    """Byte -> the printable character that GPT-2's vocabulary uses for it."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    other = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(other)}}


def tokens(family):
    """(spellings, kinds) for ids 0..287; kinds are GGUF's: 1 normal, 3 control, 4 user defined."""
    names = MARKERS[family]
    spell = gpt2_bytes()
    text = names[:3] + [spell[b] for b in range(256)] + [m.replace(" ", "") for m in MERGES] + names[3:]
    kinds = [3] * 3 + [1] * (256 + len(MERGES)) + [4 if "think" in n or "tool" in n else 3 for n in names[3:]]
    assert len(text) == len(set(text)) == len(kinds) == 288, (len(text), len(set(text)))
    return text, kinds
