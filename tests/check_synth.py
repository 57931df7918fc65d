#!/usr/bin/env python3
"""Shows synthetic models to other programs. Not part of the tests: it needs the `gguf` package and, for the second
half, a llama.cpp build.

    python3 tests/check_synth.py build/release/fathom [--llama-simple PATH]

1. Every type and both layouts, read by the `gguf` package: all tensors are there, and each dequantises to finite
   numbers of about the standard deviation that it should have.
2. With --llama-simple: two layers of every family in F32; fathom's greedy text equals llama.cpp's.
"""

import argparse
import os
import subprocess
import sys
import tempfile

import gguf
import numpy as np

PROMPT = "hello there the heart of the matter"
FAMILIES = ["tiny", "deepseek-v2-lite", "moonlight", "glm-4.7-flash", "smollm2-135m", "r1-distill-qwen-1.5b",
            "r1-distill-llama-8b"]


def types(fathom):
    listing = subprocess.run([fathom, "synth", "--list"], check=True, capture_output=True, text=True).stdout
    names = [line.split()[0] for line in listing.split("Types (--type):")[1].splitlines() if line.strip()]
    return [n for n in names if n != "pure-TYPE"] + ["pure-" + t for t in ("q2_k", "q3_k", "q4_k", "q5_k", "iq4_xs",
                                                                           "mxfp4")]


def expected_std(name, shape):
    """As documented in src/engine/synth_tensors.h, for the matrices where it is simply 1 / sqrt(inputs)."""
    if name == "output.weight":
        return 3 / np.sqrt(shape[-1])
    if any(s in name for s in ("attn_q", "attn_kv_a_mqa.w", "ffn_gate", "ffn_up", "attn_v_b")) and "norm" not in name:
        return 1 / np.sqrt(shape[-1])
    return None


def check_reader(path):
    reader = gguf.GGUFReader(path)
    assert reader.fields["general.architecture"].contents() == "deepseek2"
    assert len(reader.fields["tokenizer.ggml.tokens"].data) == 4096
    kinds = set()
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        shape = tuple(int(n) for n in reversed(tensor.shape))
        assert values.size == np.prod(shape), tensor.name
        assert np.isfinite(values).all(), tensor.name
        std = expected_std(tensor.name, shape)
        if std is not None:
            near = 0.01 + 0.8 / np.sqrt(values.size / 256)  # five standard deviations for 256-value blocks
            assert abs(values.std() / std - 1) < near, (tensor.name, tensor.tensor_type.name, values.std(), std)
            assert abs(values.mean()) < near * std, (tensor.name, tensor.tensor_type.name, values.mean(), std)
        kinds.add(tensor.tensor_type.name)
    return len(reader.tensors), sorted(kinds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fathom")
    parser.add_argument("--llama-simple")
    args = parser.parse_args()

    def synth(*options):
        subprocess.run([args.fathom, "synth", "-q", *options], check=True)

    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.gguf")
        for kind in types(args.fathom):
            for layout in ("mainline", "legacy"):
                synth("--config", "tiny", "--type", kind, "--layout", layout, "-o", path)
                count, kinds = check_reader(path)
                print(f"{kind:14} {layout:8} {count} tensors read: {' '.join(kinds)}")
        if args.llama_simple:
            for family in FAMILIES:
                synth("--config", family, "--type", "f32", "--layers", "2", "--vocab", "4096", "-o", path)
                theirs = subprocess.run([args.llama_simple, "-m", path, "-n", "24", PROMPT], check=True,
                                        capture_output=True).stdout.split(PROMPT.encode(), 1)[1].rstrip(b"\0\n")
                ours = subprocess.run([args.fathom, "run", "-m", path, "--temp", "0", "-n", "24", "--raw", PROMPT],
                                      check=True, capture_output=True).stdout.rstrip(b"\0\n")
                # llama.cpp prints bytes as they are; fathom mends broken UTF-8.
                same = theirs.decode(errors="replace").replace("\0", "") == ours.decode().replace("\0", "")
                failed += not same
                print(f"{family:22} {'same text' if same else 'DIFFERENT'}")
                if not same:
                    print(f"  llama.cpp: {theirs!r}\n  fathom:    {ours!r}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
