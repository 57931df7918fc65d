// f32 rows to stored blocks, for `synth` and (later) `convert`.
//
// Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and MXFP4 round to nearest with the block's extreme values kept, with the same bytes as
// the `gguf` Python package. The other types fit their scales by a short least-squares search: plain algorithms without
// an importance matrix, valid in every runtime, a little less accurate than llama.cpp's. Scales beyond f16 saturate
// (never infinity), scales below it become zero. Pure functions, thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace fathom {

/// Quantises `count` floats (a multiple of the block size) to `out` (RowBytes(dtype, count) bytes, 2-byte aligned for
/// block types). All block types and F32, F16, BF16; kF8_E4M3 converts each value as it is (the caller divides by the
/// scale of its 128x128 tile first). REQUIRES: values are finite; dtype is not an integer type or F64.
void QuantizeRow(DType dtype, const float* in, int64_t count, std::byte* out);

/// float8_e4m3fn, round to nearest even; magnitudes above 448 saturate, NaN stays NaN (0x7f with the sign).
uint8_t FloatToF8E4M3(float f);

}  // namespace fathom
