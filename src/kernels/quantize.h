// f32 rows to stored blocks, for `synth` and (later) `convert`: round to nearest with the block's extreme values kept.
//
// Plain algorithms, not llama.cpp's searched ones: the result is valid in every runtime, a little less accurate.
// Pure functions, thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace fathom {

/// Quantises `count` floats (a multiple of the block size) to `out` (RowBytes(dtype, count) bytes). All block types
/// and F32, F16, BF16. REQUIRES: values are finite.
void QuantizeRow(DType dtype, const float* in, int64_t count, std::byte* out);

}  // namespace fathom
