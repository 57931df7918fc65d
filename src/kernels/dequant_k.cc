// Formats of 256 elements a super-block: the K-quants and IQ4_XS.
#include "kernels/dequant_blocks.h"
#include "kernels/kquant_scales.h"
#include "tensor/blocks.h"
#include "tensor/float16.h"

namespace fathom::dequant {
namespace {

template <typename Block>
const Block* Blocks(const std::byte* data) {
  return reinterpret_cast<const Block*>(data);
}

}  // namespace

void RowQ2_K(const std::byte* data, int64_t count, float* out) {
  const auto* blocks = Blocks<BlockQ2_K>(data);
  for (int64_t b = 0; b < count / kSuperBlock; ++b) {
    const BlockQ2_K& block = blocks[b];
    const float d = F16ToFloat(block.d), dmin = F16ToFloat(block.dmin);
    // 32 bytes hold 128 elements in four bit planes of 32; a sub-block of 16 is half a plane.
    for (int s = 0; s < 16; ++s, out += 16) {
      const uint8_t* qs = block.qs + s / 8 * 32 + s % 2 * 16;
      const int shift = s % 8 / 2 * 2;
      const float dl = d * static_cast<float>(block.scales[s] & 15);
      const float ml = dmin * static_cast<float>(block.scales[s] >> 4);
      for (int j = 0; j < 16; ++j) out[j] = dl * static_cast<float>((qs[j] >> shift) & 3) - ml;
    }
  }
}

void RowQ3_K(const std::byte* data, int64_t count, float* out) {
  const auto* blocks = Blocks<BlockQ3_K>(data);
  for (int64_t b = 0; b < count / kSuperBlock; ++b) {
    const BlockQ3_K& block = blocks[b];
    const float d = F16ToFloat(block.d);
    int8_t scales[16];
    UnpackScalesQ3K(block.scales, scales);
    for (int s = 0; s < 16; ++s, out += 16) {
      const uint8_t* qs = block.qs + s / 8 * 32 + s % 2 * 16;
      const uint8_t* hmask = block.hmask + s % 2 * 16;
      const int shift = s % 8 / 2 * 2, bit = s / 2;
      const float dl = d * static_cast<float>(scales[s]);
      // The offset of 4 is there when the high bit is not.
      for (int j = 0; j < 16; ++j)
        out[j] = dl * static_cast<float>(((qs[j] >> shift) & 3) + ((hmask[j] >> bit) & 1) * 4 - 4);
    }
  }
}

void RowQ4_K(const std::byte* data, int64_t count, float* out) {
  const auto* blocks = Blocks<BlockQ4_K>(data);
  for (int64_t b = 0; b < count / kSuperBlock; ++b) {
    const BlockQ4_K& block = blocks[b];
    const float d = F16ToFloat(block.d), dmin = F16ToFloat(block.dmin);
    uint8_t scale[8], min[8];
    UnpackScalesQ4K(block.scales, scale, min);
    for (int s = 0; s < 8; ++s, out += 32) {
      const uint8_t* qs = block.qs + s / 2 * 32;
      const int shift = s % 2 * 4;
      const float dl = d * static_cast<float>(scale[s]), ml = dmin * static_cast<float>(min[s]);
      for (int j = 0; j < 32; ++j) out[j] = dl * static_cast<float>((qs[j] >> shift) & 15) - ml;
    }
  }
}

void RowQ5_K(const std::byte* data, int64_t count, float* out) {
  const auto* blocks = Blocks<BlockQ5_K>(data);
  for (int64_t b = 0; b < count / kSuperBlock; ++b) {
    const BlockQ5_K& block = blocks[b];
    const float d = F16ToFloat(block.d), dmin = F16ToFloat(block.dmin);
    uint8_t scale[8], min[8];
    UnpackScalesQ4K(block.scales, scale, min);
    for (int s = 0; s < 8; ++s, out += 32) {
      const uint8_t* qs = block.qs + s / 2 * 32;
      const int shift = s % 2 * 4;
      const float dl = d * static_cast<float>(scale[s]), ml = dmin * static_cast<float>(min[s]);
      for (int j = 0; j < 32; ++j)
        out[j] = dl * static_cast<float>(((qs[j] >> shift) & 15) | ((block.qh[j] >> s) & 1) << 4) - ml;
    }
  }
}

void RowQ6_K(const std::byte* data, int64_t count, float* out) {
  const auto* blocks = Blocks<BlockQ6_K>(data);
  for (int64_t b = 0; b < count / kSuperBlock; ++b) {
    const BlockQ6_K& block = blocks[b];
    const float d = F16ToFloat(block.d);
    // 64 bytes of ql and 32 of qh hold 128 elements: ql as four runs of 32 (two low nibbles, two high), qh as four
    // planes of two bits. A sub-block of 16 is half a run.
    for (int s = 0; s < 16; ++s, out += 16) {
      const int run = s % 8 / 2, half = s % 2 * 16;
      const uint8_t* ql = block.ql + s / 8 * 64 + run % 2 * 32 + half;
      const uint8_t* qh = block.qh + s / 8 * 32 + half;
      const int low_shift = run / 2 * 4, high_shift = run * 2;
      const float dl = d * static_cast<float>(block.scales[s]);
      for (int j = 0; j < 16; ++j)
        out[j] = dl * static_cast<float>((((ql[j] >> low_shift) & 15) | ((qh[j] >> high_shift) & 3) << 4) - 32);
    }
  }
}

void RowIQ4_XS(const std::byte* data, int64_t count, float* out) {
  const auto* blocks = Blocks<BlockIQ4_XS>(data);
  for (int64_t b = 0; b < count / kSuperBlock; ++b) {
    const BlockIQ4_XS& block = blocks[b];
    const float d = F16ToFloat(block.d);
    int8_t scales[8];
    UnpackScalesIQ4XS(block, scales);
    for (int s = 0; s < 8; ++s, out += 32) {
      const uint8_t* qs = block.qs + s * 16;
      const float dl = d * static_cast<float>(scales[s]);
      for (int j = 0; j < 16; ++j) {
        out[j] = dl * static_cast<float>(kIq4NlValues[qs[j] & 15]);
        out[j + 16] = dl * static_cast<float>(kIq4NlValues[qs[j] >> 4]);
      }
    }
  }
}

}  // namespace fathom::dequant
