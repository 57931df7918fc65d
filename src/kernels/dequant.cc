#include "kernels/dequant.h"

#include <array>
#include <bit>
#include <cassert>
#include <cstring>

#include "kernels/dequant_blocks.h"
#include "tensor/float16.h"

namespace fathom {
namespace {

constexpr int64_t kF8Tile = 128;  // weight_scale_inv covers 128 x 128 elements

// F16ToFloat without branches, so that the loop becomes vector code. Equal to it for all 65536 values.
inline float F16ToFloatSelect(uint16_t h) {
  const uint32_t magnitude = h & 0x7fff;
  // 0.5 + m 2^-24 is exact, so the difference is the subnormal half's value.
  const float subnormal = std::bit_cast<float>(0x3f000000u | magnitude) - 0.5f;
  const uint32_t special = 0u - (magnitude >> 10 == 31);
  const uint32_t normal = (magnitude << 13) + (112u << 23) + (special & (112u << 23));
  const uint32_t small = 0u - (magnitude >> 10 == 0);
  const uint32_t bits = (std::bit_cast<uint32_t>(subnormal) & small) | (normal & ~small);
  return std::bit_cast<float>(bits | static_cast<uint32_t>(h & 0x8000) << 16);
}

// Safetensors may leave numbers unaligned, hence memcpy.
template <typename T, typename Fn>
void Widen(const std::byte* data, int64_t count, float* out, Fn&& to_float) {
  for (int64_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, data + i * sizeof(T), sizeof(T));
    out[i] = to_float(value);
  }
}

const std::array<float, 256>& F8Table() {
  static const std::array<float, 256> table = [] {
    std::array<float, 256> t{};
    for (int i = 0; i < 256; ++i) t[i] = F8E4M3ToFloat(static_cast<uint8_t>(i));
    return t;
  }();
  return table;
}

void RowF8E4M3(const std::byte* data, int64_t count, float* out) {
  const auto& table = F8Table();
  for (int64_t i = 0; i < count; ++i) out[i] = table[std::to_integer<uint8_t>(data[i])];
}

}  // namespace

void DequantizeRow(DType dtype, const std::byte* data, int64_t count, float* out) {
  assert(count % TraitsOf(dtype).block_size == 0);
  switch (dtype) {
    case DType::kF32: std::memcpy(out, data, static_cast<size_t>(count) * sizeof(float)); return;
    case DType::kF64: return Widen<double>(data, count, out, [](double v) { return static_cast<float>(v); });
    case DType::kF16: return Widen<uint16_t>(data, count, out, F16ToFloatSelect);
    case DType::kBF16: return Widen<uint16_t>(data, count, out, BF16ToFloat);
    case DType::kF8_E4M3: return RowF8E4M3(data, count, out);
    case DType::kQ4_0: return dequant::RowQ4_0(data, count, out);
    case DType::kQ4_1: return dequant::RowQ4_1(data, count, out);
    case DType::kQ5_0: return dequant::RowQ5_0(data, count, out);
    case DType::kQ5_1: return dequant::RowQ5_1(data, count, out);
    case DType::kQ8_0: return dequant::RowQ8_0(data, count, out);
    case DType::kQ2_K: return dequant::RowQ2_K(data, count, out);
    case DType::kQ3_K: return dequant::RowQ3_K(data, count, out);
    case DType::kQ4_K: return dequant::RowQ4_K(data, count, out);
    case DType::kQ5_K: return dequant::RowQ5_K(data, count, out);
    case DType::kQ6_K: return dequant::RowQ6_K(data, count, out);
    case DType::kIQ4_NL: return dequant::RowIQ4_NL(data, count, out);
    case DType::kIQ4_XS: return dequant::RowIQ4_XS(data, count, out);
    case DType::kMXFP4: return dequant::RowMXFP4(data, count, out);
    case DType::kI8:
    case DType::kI16:
    case DType::kI32:
    case DType::kI64: break;
  }
  assert(false && "DequantizeRow: not a weight type");
}

void DequantizeWeightRow(const WeightView& w, int64_t r, float* out) {
  assert(r >= 0 && r < w.rows);
  DequantizeRow(w.dtype, w.row(r), w.cols, out);
  if (w.scale_inv == nullptr) return;
  const float* scales = w.scale_inv + r / kF8Tile * w.scale_cols;
  for (int64_t begin = 0; begin < w.cols; begin += kF8Tile) {
    const float scale = scales[begin / kF8Tile];
    const int64_t end = begin + kF8Tile < w.cols ? begin + kF8Tile : w.cols;
    for (int64_t i = begin; i < end; ++i) out[i] *= scale;
  }
}

}  // namespace fathom
