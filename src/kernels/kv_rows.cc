#include "kernels/kv_rows.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>

#include "kernels/quantize.h"
#include "kernels/vec_ops.h"
#include "tensor/float16.h"

#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/kv_rows.cc"
#include <hwy/foreach_target.h>  // compiles this file once per target

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace fathom::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using DI = hn::RebindToSigned<D>;
using DU = hn::RebindToUnsigned<D>;
using D8 = hn::Rebind<int8_t, D>;
using DU8 = hn::Rebind<uint8_t, D>;

// The largest magnitude, or NaN or infinity when there is one.
float LargestMagnitude(const float* x, int64_t n) {
  const D d;
  const DU du;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  // Magnitudes order as integers do, and what is not finite lies above everything that is.
  auto most = hn::Zero(du);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    most = hn::Max(most, hn::And(hn::BitCast(du, hn::LoadU(d, x + i)), hn::Set(du, 0x7fffffffu)));
  uint32_t out = hn::GetLane(hn::MaxOfLanes(du, most));
  for (; i < n; ++i) out = std::max(out, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  return std::bit_cast<float>(out);
}

void ToInt8(const float* x, int64_t n, float inverse, std::byte* out) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int8_t* codes = reinterpret_cast<int8_t*>(out);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto scaled = hn::Mul(hn::LoadU(d, x + i), hn::Set(d, inverse));
    const auto clamped = hn::Max(hn::Min(scaled, hn::Set(d, 127.0f)), hn::Set(d, -127.0f));
    hn::StoreU(hn::DemoteTo(D8(), hn::NearestInt(clamped)), D8(), codes + i);
  }
  for (; i < n; ++i) codes[i] = static_cast<int8_t>(std::nearbyint(std::clamp(x[i] * inverse, -127.0f, 127.0f)));
}

// Round to nearest even on three bits of mantissa; below 2^-6 a step is 2^-9.
void ToF8E4M3(const float* x, int64_t n, float inverse, std::byte* out) {
  const D d;
  const DI di;
  const DU du;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  uint8_t* codes = reinterpret_cast<uint8_t*>(out);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto scaled = hn::Mul(hn::LoadU(d, x + i), hn::Set(d, inverse));
    const auto bits = hn::BitCast(du, scaled);
    const auto sign = hn::And(hn::ShiftRight<24>(bits), hn::Set(du, 0x80u));
    const auto magnitude = hn::Min(hn::Abs(scaled), hn::Set(d, 448.0f));
    const auto m = hn::BitCast(du, magnitude);
    const auto odd = hn::And(hn::ShiftRight<20>(m), hn::Set(du, 1u));
    const auto normal = hn::Sub(hn::ShiftRight<20>(hn::Add(hn::Add(m, hn::Set(du, 0x7ffffu)), odd)),
                                hn::Set(du, 120u << 3));
    const auto small = hn::BitCast(du, hn::NearestInt(hn::Mul(magnitude, hn::Set(d, 512.0f))));
    const auto is_small = hn::RebindMask(du, hn::Lt(magnitude, hn::Set(d, 0x1p-6f)));
    const auto code = hn::Or(sign, hn::IfThenElse(is_small, small, normal));
    hn::StoreU(hn::DemoteTo(DU8(), hn::BitCast(di, code)), DU8(), codes + i);
  }
  for (; i < n; ++i) codes[i] = FloatToF8E4M3(x[i] * inverse);
}

void FromInt8(const std::byte* in, int64_t n, float scale, float* out) {
  const D d;
  const DI di;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int8_t* codes = reinterpret_cast<const int8_t*>(in);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto code = hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(D8(), codes + i)));
    hn::StoreU(hn::Mul(code, hn::Set(d, scale)), d, out + i);
  }
  for (; i < n; ++i) out[i] = static_cast<float>(codes[i]) * scale;
}

