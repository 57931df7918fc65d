#include "kernels/kv_rows_ref.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tensor/float16.h"

namespace fathom {
namespace {

double CodeValue(DType dtype, int code) {
  return dtype == DType::kI8 ? static_cast<double>(static_cast<int8_t>(code))
                             : static_cast<double>(F8E4M3ToFloat(static_cast<uint8_t>(code)));
}

// The code nearest to x, of two the even one; x keeps its sign where the format has a negative zero.
uint8_t NearestCode(DType dtype, double x) {
  int best = 0;
  for (int code = 1; code < 256; ++code) {
    const double value = CodeValue(dtype, code);
    if (std::isnan(value) || code == 0x80) continue;
    const double gap = std::fabs(value - x), best_gap = std::fabs(CodeValue(dtype, best) - x);
    if (gap < best_gap || (gap == best_gap && code % 2 == 0)) best = code;
  }
  return static_cast<uint8_t>(best == 0 && std::signbit(x) && dtype == DType::kF8_E4M3 ? 0x80 : best);
}

}  // namespace

void StoreKvRowRef(const KvRowFormat& format, const float* x, int64_t first, int64_t count, std::byte* row) {
  const auto put = [&](int64_t at, auto value) { std::memcpy(row + at, &value, sizeof(value)); };
  for (int64_t i = first; i < first + count; ++i) {
    const float value = x[i - first];
    if (format.dtype == DType::kF32) put(4 * i, value);
    if (format.dtype == DType::kF16) put(2 * i, FloatToF16(value));
    if (format.dtype == DType::kBF16) put(2 * i, FloatToBF16(value));
    if (!format.packed()) continue;
    if (i >= format.codes()) {
      put(format.tail_at() + 2 * (i - format.codes()), FloatToBF16(value));
      continue;
    }
    const int64_t begin = i / format.group * format.group, end = std::min(begin + format.group, format.codes());
    float most = 0;
    bool finite = true;
    for (int64_t j = begin; j < end; ++j) {
      most = std::max(most, std::fabs(x[j - first]));
      finite = finite && std::isfinite(x[j - first]);
    }
    const float largest = format.dtype == DType::kI8 ? 127.0f : 448.0f;
    const bool vanishes = most < 1e-30f;
    put(format.scales_at() + 4 * (i / format.group), !finite ? NAN : vanishes ? 0.0f : most / largest);
    put(i, !finite || vanishes ? uint8_t{0} : NearestCode(format.dtype, value * (largest / most)));
  }
}

double KvValueRef(const KvRowFormat& format, const std::byte* row, int64_t index) {
  const auto take = [&](int64_t at, auto value) {
    std::memcpy(&value, row + at, sizeof(value));
    return value;
  };
  switch (format.dtype) {
    case DType::kF32: return take(4 * index, float{});
    case DType::kF16: return F16ToFloat(take(2 * index, uint16_t{}));
    case DType::kBF16: return BF16ToFloat(take(2 * index, uint16_t{}));
    default: break;
  }
  if (index >= format.codes())
    return BF16ToFloat(take(format.tail_at() + 2 * (index - format.codes()), uint16_t{}));
  return CodeValue(format.dtype, take(index, uint8_t{})) *
         take(format.scales_at() + 4 * (index / format.group), float{});
}

}  // namespace fathom
