#include "kernels/vec_ops.h"

#include <algorithm>
#include <cmath>

// Scalable vectors cannot stand in arrays, which other kernels here use; NEON covers those machines.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/vec_ops.cc"
#include <hwy/foreach_target.h>  // compiles this file once per target

#include <hwy/highway.h>
#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace fathom::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// Calls body(i, lanes_left) style code for whole vectors, then tail(i) for the rest.
template <typename Body, typename Tail>
HWY_INLINE void ForEach(int64_t n, Body&& body, Tail&& tail) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) body(i);
  for (; i < n; ++i) tail(i);
}

void RmsNorm(const float* x, const float* weight, int64_t n, float eps, float* out) {
  const D d;
  V sum = hn::Zero(d);
  float tail = 0;
  ForEach(n, [&](int64_t i) { const V v = hn::LoadU(d, x + i); sum = hn::MulAdd(v, v, sum); },
          [&](int64_t i) { tail += x[i] * x[i]; });
  const float total = hn::GetLane(hn::SumOfLanes(d, sum)) + tail;
  const float scale = 1.0f / std::sqrt(total / static_cast<float>(n) + eps);
  const V scale_v = hn::Set(d, scale);
  ForEach(n, [&](int64_t i) {
    hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(d, x + i), scale_v), hn::LoadU(d, weight + i)), d, out + i);
  }, [&](int64_t i) { out[i] = x[i] * scale * weight[i]; });
}

void SiluMul(const float* gate, const float* up, int64_t n, float* out) {
  const D d;
  const V one = hn::Set(d, 1.0f);
  ForEach(n, [&](int64_t i) {
    const V g = hn::LoadU(d, gate + i);
    // Exp() wants its argument in range; beyond 88 the quotient is zero to f32 anyway.
    const V denominator = hn::Add(one, hn::Exp(d, hn::Min(hn::Neg(g), hn::Set(d, 88.0f))));
    hn::StoreU(hn::Mul(hn::Div(g, denominator), hn::LoadU(d, up + i)), d, out + i);
  }, [&](int64_t i) { out[i] = gate[i] / (1.0f + std::exp(-gate[i])) * up[i]; });
}

void AddTo(const float* x, int64_t n, float* y) {
  const D d;
  ForEach(n, [&](int64_t i) { hn::StoreU(hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, y + i); },
          [&](int64_t i) { y[i] += x[i]; });
}

void Axpy(float a, const float* x, int64_t n, float* y) {
  const D d;
  const V av = hn::Set(d, a);
  ForEach(n, [&](int64_t i) { hn::StoreU(hn::MulAdd(av, hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, y + i); },
          [&](int64_t i) { y[i] += a * x[i]; });
}

float ExpMinusMax(float* x, int64_t n, float max) {
  const D d;
  const V max_v = hn::Set(d, max);
  V sum = hn::Zero(d);
  float tail = 0;
  ForEach(n, [&](int64_t i) {
    const V e = hn::Exp(d, hn::Sub(hn::LoadU(d, x + i), max_v));
    hn::StoreU(e, d, x + i);
    sum = hn::Add(sum, e);
  }, [&](int64_t i) { x[i] = std::exp(x[i] - max); tail += x[i]; });
  return hn::GetLane(hn::SumOfLanes(d, sum)) + tail;
}

// 16-bit conversions work on half vectors of u16; bf16 rounding is done in integers so that NaN needs no branch here
// (activations are finite; a NaN may become another NaN or infinity).
void FloatsToBF16(const float* x, int64_t n, uint16_t* out) {
  const D d;
  const hn::RebindToUnsigned<D> du;
  const hn::Rebind<uint16_t, D> d16;
  const auto bias = hn::Set(du, 0x7fffu);
  const auto one = hn::Set(du, 1u);
  ForEach(n, [&](int64_t i) {
    const auto bits = hn::BitCast(du, hn::LoadU(d, x + i));
    const auto odd = hn::And(hn::ShiftRight<16>(bits), one);
    const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(bias, odd)));
    hn::StoreU(hn::TruncateTo(d16, rounded), d16, out + i);
  }, [&](int64_t i) {
    uint32_t bits;
    __builtin_memcpy(&bits, x + i, 4);
    out[i] = static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  });
}

