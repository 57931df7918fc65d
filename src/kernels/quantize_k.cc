// Formats of 256 elements a super-block: fit each sub-block's scale (and minimum) alone, quantise those to the
// super-block's integers, then choose the elements' levels for the scales that were really stored.
#include <cstring>

#include "kernels/kquant_scales.h"
#include "kernels/quantize_blocks.h"

namespace fathom::quantize {
namespace {

struct Affine {  // y = scale q - min, both >= 0
  float scale = 0.0f, min = 0.0f;
};

// Alternates between nearest levels and the least-squares line through them, from the block's own extremes; keeps the
// best. Levels are 0 … levels.
template <int n>
Affine FitAffine(const float* x, int levels) {
  float low = 0.0f, high = 0.0f;  // min >= 0 in the format, so 0 is always inside the range
  for (int i = 0; i < n; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
  }
  const float size = std::max(high, -low);
  if (size < 1e-30f) return {};
  float unit[n];
  for (int i = 0; i < n; ++i) unit[i] = x[i] / size;
  Affine fit{(high / size - low / size) / static_cast<float>(levels), -low / size};
  Affine best = fit;
  float best_error = 1e30f;
  for (int pass = 0; pass < 6; ++pass) {
    float q_sum = 0, qq = 0, x_sum = 0, xq = 0, error = 0;
    const float inverse = 1.0f / fit.scale;
    for (int i = 0; i < n; ++i) {
      const float level = std::clamp(std::floor((unit[i] + fit.min) * inverse + 0.5f), 0.0f, static_cast<float>(levels));
      const float difference = fit.scale * level - fit.min - unit[i];
      error += difference * difference;
      q_sum += level;
      qq += level * level;
      x_sum += unit[i];
      xq += unit[i] * level;
    }
    if (error >= best_error) break;
    best_error = error;
    best = fit;
    const float determinant = static_cast<float>(n) * qq - q_sum * q_sum;
    if (determinant <= 0.0f) break;
    fit.scale = (static_cast<float>(n) * xq - q_sum * x_sum) / determinant;
    fit.min = -(qq * x_sum - q_sum * xq) / determinant;
    if (fit.min < 0.0f) {
      fit.min = 0.0f;
      fit.scale = xq / qq;
    }
    if (!(fit.scale > 1e-6f)) break;
  }
  const auto restore = [&](float v) { return static_cast<float>(std::min(static_cast<double>(v) * size, 1e38)); };
  return {restore(best.scale), restore(best.min)};
}

// Integers in [0, max] for non-negative values under one f16 scale.
template <int n>
uint16_t QuantizeNonNegative(const float (&values)[n], int max, uint8_t (&q)[n]) {
  const uint16_t bits = ScaleToF16(*std::max_element(values, values + n) / static_cast<float>(max));
  const float d = F16ToFloat(bits), inverse = d == 0.0f ? 0.0f : 1.0f / d;
  for (int i = 0; i < n; ++i)
    q[i] = static_cast<uint8_t>(std::clamp(values[i] * inverse + 0.5f, 0.0f, static_cast<float>(max)));
  return bits;
}

// Integers in [-half, half - 1] for signed values under one f16 scale; the largest becomes -half.
template <int n>
uint16_t QuantizeSigned(const float (&values)[n], int half, int8_t (&q)[n]) {
  const uint16_t bits = ScaleToF16(SignedMax(values, n) / static_cast<float>(-half));
  const float d = F16ToFloat(bits), inverse = d == 0.0f ? 0.0f : 1.0f / d;
  for (int i = 0; i < n; ++i) {
    const float level = std::floor(values[i] * inverse + 0.5f);
    q[i] = static_cast<int8_t>(std::clamp(level, static_cast<float>(-half), static_cast<float>(half - 1)));
  }
  return bits;
}

// Levels in [0, levels] for the stored dl and ml.
template <int n>
void AffineLevels(const float* x, float dl, float ml, int levels, uint8_t* q) {
  const float inverse = dl == 0.0f ? 0.0f : 1.0f / dl;
  for (int i = 0; i < n; ++i)
    q[i] = static_cast<uint8_t>(std::clamp((x[i] + ml) * inverse + 0.5f, 0.0f, static_cast<float>(levels)));
}

// Levels in [0, 2 half), stored plus half, for the stored dl.
template <int n>
void SymmetricLevels(const float* x, float dl, int half, uint8_t* q) {
  const float inverse = dl == 0.0f ? 0.0f : 1.0f / dl;
  for (int i = 0; i < n; ++i) {
    const float level = std::floor(x[i] * inverse + 0.5f);
    q[i] = static_cast<uint8_t>(std::clamp(level, static_cast<float>(-half), static_cast<float>(half - 1)) +
                                static_cast<float>(half));
  }
}

float FitSymmetric16(const float* x, int half) {
  const float low = static_cast<float>(-half), high = static_cast<float>(half - 1);
  return FitScale<16>(x, low, 0.1f, [=](float v) { return std::clamp(std::floor(v + 0.5f), low, high); });
}

template <typename Block, typename Fn>
void EachBlock(const float* in, int64_t count, std::byte* out, Fn&& fn) {
  auto* blocks = reinterpret_cast<Block*>(out);
  for (int64_t b = 0; b < count / kSuperBlock; ++b) {
    Block block{};
    fn(in + b * kSuperBlock, block);
    std::memcpy(static_cast<void*>(&blocks[b]), &block, sizeof(Block));
  }
}

// Q4_K and Q5_K differ in the number of levels only.
template <typename Block>
void Affine8(const float* x, int levels, Block& block, uint8_t q[256]) {
  float scales[8], mins[8];
  for (int s = 0; s < 8; ++s) {
    const Affine fit = FitAffine<32>(x + 32 * s, levels);
    scales[s] = fit.scale;
    mins[s] = fit.min;
  }
  uint8_t scale_q[8], min_q[8];
  block.d = QuantizeNonNegative(scales, 63, scale_q);
  block.dmin = QuantizeNonNegative(mins, 63, min_q);
  PackScalesQ4K(scale_q, min_q, block.scales);
  const float d = F16ToFloat(block.d), dmin = F16ToFloat(block.dmin);
  for (int s = 0; s < 8; ++s)
    AffineLevels<32>(x + 32 * s, d * static_cast<float>(scale_q[s]), dmin * static_cast<float>(min_q[s]), levels,
                     q + 32 * s);
}

}  // namespace

void RowQ2_K(const float* in, int64_t count, std::byte* out) {
  EachBlock<BlockQ2_K>(in, count, out, [](const float* x, BlockQ2_K& block) {
    float scales[16], mins[16];
    for (int s = 0; s < 16; ++s) {
      const Affine fit = FitAffine<16>(x + 16 * s, 3);
      scales[s] = fit.scale;
      mins[s] = fit.min;
    }
    uint8_t scale_q[16], min_q[16], q[256];
    block.d = QuantizeNonNegative(scales, 15, scale_q);
    block.dmin = QuantizeNonNegative(mins, 15, min_q);
    const float d = F16ToFloat(block.d), dmin = F16ToFloat(block.dmin);
    for (int s = 0; s < 16; ++s) {
      block.scales[s] = static_cast<uint8_t>(scale_q[s] | min_q[s] << 4);
      AffineLevels<16>(x + 16 * s, d * static_cast<float>(scale_q[s]), dmin * static_cast<float>(min_q[s]), 3,
                       q + 16 * s);
    }
    for (int i = 0; i < 256; ++i)
      block.qs[i / 128 * 32 + i % 32] |= static_cast<uint8_t>(q[i] << (i % 128 / 32 * 2));
  });
}

void RowQ3_K(const float* in, int64_t count, std::byte* out) {
  EachBlock<BlockQ3_K>(in, count, out, [](const float* x, BlockQ3_K& block) {
    float scales[16];
    for (int s = 0; s < 16; ++s) scales[s] = FitSymmetric16(x + 16 * s, 4);
    int8_t scale_q[16];
    uint8_t q[256];
    block.d = QuantizeSigned(scales, 32, scale_q);
    PackScalesQ3K(scale_q, block.scales);
    const float d = F16ToFloat(block.d);
    for (int s = 0; s < 16; ++s) SymmetricLevels<16>(x + 16 * s, d * static_cast<float>(scale_q[s]), 4, q + 16 * s);
    for (int i = 0; i < 256; ++i) {
      block.qs[i / 128 * 32 + i % 32] |= static_cast<uint8_t>((q[i] & 3) << (i % 128 / 32 * 2));
      block.hmask[i % 32] |= static_cast<uint8_t>((q[i] >> 2) << (i / 32));
    }
  });
}

void RowQ4_K(const float* in, int64_t count, std::byte* out) {
  EachBlock<BlockQ4_K>(in, count, out, [](const float* x, BlockQ4_K& block) {
    uint8_t q[256];
    Affine8(x, 15, block, q);
    for (int i = 0; i < 128; ++i) {
      const uint8_t* pair = q + i / 32 * 64 + i % 32;
      block.qs[i] = static_cast<uint8_t>(pair[0] | pair[32] << 4);
    }
  });
}

void RowQ5_K(const float* in, int64_t count, std::byte* out) {
  EachBlock<BlockQ5_K>(in, count, out, [](const float* x, BlockQ5_K& block) {
    uint8_t q[256];
    Affine8(x, 31, block, q);
    for (int i = 0; i < 128; ++i) {
      const uint8_t* pair = q + i / 32 * 64 + i % 32;
      block.qs[i] = static_cast<uint8_t>((pair[0] & 15) | (pair[32] & 15) << 4);
    }
    for (int i = 0; i < 256; ++i) block.qh[i % 32] |= static_cast<uint8_t>((q[i] >> 4) << (i / 32));
  });
}

void RowQ6_K(const float* in, int64_t count, std::byte* out) {
  EachBlock<BlockQ6_K>(in, count, out, [](const float* x, BlockQ6_K& block) {
    float scales[16];
    for (int s = 0; s < 16; ++s) scales[s] = FitSymmetric16(x + 16 * s, 32);
    uint8_t q[256];
    block.d = QuantizeSigned(scales, 128, block.scales);
    const float d = F16ToFloat(block.d);
    for (int s = 0; s < 16; ++s)
      SymmetricLevels<16>(x + 16 * s, d * static_cast<float>(block.scales[s]), 32, q + 16 * s);
    for (int i = 0; i < 256; ++i) {
      const int run = i % 128 / 32;  // see dequant_k.cc
      block.ql[i / 128 * 64 + run % 2 * 32 + i % 32] |= static_cast<uint8_t>((q[i] & 15) << (run / 2 * 4));
      block.qh[i / 128 * 32 + i % 32] |= static_cast<uint8_t>((q[i] >> 4) << (run * 2));
    }
  });
}

void RowIQ4_XS(const float* in, int64_t count, std::byte* out) {
  EachBlock<BlockIQ4_XS>(in, count, out, [](const float* x, BlockIQ4_XS& block) {
    float scales[8];
    for (int s = 0; s < 8; ++s) scales[s] = FitScale<32>(x + 32 * s, kIq4NlValues[0], 5.0f, Iq4NlLevel);
    int8_t scale_q[8];
    block.d = QuantizeSigned(scales, 32, scale_q);
    PackScalesIQ4XS(scale_q, block);
    const float d = F16ToFloat(block.d);
    for (int s = 0; s < 8; ++s) {
      const float dl = d * static_cast<float>(scale_q[s]), inverse = dl == 0.0f ? 0.0f : 1.0f / dl;
      for (int j = 0; j < 16; ++j) {
        const int low = NearestIq4Nl(x[32 * s + j] * inverse), high = NearestIq4Nl(x[32 * s + j + 16] * inverse);
        block.qs[16 * s + j] = static_cast<uint8_t>(low | high << 4);
      }
    }
  });
}

}  // namespace fathom::quantize
