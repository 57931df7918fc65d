// The per-format halves of QuantizeRow, and what they share. Private to the kernels room. Pure functions.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "tensor/blocks.h"
#include "tensor/float16.h"

namespace fathom::quantize {

// Blocks of 32 (quantize_simple.cc).
void RowQ4_0(const float* in, int64_t count, std::byte* out);
void RowQ4_1(const float* in, int64_t count, std::byte* out);
void RowQ5_0(const float* in, int64_t count, std::byte* out);
void RowQ5_1(const float* in, int64_t count, std::byte* out);
void RowQ8_0(const float* in, int64_t count, std::byte* out);
void RowIQ4_NL(const float* in, int64_t count, std::byte* out);
void RowMXFP4(const float* in, int64_t count, std::byte* out);

// Super-blocks of 256 (quantize_k.cc).
void RowQ2_K(const float* in, int64_t count, std::byte* out);
void RowQ3_K(const float* in, int64_t count, std::byte* out);
void RowQ4_K(const float* in, int64_t count, std::byte* out);
void RowQ5_K(const float* in, int64_t count, std::byte* out);
void RowQ6_K(const float* in, int64_t count, std::byte* out);
void RowIQ4_XS(const float* in, int64_t count, std::byte* out);

inline constexpr float kF16Max = 65504.0f;

/// The f16 bits of a scale, saturated instead of infinite.
inline uint16_t ScaleToF16(float d) { return FloatToF16(std::clamp(d, -kF16Max, kF16Max)); }

/// The element of largest magnitude, with its sign; the first of equals.
inline float SignedMax(const float* x, int n) {
  float max = 0.0f;
  for (int i = 0; i < n; ++i)
    if (std::fabs(x[i]) > std::fabs(max)) max = x[i];
  return max;
}

/// Index of the entry of kIq4NlValues nearest to x.
inline int NearestIq4Nl(float x) {
  int index = 0;
  for (int i = 0; i < 15; ++i) index += x > 0.5f * static_cast<float>(kIq4NlValues[i] + kIq4NlValues[i + 1]);
  return index;
}

/// The entry of kIq4NlValues nearest to x.
inline float Iq4NlLevel(float x) { return static_cast<float>(kIq4NlValues[NearestIq4Nl(x)]); }

/// The scale s that makes s * level(x / s) closest to x in the squared sense, by a search around the one that puts the
/// largest element on `first_level` (of largest magnitude, e.g. -8). `level` maps a float to the nearest level, as a
/// float. 0 for a block that is (next to) zero.
template <int n, typename Level>
float FitScale(const float* x, float first_level, float step, Level&& level) {
  const float max = SignedMax(x, n);
  if (std::fabs(max) < 1e-30f) return 0.0f;
  float unit[n];  // x / |max|, so that sums neither overflow nor vanish
  for (int i = 0; i < n; ++i) unit[i] = x[i] / max;
  float best_gain = 0.0f, best_scale = 1.0f / first_level;
  for (int trial = -8; trial <= 8; ++trial) {
    const float inverse = first_level + step * static_cast<float>(trial);
    float xq = 0.0f, qq = 0.0f;
    for (int i = 0; i < n; ++i) {
      const float q = level(unit[i] * inverse);
      xq += unit[i] * q;
      qq += q * q;
    }
    // For fixed levels the best scale is xq / qq and the squared error sum(x^2) - xq^2 / qq.
    if (qq > 0.0f && xq * xq > best_gain * qq) {
      best_gain = xq * xq / qq;
      best_scale = xq / qq;
    }
  }
  return std::clamp(static_cast<double>(best_scale) * max, -1e38, 1e38);
}

}  // namespace fathom::quantize
