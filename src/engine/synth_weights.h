// Random weights as stored blocks, made directly: random levels under scales chosen so that the values have mean 0 and
// a given standard deviation. No float row is ever quantised, so this is as fast as memory.
//
// The bytes depend on the key, the row and the column only, never on threads or order. A SynthFiller is immutable and
// thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tensor/dtype.h"

namespace fathom {

/// Key of a tensor's random stream: changes with the seed and the name.
uint64_t SynthTensorKey(uint64_t seed, std::string_view tensor_name);

class SynthFiller {
 public:
  /// dtype: F32, F16, BF16 or a GGUF block type. Values are `mean` + noise of standard deviation `std`; only the plain
  /// types can have a mean. REQUIRES: std >= 0, representable in the type (1e-4 … 10 always is).
  SynthFiller(DType dtype, float mean, float std, uint64_t tensor_key);

  /// Writes row `row` of `cols` elements (a multiple of the block size) to out, RowBytes() bytes.
  void FillRow(int64_t row, int64_t cols, std::byte* out) const;

 private:
  static constexpr int kScales = 64;

  DType dtype_;
  float mean_, std_;
  uint64_t key_;
  // Block scales to draw from, as f16 bits: within a quarter of their mean, as in real files; and what belongs to each
  // (the minimum that centres the block).
  std::array<uint16_t, kScales> scale_{}, min_{};
  uint8_t exponent_ = 0;            // MXFP4: the lower of two neighbouring exponents
  uint8_t exponent_threshold_ = 0;  // random bytes below it take the upper one
};

}  // namespace fathom