void FromF8E4M3(const std::byte* in, int64_t n, float scale, float* out) {
  const D d;
  const DI di;
  const DU du;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const uint8_t* codes = reinterpret_cast<const uint8_t*>(in);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto code = hn::PromoteTo(du, hn::LoadU(DU8(), codes + i));
    const auto sign = hn::ShiftLeft<24>(hn::And(code, hn::Set(du, 0x80u)));
    const auto magnitude = hn::And(code, hn::Set(du, 0x7fu));
    const auto normal = hn::BitCast(d, hn::Add(hn::ShiftLeft<20>(magnitude), hn::Set(du, 120u << 23)));
    const auto small = hn::Mul(hn::ConvertTo(d, hn::BitCast(di, magnitude)), hn::Set(d, 0x1p-9f));
    const auto is_small = hn::RebindMask(d, hn::Lt(magnitude, hn::Set(du, 8u)));
    const auto value = hn::Or(hn::IfThenElse(is_small, small, normal), hn::BitCast(d, sign));
    hn::StoreU(hn::Mul(value, hn::Set(d, scale)), d, out + i);
  }
  for (; i < n; ++i) out[i] = F8E4M3ToFloat(codes[i]) * scale;
}

}  // namespace
}  // namespace fathom::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fathom {
namespace {

HWY_EXPORT(LargestMagnitude);
HWY_EXPORT(ToInt8);
HWY_EXPORT(ToF8E4M3);
HWY_EXPORT(FromInt8);
HWY_EXPORT(FromF8E4M3);

constexpr float kVanishes = 1e-30f;  // its reciprocal times 448 is still finite

void StoreGroup(DType dtype, const float* x, int64_t count, std::byte* codes, std::byte* scale_out) {
  const float most = HWY_DYNAMIC_DISPATCH(LargestMagnitude)(x, count);
  const float largest = dtype == DType::kI8 ? 127.0f : 448.0f;
  float scale = most / largest;
  if (!std::isfinite(most) || most < kVanishes) {
    scale = std::isfinite(most) ? 0.0f : NAN;
    std::memset(codes, 0, static_cast<size_t>(count));
  } else if (dtype == DType::kI8) {
    HWY_DYNAMIC_DISPATCH(ToInt8)(x, count, largest / most, codes);
  } else {
    HWY_DYNAMIC_DISPATCH(ToF8E4M3)(x, count, largest / most, codes);
  }
  std::memcpy(scale_out, &scale, sizeof(scale));
}

}  // namespace

void StoreKvRow(const KvRowFormat& format, const float* x, int64_t first, int64_t count, std::byte* row) {
  switch (format.dtype) {
    case DType::kF32: std::memcpy(row + first * 4, x, static_cast<size_t>(count) * sizeof(float)); return;
    case DType::kF16: return FloatsToF16(x, count, reinterpret_cast<uint16_t*>(row) + first);
    case DType::kBF16: return FloatsToBF16(x, count, reinterpret_cast<uint16_t*>(row) + first);
    default: break;
  }
  assert(format.packed() && (first % format.group == 0 || first >= format.codes()));
  const int64_t end = first + count, codes_end = std::min(end, format.codes());
  assert(codes_end <= first || codes_end % format.group == 0 || codes_end == format.codes());
  int64_t i = first;
  for (; i < codes_end; i += format.group)
    StoreGroup(format.dtype, x + (i - first), std::min(format.group, codes_end - i), row + i,
               row + format.scales_at() + i / format.group * 4);
  i = std::max(first, format.codes());
  if (i < end) {
    FloatsToBF16(x + (i - first), end - i,
                 reinterpret_cast<uint16_t*>(row + format.tail_at()) + (i - format.codes()));
  }
}

void LoadKvRow(const KvRowFormat& format, const std::byte* row, int64_t first, int64_t count, float* out) {
  switch (format.dtype) {
    case DType::kF32: std::memcpy(out, row + first * 4, static_cast<size_t>(count) * sizeof(float)); return;
    case DType::kF16: return F16ToFloats(reinterpret_cast<const uint16_t*>(row) + first, count, out);
    case DType::kBF16: return BF16ToFloats(reinterpret_cast<const uint16_t*>(row) + first, count, out);
    default: break;
  }
  assert(format.packed());
  const auto from = format.dtype == DType::kI8 ? HWY_DYNAMIC_DISPATCH(FromInt8) : HWY_DYNAMIC_DISPATCH(FromF8E4M3);
  const int64_t end = first + count, codes_end = std::min(end, format.codes());
  int64_t i = first;
  while (i < codes_end) {
    const int64_t group = i / format.group;
    const int64_t next = std::min(codes_end, (group + 1) * format.group);
    float scale;
    std::memcpy(&scale, row + format.scales_at() + group * 4, sizeof(scale));
    from(row + i, next - i, scale, out + (i - first));
    i = next;
  }
  if (i < end) {
    BF16ToFloats(reinterpret_cast<const uint16_t*>(row + format.tail_at()) + (i - format.codes()), end - i,
                 out + (i - first));
  }
}

}  // namespace fathom
#endif  // HWY_ONCE
