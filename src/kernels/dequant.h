// Stored rows to f32: the definition of what a quantised weight means. Equal to the `gguf` Python package, bit for bit.
//
// Pure functions, thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"
#include "tensor/view.h"

namespace fathom {

/// Converts `count` elements (a multiple of the block size) starting at data. REQUIRES: dtype is a float or block
/// type (not an integer type); blocks are 2-byte aligned. kF8_E4M3 gives the unscaled value.
void DequantizeRow(DType dtype, const std::byte* data, int64_t count, float* out);

/// Row r of a weight, scale_inv applied. out has w.cols floats.
void DequantizeWeightRow(const WeightView& w, int64_t r, float* out);

}  // namespace fathom
