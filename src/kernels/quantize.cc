#include "kernels/quantize.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>

#include "kernels/quantize_blocks.h"

namespace fathom {

uint8_t FloatToF8E4M3(float f) {
  const uint32_t bits = std::bit_cast<uint32_t>(f);
  const uint8_t sign = static_cast<uint8_t>((bits >> 24) & 0x80);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7f;
  if (magnitude >= 0x43e00000) return sign | 0x7e;  // 448 and beyond
  if (magnitude < 0x3c800000) {                     // below 2^-6: subnormal, in steps of 2^-9
    // Adding 2^14 aligns the mantissa to those steps, so that the float unit does the rounding.
    const float aligned = std::bit_cast<float>(magnitude) + 0x1p14f;
    return static_cast<uint8_t>(sign | (std::bit_cast<uint32_t>(aligned) - std::bit_cast<uint32_t>(0x1p14f)));
  }
  const uint32_t rounded = magnitude + 0x7ffff + ((magnitude >> 20) & 1);
  return static_cast<uint8_t>(sign | std::min<uint32_t>((rounded - 0x3c000000) >> 20, 0x7e));
}

void QuantizeRow(DType dtype, const float* in, int64_t count, std::byte* out) {
  assert(count % TraitsOf(dtype).block_size == 0);
  const auto store16 = [&](auto convert) {
    for (int64_t i = 0; i < count; ++i) {
      const uint16_t h = convert(in[i]);
      std::memcpy(out + 2 * i, &h, 2);
    }
  };
  switch (dtype) {
    case DType::kF32: std::memcpy(out, in, static_cast<size_t>(count) * sizeof(float)); return;
    case DType::kF16: return store16(quantize::ScaleToF16);  // saturates
    case DType::kBF16: return store16([](float f) { return FloatToBF16(std::clamp(f, -0x1.fep127f, 0x1.fep127f)); });
    case DType::kF8_E4M3:
      for (int64_t i = 0; i < count; ++i) out[i] = std::byte{FloatToF8E4M3(in[i])};
      return;
    case DType::kQ4_0: return quantize::RowQ4_0(in, count, out);
    case DType::kQ4_1: return quantize::RowQ4_1(in, count, out);
    case DType::kQ5_0: return quantize::RowQ5_0(in, count, out);
    case DType::kQ5_1: return quantize::RowQ5_1(in, count, out);
    case DType::kQ8_0: return quantize::RowQ8_0(in, count, out);
    case DType::kQ2_K: return quantize::RowQ2_K(in, count, out);
    case DType::kQ3_K: return quantize::RowQ3_K(in, count, out);
    case DType::kQ4_K: return quantize::RowQ4_K(in, count, out);
    case DType::kQ5_K: return quantize::RowQ5_K(in, count, out);
    case DType::kQ6_K: return quantize::RowQ6_K(in, count, out);
    case DType::kIQ4_NL: return quantize::RowIQ4_NL(in, count, out);
    case DType::kIQ4_XS: return quantize::RowIQ4_XS(in, count, out);
    case DType::kMXFP4: return quantize::RowMXFP4(in, count, out);
    case DType::kI8:
    case DType::kI16:
    case DType::kI32:
    case DType::kI64:
    case DType::kF64: break;
  }
  assert(false && "QuantizeRow: not a weight type that can be written");
}

}  // namespace fathom
