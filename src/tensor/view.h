// Non-owning views of weights and activations. The memory behind a view outlives it (a mapped file, a buffer).
//
// Matrices are row-major: a weight of shape [rows, cols] is what computes y[rows] = W x[cols], as both safetensors
// ([out, in]) and GGUF (ne = {in, out}) store it. Plain data, thread-safe for reading.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace fathom {

struct WeightView {
  DType dtype = DType::kF32;
  const std::byte* data = nullptr;
  int64_t rows = 0;       // output features; 1 for a vector
  int64_t cols = 0;       // input features; a multiple of the dtype's block size
  int64_t row_bytes = 0;  // distance between rows in bytes; rows are stored without gaps inside
  // kF8_E4M3 only: weight_scale_inv, row-major [ceil(rows/128), scale_cols], multiplied into the 128x128 block.
  const float* scale_inv = nullptr;
  int64_t scale_cols = 0;

  bool empty() const { return data == nullptr; }
  const std::byte* row(int64_t r) const { return data + r * row_bytes; }
  int64_t bytes() const { return rows * row_bytes; }
  /// Rows [begin, begin + count). REQUIRES: for kF8_E4M3, begin is a multiple of 128.
  WeightView Rows(int64_t begin, int64_t count) const {
    WeightView view = *this;
    view.data = data + begin * row_bytes;
    view.rows = count;
    if (scale_inv != nullptr) view.scale_inv = scale_inv + begin / 128 * scale_cols;
    return view;
  }
};

/// A row-major f32 matrix, rows `stride` floats apart.
template <typename T>
struct MatrixView {
  T* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;

  T* row(int64_t r) const { return data + r * stride; }
};

}  // namespace fathom
