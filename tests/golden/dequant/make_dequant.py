"""Blocks of every quantised type and the F32 values that gguf-py (and torch, for FP8) gives them.

    python make_dequant.py [--out DIR]

<type>.bin = blocks, zero padding to a multiple of 16 bytes, then values (little-endian F32). manifest.json has
sizes, counts and offsets. The first blocks are random bytes with finite scales (some zero, negative or
subnormal); where gguf-py can quantise the type, the last ones are quantised Gaussian rows, for which
`gaussian_offset` gives the original values (F32, same count as those blocks hold) to judge the error by.
"""

import argparse
import hashlib
import json
import os
from importlib.metadata import version

import gguf
import numpy as np
import torch
from gguf.quants import dequantize, quantize

VALUES = 2048  # per type
# Where the F16 scales stand in a block; IQ1_M hides its scale in bits, MXFP4 and NVFP4 have byte exponents.
SCALES = {
    "Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [],
    "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0], "IQ1_S": [0], "IQ1_M": [],
    "TQ1_0": [52], "TQ2_0": [64],
}
WANTED = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4"]


def random_blocks(name, count, size, rng):
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for at in SCALES[name]:
        scale = rng.normal(0, 0.02, count).astype(np.float16)
        scale[:4] = [0.0, -0.5, 6e-8, 6.1e-5]  # zero, negative, smallest subnormal, smallest normal
        blocks[:, at:at + 2] = scale.view(np.uint8).reshape(count, 2)
    if name == "MXFP4":
        blocks[:, 0] = rng.integers(112, 136, count)
        blocks[:5, 0] = [0, 1, 2, 127, 200]  # 2^-127 and the next are subnormal once halved
    if name == "IQ1_M":  # the F16 scale is the top nibbles of the four 16-bit scale words: keep its exponent low
        blocks[:, 55] = (blocks[:, 55] & 0x0F) | 0x20
    return blocks


def entry(out, name, blocks, values, block_size, extra, gaussian=None):
    data = blocks.tobytes()
    data += bytes(-len(data) % 16)
    at = len(data)
    data += values.astype("<f4").tobytes()
    m = {"file": name.lower() + ".bin", "block_values": block_size, "block_bytes": blocks.shape[1],
         "blocks": blocks.shape[0], "values": values.size, "values_offset": at, "extra": extra}
    if gaussian is not None:
        m["gaussian_blocks"] = gaussian.size // block_size
        m["gaussian_offset"] = len(data)
        data += gaussian.astype("<f4").tobytes()
    m["sha256"] = hashlib.sha256(data).hexdigest()
    with open(os.path.join(out, m["file"]), "wb") as f:
        f.write(data)
    return m


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    out = parser.parse_args().out
    rng = np.random.default_rng(20261123)
    types = {}
    for name in SCALES:
        kind = gguf.GGMLQuantizationType[name]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        gauss = None
        try:
            gauss = rng.normal(0, 0.05, (2, 256)).astype(np.float32)
            real = quantize(gauss, kind).reshape(-1, size)
        except NotImplementedError:
            gauss, real = None, np.empty((0, size), np.uint8)
        blocks = np.concatenate([random_blocks(name, VALUES // block - len(real), size, rng), real])
        values = dequantize(blocks, kind).reshape(-1)
        assert np.isfinite(values).all() and values.size == VALUES, name
        types[name] = entry(out, name, blocks, values, block, name not in WANTED, gauss)
    for name, torch_type, exponent in (("F16", torch.float16, 0x7C00), ("BF16", torch.bfloat16, 0x7F80)):
        bits = rng.integers(0, 65536, VALUES, dtype=np.uint16)
        bits[:8] = [0x0000, 0x8000, 0x0001, 0x8001, exponent - 1, 0x8000 | (exponent - 1), 0x03FF, 0x0400]
        bits[(bits & exponent) == exponent] &= 0xFFFF ^ exponent  # no infinities, no NaN
        values = torch.from_numpy(bits.view(np.int16)).view(torch_type).float().numpy()
        if name == "BF16":
            assert (dequantize(bits.view(np.uint8).reshape(1, -1), gguf.GGMLQuantizationType.BF16) == values).all()
        types[name] = entry(out, name, bits.view(np.uint8).reshape(-1, 2), values, 1, False)
    codes = np.arange(256, dtype=np.uint8)
    values = torch.from_numpy(codes).view(torch.float8_e4m3fn).float().numpy()
    assert np.isnan(values).sum() == 2  # 0x7F and 0xFF
    types["F8_E4M3"] = entry(out, "F8_E4M3", codes.reshape(-1, 1), values, 1, False)
    with open(os.path.join(out, "manifest.json"), "w") as f:
        json.dump({"versions": {"gguf": version("gguf"), "torch": torch.__version__, "numpy": np.__version__},
                   "types": types}, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
