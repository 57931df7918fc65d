// Formats of 32 elements a block. Except IQ4_NL, the arithmetic is that of the gguf package's quantize_blocks, step
// for step in f32; only scales outside f16's useful range are treated better than there.
#include <cstring>

#include "kernels/quantize_blocks.h"

namespace fathom::quantize {
namespace {

constexpr float kSmallScale = 0x1p-18f;  // f16 holds scales below it to worse than 1 %

// A block's scale as stored, and the reciprocal to quantise with. In the useful range of f16 that is 1 / d before
// rounding (as gguf does it); elsewhere the stored value decides, so that saturated and vanishing scales still give the
// nearest levels.
struct Scale {
  uint16_t bits;
  float inverse;

  explicit Scale(float d) : bits(ScaleToF16(d)) {
    const float magnitude = std::fabs(d);
    const float effective = magnitude >= kSmallScale && magnitude <= kF16Max ? d : F16ToFloat(bits);
    inverse = effective == 0.0f ? 0.0f : 1.0f / effective;
  }
};

// Truncation of x to an integer in [0, max]. Clamped before the conversion: x may be far out when scales saturate.
inline uint8_t ToLevel(float x, int max) {
  return static_cast<uint8_t>(std::clamp(x, 0.0f, static_cast<float>(max)));
}

// q[i] of element i in the low nibble, of i + 16 in the high one; fifth bits to qh when there are any.
inline void PackNibbles(const uint8_t q[32], uint8_t qs[16], uint8_t* qh = nullptr) {
  uint32_t high = 0;
  for (int j = 0; j < 16; ++j) qs[j] = static_cast<uint8_t>((q[j] & 15) | (q[j + 16] & 15) << 4);
  if (qh == nullptr) return;
  for (int j = 0; j < 32; ++j) high |= static_cast<uint32_t>(q[j] >> 4) << j;
  std::memcpy(qh, &high, 4);
}

// The symmetric formats: the element of largest magnitude becomes -half.
uint16_t Symmetric(const float* x, int half, uint8_t q[32]) {
  const Scale scale(SignedMax(x, kBlock) / static_cast<float>(-half));
  for (int j = 0; j < kBlock; ++j)
    q[j] = ToLevel(x[j] * scale.inverse + (static_cast<float>(half) + 0.5f), 2 * half - 1);
  return scale.bits;
}

// The formats with a minimum: it becomes 0 and the maximum becomes levels.
void WithMinimum(const float* x, int levels, uint8_t q[32], uint16_t& d, uint16_t& m) {
  float min = x[0], max = x[0];
  for (int j = 1; j < kBlock; ++j) {
    min = std::min(min, x[j]);
    max = std::max(max, x[j]);
  }
  min = std::clamp(min, -kF16Max, kF16Max);
  const float range = std::min(max, 2.0e38f) - min;
  const Scale scale(range / static_cast<float>(levels));
  for (int j = 0; j < kBlock; ++j) q[j] = ToLevel((x[j] - min) * scale.inverse + 0.5f, levels);
  d = scale.bits;
  m = FloatToF16(min);
}

template <typename Block, typename Fn>
void EachBlock(const float* in, int64_t count, std::byte* out, Fn&& fn) {
  auto* blocks = reinterpret_cast<Block*>(out);
  for (int64_t b = 0; b < count / kBlock; ++b) fn(in + b * kBlock, blocks[b]);
}

}  // namespace

void RowQ4_0(const float* in, int64_t count, std::byte* out) {
  EachBlock<BlockQ4_0>(in, count, out, [](const float* x, BlockQ4_0& block) {
    uint8_t q[32];
    block.d = Symmetric(x, 8, q);
    PackNibbles(q, block.qs);
  });
}

void RowQ4_1(const float* in, int64_t count, std::byte* out) {
  EachBlock<BlockQ4_1>(in, count, out, [](const float* x, BlockQ4_1& block) {
    uint8_t q[32];
    WithMinimum(x, 15, q, block.d, block.m);
    PackNibbles(q, block.qs);
  });
}

void RowQ5_0(const float* in, int64_t count, std::byte* out) {
  EachBlock<BlockQ5_0>(in, count, out, [](const float* x, BlockQ5_0& block) {
    uint8_t q[32];
    block.d = Symmetric(x, 16, q);
    PackNibbles(q, block.qs, block.qh);
  });
}

void RowQ5_1(const float* in, int64_t count, std::byte* out) {
  EachBlock<BlockQ5_1>(in, count, out, [](const float* x, BlockQ5_1& block) {
    uint8_t q[32];
    WithMinimum(x, 31, q, block.d, block.m);
    PackNibbles(q, block.qs, block.qh);
  });
}

void RowQ8_0(const float* in, int64_t count, std::byte* out) {
  EachBlock<BlockQ8_0>(in, count, out, [](const float* x, BlockQ8_0& block) {
    const Scale scale(std::fabs(SignedMax(x, kBlock)) / 127.0f);
    block.d = scale.bits;
    for (int j = 0; j < kBlock; ++j) {
      // Halves go away from zero.
      const float q = std::clamp(x[j] * scale.inverse, -127.0f, 127.0f);
      const float magnitude = std::fabs(q), whole = std::floor(magnitude);
      const float rounded = whole + std::floor(2.0f * (magnitude - whole));
      block.qs[j] = static_cast<int8_t>(q < 0.0f ? -rounded : rounded);
    }
  });
}

void RowIQ4_NL(const float* in, int64_t count, std::byte* out) {
  EachBlock<BlockIQ4_NL>(in, count, out, [](const float* x, BlockIQ4_NL& block) {
    block.d = ScaleToF16(FitScale<kBlock>(x, kIq4NlValues[0], 5.0f, Iq4NlLevel));
    const float d = F16ToFloat(block.d), inverse = d == 0.0f ? 0.0f : 1.0f / d;
    uint8_t q[32];
    for (int j = 0; j < kBlock; ++j) q[j] = static_cast<uint8_t>(NearestIq4Nl(x[j] * inverse));
    PackNibbles(q, block.qs);
  });
}

void RowMXFP4(const float* in, int64_t count, std::byte* out) {
  EachBlock<BlockMXFP4>(in, count, out, [](const float* x, BlockMXFP4& block) {
    const float max = std::fabs(SignedMax(x, kBlock));
    // OCP MX 1.0 §6.3: the shared exponent puts the largest element into fp4's top binade [4, 8), where 6 is the end.
    block.e = max > 0.0f ? static_cast<uint8_t>(std::clamp(std::ilogb(max) - 2 + 127, 0, 254)) : 0;
    const float d = E8M0HalfToFloat(block.e);
    uint8_t q[32];
    for (int j = 0; j < kBlock; ++j) {
      int best = 0;
      for (int i = 1; i < 16; ++i) {
        const auto error = [&](int level) { return std::fabs(d * static_cast<float>(kMxfp4Values[level]) - x[j]); };
        if (error(i) < error(best)) best = i;
      }
      q[j] = static_cast<uint8_t>(best);
    }
    PackNibbles(q, block.qs);
  });
}

}  // namespace fathom::quantize