void BF16ToFloats(const uint16_t* x, int64_t n, float* out) {
  const D d;
  const hn::RebindToUnsigned<D> du;
  const hn::Rebind<uint16_t, D> d16;
  ForEach(n, [&](int64_t i) {
    hn::StoreU(hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(d16, x + i)))), d, out + i);
  }, [&](int64_t i) {
    const uint32_t bits = static_cast<uint32_t>(x[i]) << 16;
    __builtin_memcpy(out + i, &bits, 4);
  });
}

void FloatsToF16(const float* x, int64_t n, uint16_t* out) {
  const D d;
  const hn::Rebind<hwy::float16_t, D> d16;
  const hn::Rebind<uint16_t, D> du16;
  alignas(64) float padded[HWY_MAX_BYTES / 4] = {};
  alignas(64) uint16_t narrow[HWY_MAX_BYTES / 4];
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < n; i += lanes) {
    const int64_t count = std::min(lanes, n - i);
    std::copy_n(x + i, count, padded);
    hn::StoreU(hn::BitCast(du16, hn::DemoteTo(d16, hn::Load(d, padded))), du16, narrow);
    std::copy_n(narrow, count, out + i);
  }
}

void F16ToFloats(const uint16_t* x, int64_t n, float* out) {
  const D d;
  const hn::Rebind<hwy::float16_t, D> d16;
  const hn::Rebind<uint16_t, D> du16;
  alignas(64) uint16_t padded[HWY_MAX_BYTES / 4] = {};
  alignas(64) float wide[HWY_MAX_BYTES / 4];
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(hn::PromoteTo(d, hn::BitCast(d16, hn::LoadU(du16, x + i))), d, out + i);
  if (i < n) {
    std::copy_n(x + i, n - i, padded);
    hn::StoreU(hn::PromoteTo(d, hn::BitCast(d16, hn::LoadU(du16, padded))), d, wide);
    std::copy_n(wide, n - i, out + i);
  }
}

}  // namespace
}  // namespace fathom::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fathom {

HWY_EXPORT(RmsNorm);
HWY_EXPORT(SiluMul);
HWY_EXPORT(AddTo);
HWY_EXPORT(Axpy);
HWY_EXPORT(ExpMinusMax);
HWY_EXPORT(FloatsToBF16);
HWY_EXPORT(FloatsToF16);
HWY_EXPORT(BF16ToFloats);
HWY_EXPORT(F16ToFloats);

void RmsNorm(const float* x, const float* weight, int64_t n, float eps, float* out) {
  HWY_DYNAMIC_DISPATCH(RmsNorm)(x, weight, n, eps, out);
}
void SiluMul(const float* gate, const float* up, int64_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(SiluMul)(gate, up, n, out);
}
void AddTo(const float* x, int64_t n, float* y) { HWY_DYNAMIC_DISPATCH(AddTo)(x, n, y); }
void Axpy(float a, const float* x, int64_t n, float* y) { HWY_DYNAMIC_DISPATCH(Axpy)(a, x, n, y); }
float ExpMinusMax(float* x, int64_t n, float max) { return HWY_DYNAMIC_DISPATCH(ExpMinusMax)(x, n, max); }
void FloatsToBF16(const float* x, int64_t n, uint16_t* out) { HWY_DYNAMIC_DISPATCH(FloatsToBF16)(x, n, out); }
void FloatsToF16(const float* x, int64_t n, uint16_t* out) { HWY_DYNAMIC_DISPATCH(FloatsToF16)(x, n, out); }
void BF16ToFloats(const uint16_t* x, int64_t n, float* out) { HWY_DYNAMIC_DISPATCH(BF16ToFloats)(x, n, out); }
void F16ToFloats(const uint16_t* x, int64_t n, float* out) { HWY_DYNAMIC_DISPATCH(F16ToFloats)(x, n, out); }

// Rotations touch 64 values a head: not worth a vector path.
void Rope(float* x, int64_t dim, bool interleaved, const float* cos, const float* sin) {
  const int64_t half = dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const int64_t a = interleaved ? 2 * i : i;
    const int64_t b = interleaved ? 2 * i + 1 : i + half;
    const float xa = x[a], xb = x[b];
    x[a] = xa * cos[i] - xb * sin[i];
    x[b] = xa * sin[i] + xb * cos[i];
  }
}

int64_t ArgMax(const float* x, int64_t n) {
  int64_t best = 0;
  float best_value = -INFINITY;
  for (int64_t i = 0; i < n; ++i) {
    if (x[i] > best_value) {
      best_value = x[i];
      best = i;
    }
  }
  return best;
}

}  // namespace fathom
#endif  // HWY_ONCE
