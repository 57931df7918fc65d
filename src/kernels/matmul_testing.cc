#include "kernels/matmul_testing.h"

#include <cmath>
#include <cstring>

#include "tensor/blocks.h"
#include "tensor/float16.h"

namespace fathom {
namespace {

struct Rng {
  std::mt19937 engine;
  float Uniform(float low, float high) { return std::uniform_real_distribution<float>(low, high)(engine); }
  uint16_t Half(float low, float high) { return FloatToF16(Uniform(low, high)); }
};

// Block types: all bytes random, then scales that make values of order one.
template <class Block>
void Scale(std::byte* bytes, Rng& rng, float size) {
  Block block;
  std::memcpy(&block, bytes, sizeof(block));
  const bool negative = rng.engine() % 2 == 0;
  block.d = rng.Half(0.5f * size, size);
  if (negative) block.d |= 0x8000;
  if constexpr (requires { block.m; }) block.m = rng.Half(-8 * size, 8 * size);
  if constexpr (requires { block.dmin; }) block.dmin = rng.Half(-size, size);
  std::memcpy(bytes, &block, sizeof(block));
}

void MakeSane(DType dtype, std::byte* block, Rng& rng) {
  switch (dtype) {
    case DType::kF32: {
      const float v = rng.Uniform(-1, 1);
      std::memcpy(block, &v, 4);
      break;
    }
    case DType::kF16: {
      const uint16_t v = rng.Half(-1, 1);
      std::memcpy(block, &v, 2);
      break;
    }
    case DType::kBF16: {
      const uint16_t v = FloatToBF16(rng.Uniform(-1, 1));
      std::memcpy(block, &v, 2);
      break;
    }
    case DType::kF8_E4M3:
      if ((*block & std::byte{0x7f}) == std::byte{0x7f}) *block = std::byte{0x38};  // no NaN
      break;
    case DType::kQ4_0: Scale<BlockQ4_0>(block, rng, 0.1f); break;
    case DType::kQ4_1: Scale<BlockQ4_1>(block, rng, 0.1f); break;
    case DType::kQ5_0: Scale<BlockQ5_0>(block, rng, 0.05f); break;
    case DType::kQ5_1: Scale<BlockQ5_1>(block, rng, 0.05f); break;
    case DType::kQ8_0: Scale<BlockQ8_0>(block, rng, 0.01f); break;
    case DType::kQ2_K: Scale<BlockQ2_K>(block, rng, 0.03f); break;
    case DType::kQ3_K: Scale<BlockQ3_K>(block, rng, 0.01f); break;
    case DType::kQ4_K: Scale<BlockQ4_K>(block, rng, 0.002f); break;
    case DType::kQ5_K: Scale<BlockQ5_K>(block, rng, 0.001f); break;
    case DType::kQ6_K: Scale<BlockQ6_K>(block, rng, 0.0005f); break;
    case DType::kIQ4_NL: Scale<BlockIQ4_NL>(block, rng, 0.01f); break;
    case DType::kIQ4_XS: Scale<BlockIQ4_XS>(block, rng, 0.0005f); break;
    case DType::kMXFP4: block[0] = static_cast<std::byte>(120 + rng.engine() % 8); break;
    default: break;
  }
}

}  // namespace

RandomWeight::RandomWeight(DType dtype, int64_t rows, int64_t cols, uint32_t seed) {
  Rng rng{std::mt19937(seed)};
  const DTypeTraits& traits = TraitsOf(dtype);
  view = {.dtype = dtype, .rows = rows, .cols = cols, .row_bytes = *RowBytes(dtype, cols)};
  bytes.resize(view.bytes());
  for (std::byte& b : bytes) b = static_cast<std::byte>(rng.engine());
  for (int64_t at = 0; at < view.bytes(); at += traits.block_bytes) MakeSane(dtype, bytes.data() + at, rng);
  view.data = bytes.data();
  if (dtype == DType::kF8_E4M3) {
    view.scale_cols = (cols + 127) / 128;
    scale_inv.resize((rows + 127) / 128 * view.scale_cols);
    for (float& s : scale_inv) s = rng.Uniform(0.001f, 0.01f);
    view.scale_inv = scale_inv.data();
  }
}

std::vector<float> RandomFloats(int64_t count, uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(count);
  for (float& v : out) v = normal(engine);
  return out;
}

}  // namespace fathom
