// How one token's keys and values of one layer lie in memory, in 32, 16 or 8 bits a value.
//
// In 8 bits (kF8_E4M3, kI8) a row is: one code for each of the first `values - tail` values; from the next multiple of
// four on, one f32 scale for each `group` of them (the last group may be shorter); then the `tail` values in bf16. For
// MLA in fp8 (512 latent values in groups of 128, a rope key of 64) those are the 656 bytes of FlashMLA's FP8 cache
// (https://github.com/deepseek-ai/FlashMLA, DeepSeek-V3.2). A value is its code times its group's scale; the scale
// brings the group's largest magnitude onto the largest code, so with that magnitude A
//
//   int8 (codes -127 … 127):  |error| <= A / 254
//   fp8 (e4m3, to ±448):      |error| <= max(|value| / 16, A / 458752)      (half a step; below 2^-6 steps are 2^-9)
//
// A group with a value that is not finite reads back as NaNs; one that is smaller than 1e-30 as zeros. kernels/kv_rows.h
// writes and reads rows. Plain values, thread-safe.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace fathom {

struct KvRowFormat {
  DType dtype = DType::kBF16;  // kF32, kF16, kBF16, kF8_E4M3, kI8
  int64_t values = 0;          // of a row
  int64_t tail = 0;            // in 8 bits: so many at the end stay bf16 (MLA's rope key)
  int64_t group = 0;           // in 8 bits: values that share a scale

  static constexpr bool IsPacked(DType dtype) { return dtype == DType::kF8_E4M3 || dtype == DType::kI8; }
  bool packed() const { return IsPacked(dtype); }
  int64_t codes() const { return values - tail; }
  int64_t groups() const { return (codes() + group - 1) / group; }
  int64_t scales_at() const { return (codes() + 3) / 4 * 4; }        // bytes from the row's start
  int64_t tail_at() const { return scales_at() + 4 * groups(); }
  /// Without the padding that a cache adds.
  int64_t bytes() const { return packed() ? tail_at() + 2 * tail : values * (dtype == DType::kF32 ? 4 : 2); }
  bool operator==(const KvRowFormat&) const = default;
};

}  // namespace fathom
