#!/usr/bin/env python3
"""Writes what the `gguf` package (PyPI, 0.19.0) makes of input.f32, for quantize_test.cc.

    python3 -m venv v && v/bin/pip install gguf==0.19.0 && v/bin/python tests/golden/quantize/make.py

input.f32: 3072 little-endian floats: gaussians of widths 1e-3 to 1e3, zeros, one-element blocks, constants, ties.
<type>.bin: gguf.quants.quantize of it, for the types that the package can write.
"""
import pathlib

import gguf
import numpy as np

here = pathlib.Path(__file__).parent
random = np.random.default_rng(20261123)
blocks = random.standard_normal((96, 32)).astype(np.float32)
blocks *= np.logspace(-3, 3, 96, dtype=np.float32)[:, None]
blocks[0] = 0
blocks[1] = 0
blocks[1, 17] = -3.5
blocks[2] = 0.25
blocks[3] = -0.25
blocks[4] = np.arange(32) / 2 - 8  # ties and both extremes of Q4_0
blocks[5] = np.abs(blocks[5])
blocks[6] = -np.abs(blocks[6])
blocks[7, 3], blocks[7, 20] = 0.125, -0.125  # equal magnitudes: the first one decides
blocks.tofile(here / "input.f32")
for name in ("F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4"):
    dtype = gguf.GGMLQuantizationType[name]
    np.ascontiguousarray(gguf.quants.quantize(blocks, dtype)).tofile(here / f"{name.lower()}.bin")
