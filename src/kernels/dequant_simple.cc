// Formats of 32 elements a block.
#include <cstring>

#include "kernels/dequant_blocks.h"
#include "tensor/blocks.h"
#include "tensor/float16.h"

namespace fathom::dequant {
namespace {

template <typename Block>
const Block* Blocks(const std::byte* data) {
  return reinterpret_cast<const Block*>(data);
}

// The fifth bits of elements 0-15 and 16-31, as 0 or 16.
struct HighBits {
  uint8_t low[16], high[16];
  explicit HighBits(const uint8_t qh[4]) {
    uint32_t bits;
    std::memcpy(&bits, qh, 4);
    for (int j = 0; j < 16; ++j) {
      low[j] = static_cast<uint8_t>(((bits >> j) & 1) << 4);
      high[j] = static_cast<uint8_t>(((bits >> (j + 16)) & 1) << 4);
    }
  }
};

}  // namespace

void RowQ4_0(const std::byte* data, int64_t count, float* out) {
  const auto* blocks = Blocks<BlockQ4_0>(data);
  for (int64_t b = 0; b < count / kBlock; ++b, out += kBlock) {
    const float d = F16ToFloat(blocks[b].d);
    for (int j = 0; j < 16; ++j) out[j] = d * static_cast<float>((blocks[b].qs[j] & 15) - 8);
    for (int j = 0; j < 16; ++j) out[j + 16] = d * static_cast<float>((blocks[b].qs[j] >> 4) - 8);
  }
}

void RowQ4_1(const std::byte* data, int64_t count, float* out) {
  const auto* blocks = Blocks<BlockQ4_1>(data);
  for (int64_t b = 0; b < count / kBlock; ++b, out += kBlock) {
    const float d = F16ToFloat(blocks[b].d), m = F16ToFloat(blocks[b].m);
    for (int j = 0; j < 16; ++j) out[j] = d * static_cast<float>(blocks[b].qs[j] & 15) + m;
    for (int j = 0; j < 16; ++j) out[j + 16] = d * static_cast<float>(blocks[b].qs[j] >> 4) + m;
  }
}

void RowQ5_0(const std::byte* data, int64_t count, float* out) {
  const auto* blocks = Blocks<BlockQ5_0>(data);
  for (int64_t b = 0; b < count / kBlock; ++b, out += kBlock) {
    const float d = F16ToFloat(blocks[b].d);
    const HighBits h(blocks[b].qh);
    for (int j = 0; j < 16; ++j) out[j] = d * static_cast<float>(((blocks[b].qs[j] & 15) | h.low[j]) - 16);
    for (int j = 0; j < 16; ++j) out[j + 16] = d * static_cast<float>(((blocks[b].qs[j] >> 4) | h.high[j]) - 16);
  }
}

void RowQ5_1(const std::byte* data, int64_t count, float* out) {
  const auto* blocks = Blocks<BlockQ5_1>(data);
  for (int64_t b = 0; b < count / kBlock; ++b, out += kBlock) {
    const float d = F16ToFloat(blocks[b].d), m = F16ToFloat(blocks[b].m);
    const HighBits h(blocks[b].qh);
    for (int j = 0; j < 16; ++j) out[j] = d * static_cast<float>((blocks[b].qs[j] & 15) | h.low[j]) + m;
    for (int j = 0; j < 16; ++j) out[j + 16] = d * static_cast<float>((blocks[b].qs[j] >> 4) | h.high[j]) + m;
  }
}

void RowQ8_0(const std::byte* data, int64_t count, float* out) {
  const auto* blocks = Blocks<BlockQ8_0>(data);
  for (int64_t b = 0; b < count / kBlock; ++b, out += kBlock) {
    const float d = F16ToFloat(blocks[b].d);
    for (int j = 0; j < kBlock; ++j) out[j] = d * static_cast<float>(blocks[b].qs[j]);
  }
}

void RowIQ4_NL(const std::byte* data, int64_t count, float* out) {
  const auto* blocks = Blocks<BlockIQ4_NL>(data);
  for (int64_t b = 0; b < count / kBlock; ++b, out += kBlock) {
    const float d = F16ToFloat(blocks[b].d);
    for (int j = 0; j < 16; ++j) {
      out[j] = d * static_cast<float>(kIq4NlValues[blocks[b].qs[j] & 15]);
      out[j + 16] = d * static_cast<float>(kIq4NlValues[blocks[b].qs[j] >> 4]);
    }
  }
}

void RowMXFP4(const std::byte* data, int64_t count, float* out) {
  const auto* blocks = Blocks<BlockMXFP4>(data);
  for (int64_t b = 0; b < count / kBlock; ++b, out += kBlock) {
    const float d = E8M0HalfToFloat(blocks[b].e);
    for (int j = 0; j < 16; ++j) {
      out[j] = d * static_cast<float>(kMxfp4Values[blocks[b].qs[j] & 15]);
      out[j + 16] = d * static_cast<float>(kMxfp4Values[blocks[b].qs[j] >> 4]);
    }
  }
}

}  // namespace fathom::dequant
