#include "engine/synth_weights.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>

#include "kernels/kquant_scales.h"
#include "tensor/blocks.h"
#include "tensor/float16.h"

namespace fathom {
namespace {

constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;

// The output function of SplitMix64 (Steele, Lea, Flood 2014): a bijection that makes counters look random.
inline uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

inline uint64_t Word(uint64_t key, uint64_t index) { return Mix(key + (index + 1) * kGolden); }

void FillRandom(uint64_t key, std::byte* out, int64_t bytes) {
  int64_t i = 0;
  for (; i + 8 <= bytes; i += 8) {
    const uint64_t word = Word(key, static_cast<uint64_t>(i / 8));
    std::memcpy(out + i, &word, 8);
  }
  if (i < bytes) {
    const uint64_t word = Word(key, static_cast<uint64_t>(i / 8));
    std::memcpy(out + i, &word, static_cast<size_t>(bytes - i));
  }
}

// A bell-shaped number of variance 1: the sum of four uniform ones.
inline float Bell(uint64_t word) {
  const int64_t sum = static_cast<int64_t>(word & 0xffff) + static_cast<int64_t>((word >> 16) & 0xffff) +
                      static_cast<int64_t>((word >> 32) & 0xffff) + static_cast<int64_t>(word >> 48);
  return static_cast<float>(sum - 131070) * (1.0f / 37837.2f);
}

// Mean of the squares of the integers from first to last.
double MeanSquare(int first, int last) {
  double sum = 0;
  for (int i = first; i <= last; ++i) sum += static_cast<double>(i) * i;
  return sum / (last - first + 1);
}

double MeanSquare(const int8_t (&values)[16]) {
  double sum = 0;
  for (const int8_t v : values) sum += static_cast<double>(v) * v;
  return sum / 16;
}

// What a block's scale d multiplies, its mean square; and the ratio of the stored minimum to d.
struct Levels {
  double mean_square = 1;
  double min_per_scale = 0;
};

Levels LevelsOf(DType dtype) {
  // Uniform levels q in [0, n): (q - (n - 1) / 2)^2 is (n^2 - 1) / 12 on average. Formats without a minimum lie half a
  // level off centre; a random sign of the scale takes the mean away.
  const auto centred = [](double n) { return (n * n - 1) / 12; };
  switch (dtype) {
    case DType::kQ4_0: return {MeanSquare(-8, 7)};
    case DType::kQ5_0: return {MeanSquare(-16, 15)};
    case DType::kQ8_0: return {MeanSquare(-127, 127)};
    case DType::kQ4_1: return {centred(16), -7.5};
    case DType::kQ5_1: return {centred(32), -15.5};
    case DType::kQ2_K: return {MeanSquare(8, 15) * centred(4), 1.5};
    case DType::kQ3_K: return {MeanSquare(16, 31) * MeanSquare(-4, 3)};
    case DType::kQ4_K: return {MeanSquare(32, 63) * centred(16), 7.5};
    case DType::kQ5_K: return {MeanSquare(32, 63) * centred(32), 15.5};
    case DType::kQ6_K: return {MeanSquare(64, 127) * MeanSquare(-32, 31)};
    case DType::kIQ4_NL: return {MeanSquare(kIq4NlValues)};
    case DType::kIQ4_XS: return {MeanSquare(16, 31) * MeanSquare(kIq4NlValues)};
    default: return {};
  }
}

template <typename Block, typename Fn>
void EachBlock(std::byte* row, int64_t bytes, Fn&& fn) {
  auto* blocks = reinterpret_cast<Block*>(row);
  for (int64_t b = 0; b < bytes / static_cast<int64_t>(sizeof(Block)); ++b) fn(blocks[b]);
}

// A 6-bit scale in ±[16, 31] from random bits.
inline int8_t SignedScale(uint8_t random) {
  const int magnitude = 16 + (random & 15);
  return static_cast<int8_t>(random & 16 ? -magnitude : magnitude);
}

}  // namespace

uint64_t SynthTensorKey(uint64_t seed, std::string_view tensor_name) {
  uint64_t hash = Mix(seed + kGolden);
  for (const char c : tensor_name) hash = Mix((hash ^ static_cast<uint8_t>(c)) + kGolden);
  return hash;
}

SynthFiller::SynthFiller(DType dtype, float mean, float std, uint64_t tensor_key)
    : dtype_(dtype), mean_(mean), std_(std), key_(tensor_key) {
  const Levels levels = LevelsOf(dtype);
  // Scales are spread evenly over [0.75, 1.25] of their middle, whose mean square is 1 + 1/48.
  const double middle = std / std::sqrt(levels.mean_square * (1 + 1.0 / 48));
  for (int i = 0; i < kScales; ++i) {
    const double d = middle * (0.75 + 0.5 * (i + 0.5) / kScales);
    scale_[i] = FloatToF16(static_cast<float>(d));
    min_[i] = FloatToF16(static_cast<float>(F16ToFloat(scale_[i]) * levels.min_per_scale));
  }
  if (dtype == DType::kMXFP4 && std > 0) {
    // With p of the blocks one exponent higher, the mean square is 1 + 3p times that of the lower exponent.
    const double unit = std / std::sqrt(MeanSquare(kMxfp4Values));
    const int exponent = static_cast<int>(std::floor(std::log2(unit))) + 128;
    exponent_ = static_cast<uint8_t>(std::clamp(exponent, 1, 253));
    const double ratio = unit / std::exp2(exponent_ - 128);
    exponent_threshold_ = static_cast<uint8_t>(std::clamp((ratio * ratio - 1) / 3 * 256, 0.0, 255.0));
  }
}

void SynthFiller::FillRow(int64_t row, int64_t cols, std::byte* out) const {
  const uint64_t key = Word(key_, static_cast<uint64_t>(row));
  const int64_t bytes = RowBytes(dtype_, cols).value();
  switch (dtype_) {
    case DType::kF32:
      for (int64_t i = 0; i < cols; ++i) {
        const float value = mean_ + std_ * Bell(Word(key, static_cast<uint64_t>(i)));
        std::memcpy(out + 4 * i, &value, 4);
      }
      return;
    case DType::kF16:
    case DType::kBF16:
      for (int64_t i = 0; i < cols; ++i) {
        const float value = mean_ + std_ * Bell(Word(key, static_cast<uint64_t>(i)));
        const uint16_t half = dtype_ == DType::kF16 ? FloatToF16(value) : FloatToBF16(value);
        std::memcpy(out + 2 * i, &half, 2);
      }
      return;
    default: break;
  }

  // Levels first: random bytes everywhere. Then each block's random scale field chooses from the table.
  FillRandom(key, out, bytes);
  const auto scale = [&](uint16_t random) { return scale_[random % kScales]; };
  const auto min = [&](uint16_t random) { return min_[random % kScales]; };
  const auto signed_scale = [&](uint16_t random) {
    return static_cast<uint16_t>(scale_[random % kScales] | (random & 0x8000));
  };
  switch (dtype_) {
    case DType::kQ4_0: return EachBlock<BlockQ4_0>(out, bytes, [&](BlockQ4_0& b) { b.d = signed_scale(b.d); });
    case DType::kQ5_0: return EachBlock<BlockQ5_0>(out, bytes, [&](BlockQ5_0& b) { b.d = signed_scale(b.d); });
    case DType::kIQ4_NL: return EachBlock<BlockIQ4_NL>(out, bytes, [&](BlockIQ4_NL& b) { b.d = signed_scale(b.d); });
    case DType::kQ4_1:
      return EachBlock<BlockQ4_1>(out, bytes, [&](BlockQ4_1& b) { b.m = min(b.d), b.d = scale(b.d); });
    case DType::kQ5_1:
      return EachBlock<BlockQ5_1>(out, bytes, [&](BlockQ5_1& b) { b.m = min(b.d), b.d = scale(b.d); });
    case DType::kQ8_0:
      return EachBlock<BlockQ8_0>(out, bytes, [&](BlockQ8_0& b) {
        b.d = scale(b.d);
        // No quantiser makes -128, and some kernels rely on that.
        for (int8_t& q : b.qs) q = q == -128 ? 0 : q;
      });
    case DType::kQ2_K:
      return EachBlock<BlockQ2_K>(out, bytes, [&](BlockQ2_K& b) {
        b.dmin = min(b.d), b.d = scale(b.d);
        for (uint8_t& s : b.scales) s = static_cast<uint8_t>(((s & 7) | 8) * 17);  // scale and minimum alike
      });
    case DType::kQ3_K:
      return EachBlock<BlockQ3_K>(out, bytes, [&](BlockQ3_K& b) {
        b.d = scale(b.d);
        int8_t s[16];
        UnpackScalesQ3K(b.scales, s);
        for (int8_t& v : s) v = SignedScale(static_cast<uint8_t>(v));
        PackScalesQ3K(s, b.scales);
      });
    case DType::kQ4_K:
    case DType::kQ5_K: {
      const auto fix = [&](auto& b) {
        b.dmin = min(b.d), b.d = scale(b.d);
        uint8_t s[8], m[8];
        UnpackScalesQ4K(b.scales, s, m);
        for (int i = 0; i < 8; ++i) m[i] = s[i] |= 32;
        PackScalesQ4K(s, m, b.scales);
      };
      if (dtype_ == DType::kQ4_K) return EachBlock<BlockQ4_K>(out, bytes, fix);
      return EachBlock<BlockQ5_K>(out, bytes, fix);
    }
    case DType::kQ6_K:
      return EachBlock<BlockQ6_K>(out, bytes, [&](BlockQ6_K& b) {
        b.d = scale(b.d);
        for (int8_t& s : b.scales) {
          const int magnitude = 64 + (s & 63);
          s = static_cast<int8_t>(s < 0 ? -magnitude : magnitude);
        }
      });
    case DType::kIQ4_XS:
      return EachBlock<BlockIQ4_XS>(out, bytes, [&](BlockIQ4_XS& b) {
        b.d = scale(b.d);
        int8_t s[8];
        UnpackScalesIQ4XS(b, s);
        for (int8_t& v : s) v = SignedScale(static_cast<uint8_t>(v));
        PackScalesIQ4XS(s, b);
      });
    case DType::kMXFP4:
      return EachBlock<BlockMXFP4>(out, bytes, [&](BlockMXFP4& b) {
        b.e = static_cast<uint8_t>(exponent_ + (b.e < exponent_threshold_ ? 1 : 0));
      });
    default: assert(false && "SynthFiller: not a type that synth writes");
  }
}

}  // namespace fathom
