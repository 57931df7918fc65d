// The per-format halves of DequantizeRow, one function a block type. Private to the kernels room.
//
// Each takes `count` elements (a multiple of the block size) at `data` (2-byte aligned, as every container stores
// them) and writes `count` floats. The order of float operations is that of the `gguf` package's quants.py, so that
// results are equal bit for bit. Pure functions, thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fathom::dequant {

// Blocks of 32 (dequant_simple.cc).
void RowQ4_0(const std::byte* data, int64_t count, float* out);
void RowQ4_1(const std::byte* data, int64_t count, float* out);
void RowQ5_0(const std::byte* data, int64_t count, float* out);
void RowQ5_1(const std::byte* data, int64_t count, float* out);
void RowQ8_0(const std::byte* data, int64_t count, float* out);
void RowIQ4_NL(const std::byte* data, int64_t count, float* out);
void RowMXFP4(const std::byte* data, int64_t count, float* out);

// Super-blocks of 256 (dequant_k.cc).
void RowQ2_K(const std::byte* data, int64_t count, float* out);
void RowQ3_K(const std::byte* data, int64_t count, float* out);
void RowQ4_K(const std::byte* data, int64_t count, float* out);
void RowQ5_K(const std::byte* data, int64_t count, float* out);
void RowQ6_K(const std::byte* data, int64_t count, float* out);
void RowIQ4_XS(const std::byte* data, int64_t count, float* out);

}  // namespace fathom::dequant
