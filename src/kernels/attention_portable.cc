// The portable core of attention: f32 arithmetic through Highway. Caches in 16 and 8 bits are widened a block at a time,
// once for all tiles that a thread works on.
#include "kernels/attention_core.h"
#include "kernels/kv_rows.h"

#include <algorithm>
#include <cstring>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // g++ 12 on Highway's one-lane vectors
#endif

#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention_portable.cc"
#include <hwy/foreach_target.h>

#include <hwy/highway.h>
#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace fathom::attention::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
// A tile of 16 lanes is kV vectors of N floats.
using D = hn::CappedTag<float, kLanes>;
using V = hn::Vec<D>;
constexpr int kN = HWY_LANES(float) < kLanes ? HWY_LANES(float) : kLanes;
constexpr int kV = kLanes / kN;
// Rows kept in registers at once: AVX-512 has 32 registers and one vector a tile, others fewer or more vectors.
constexpr int kRows = kV == 1 ? 16 : kV == 2 ? 4 : kV == 4 ? 2 : 1;

// acc[j][lane] += sum over p of a[p][lane] * b[j * b_row + p * b_step], j in [0, rows).
template <int kCount>
HWY_INLINE void Accumulate(const float* HWY_RESTRICT a, int64_t depth, const float* HWY_RESTRICT b, int64_t b_row,
                           int64_t b_step, const float* initial, const V* factor, float* out) {
  const D d;
  V acc[kCount][kV];
  for (int j = 0; j < kCount; ++j)
    for (int v = 0; v < kV; ++v) {
      acc[j][v] = initial == nullptr ? hn::Zero(d) : hn::LoadU(d, initial + j * kLanes + v * kN);
      if (factor != nullptr) acc[j][v] = hn::Mul(acc[j][v], factor[v]);
    }
  for (int64_t p = 0; p < depth; ++p) {
    V av[kV];
    for (int v = 0; v < kV; ++v) av[v] = hn::LoadU(d, a + p * kLanes + v * kN);
    for (int j = 0; j < kCount; ++j) {
      const V bv = hn::Set(d, b[j * b_row + p * b_step]);
      for (int v = 0; v < kV; ++v) acc[j][v] = hn::MulAdd(av[v], bv, acc[j][v]);
    }
  }
  for (int j = 0; j < kCount; ++j)
    for (int v = 0; v < kV; ++v) hn::StoreU(acc[j][v], d, out + j * kLanes + v * kN);
}

void Scores(const Shape& shape, const std::byte* packed, const std::byte* data, const std::byte* block, int64_t count,
            float* scores) {
  const bool wide = shape.dtype == DType::kF32;
  const float* keys = wide ? reinterpret_cast<const float*>(data) + shape.k_begin
                           : reinterpret_cast<const float*>(block);
  const int64_t stride = wide ? shape.row_bytes / 4 : shape.k_dim;
  const float* q = reinterpret_cast<const float*>(packed);
  int64_t r = 0;
  for (; r + kRows <= count; r += kRows)
    Accumulate<kRows>(q, shape.k_dim, keys + r * stride, stride, 1, nullptr, nullptr, scores + r * kLanes);
  for (; r < count; ++r)
    Accumulate<1>(q, shape.k_dim, keys + r * stride, stride, 1, nullptr, nullptr, scores + r * kLanes);
}

void Softmax(float* scores, int64_t count, int64_t first_row, const int32_t* limit, float* max, float* sum,
             float* factor) {
  const D d;
  const hn::RebindToSigned<D> di;
  const V low = hn::Set(d, -1e30f);  // finite, so that a fully masked lane gives no NaN
  for (int v = 0; v < kV; ++v) {
    const auto lane_limit = hn::LoadU(di, limit + v * kN);
    V best = low;
    for (int64_t r = 0; r < count; ++r) {
      const auto hidden = hn::Lt(lane_limit, hn::Set(di, static_cast<int32_t>(first_row + r)));
      const V masked = hn::IfThenElse(hn::RebindMask(d, hidden), low, hn::LoadU(d, scores + r * kLanes + v * kN));
      hn::StoreU(masked, d, scores + r * kLanes + v * kN);
      best = hn::Max(best, masked);
    }
    const V old_max = hn::LoadU(d, max + v * kN);
    const V new_max = hn::Max(old_max, best);
    const V scale = hn::Exp(d, hn::Max(hn::Sub(old_max, new_max), hn::Set(d, -100.0f)));
    V total = hn::Mul(hn::LoadU(d, sum + v * kN), scale);
    for (int64_t r = 0; r < count; ++r) {
      const V score = hn::LoadU(d, scores + r * kLanes + v * kN);
      V p = hn::Exp(d, hn::Max(hn::Sub(score, new_max), hn::Set(d, -100.0f)));
      p = hn::IfThenZeroElse(hn::Eq(score, low), p);
      hn::StoreU(p, d, scores + r * kLanes + v * kN);
      total = hn::Add(total, p);
    }
    hn::StoreU(new_max, d, max + v * kN);
    hn::StoreU(total, d, sum + v * kN);
    hn::StoreU(scale, d, factor + v * kN);
  }
}

void Values(const Shape& shape, float* probabilities, const std::byte* data, const std::byte* block, int64_t count,
            const float* factor, float* out) {
  const D d;
  const bool wide = shape.dtype == DType::kF32;
  const float* values = wide ? reinterpret_cast<const float*>(data) + shape.v_begin
                             : reinterpret_cast<const float*>(block) +
                                   (shape.shared() ? 0 : kBlockRows * shape.k_dim);
  const int64_t stride = wide ? shape.row_bytes / 4 : shape.shared() ? shape.k_dim : shape.v_dim;
  V factors[kV];
  for (int v = 0; v < kV; ++v) factors[v] = hn::LoadU(d, factor + v * kN);
  int64_t i = 0;
  for (; i + kRows <= shape.v_dim; i += kRows)
    Accumulate<kRows>(probabilities, count, values + i, 1, stride, out + i * kLanes, factors, out + i * kLanes);
  for (; i < shape.v_dim; ++i)
    Accumulate<1>(probabilities, count, values + i, 1, stride, out + i * kLanes, factors, out + i * kLanes);
}

void Merge(int64_t v_dim, float* HWY_RESTRICT out, float* HWY_RESTRICT max, float* HWY_RESTRICT sum,
           const float* HWY_RESTRICT later_out, const float* later_max, const float* later_sum) {
  const D d;
  const V low = hn::Set(d, -100.0f);
  for (int v = 0; v < kV; ++v) {
    const V old_max = hn::LoadU(d, max + v * kN), other_max = hn::LoadU(d, later_max + v * kN);
    const V new_max = hn::Max(old_max, other_max);
    const V a = hn::Exp(d, hn::Max(hn::Sub(old_max, new_max), low));
    // A lane that sees none of the segment has sum and output zero there.
    const V b = hn::Exp(d, hn::Max(hn::Sub(other_max, new_max), low));
    hn::StoreU(new_max, d, max + v * kN);
    hn::StoreU(hn::MulAdd(hn::LoadU(d, sum + v * kN), a, hn::Mul(hn::LoadU(d, later_sum + v * kN), b)), d, sum + v * kN);
    for (int64_t i = 0; i < v_dim; ++i) {
      float* at = out + i * kLanes + v * kN;
      hn::StoreU(hn::MulAdd(hn::LoadU(d, at), a, hn::Mul(hn::LoadU(d, later_out + i * kLanes + v * kN), b)), d, at);
    }
  }
}

}  // namespace
}  // namespace fathom::attention::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fathom::attention {
namespace {

HWY_EXPORT(Scores);
HWY_EXPORT(Softmax);
HWY_EXPORT(Values);
HWY_EXPORT(Merge);

int64_t QueryBytes(const Shape& shape) { return shape.k_dim * kLanes * 4; }

// Keys, and values unless they are the keys' first part (MLA), widened to f32.
int64_t BlockBytes(const Shape& shape) {
  if (shape.dtype == DType::kF32) return 0;
  return kBlockRows * 4 * (shape.k_dim + (shape.shared() ? 0 : shape.v_dim));
}

void PackQueries(const Shape& shape, const float* const rows[kLanes], float scale, std::byte* packed) {
  float* out = reinterpret_cast<float*>(packed);
  for (int lane = 0; lane < kLanes; ++lane)
    for (int64_t i = 0; i < shape.k_dim; ++i) out[i * kLanes + lane] = rows[lane] == nullptr ? 0 : rows[lane][i] * scale;
}

void PrepareBlock(const Shape& shape, const std::byte* data, int64_t count, std::byte* block) {
  if (shape.dtype == DType::kF32) return;
  float* keys = reinterpret_cast<float*>(block);
  float* values = keys + kBlockRows * shape.k_dim;
  for (int64_t r = 0; r < count; ++r) {
    const std::byte* row = data + r * shape.row_bytes;
    LoadKvRow(shape.row, row, shape.k_begin, shape.k_dim, keys + r * shape.k_dim);
    if (!shape.shared()) LoadKvRow(shape.row, row, shape.v_begin, shape.v_dim, values + r * shape.v_dim);
  }
}

void Write(int64_t v_dim, const float* out, const float* factor, float* const rows[kLanes]) {
  for (int lane = 0; lane < kLanes; ++lane) {
    if (rows[lane] == nullptr) continue;
    for (int64_t i = 0; i < v_dim; ++i) rows[lane][i] = out[i * kLanes + lane] * factor[lane];
  }
}

}  // namespace

const Core& PortableCore() {
  static const Core core = {
      .name = "portable",
      .query_bytes = QueryBytes,
      .block_bytes = BlockBytes,
      .pack_queries = PackQueries,
      .prepare_block = PrepareBlock,
      .scores = [](const Shape& shape, const std::byte* const packed[kPair], int tiles, const std::byte* data,
                   const std::byte* block, int64_t count, const std::byte*, int64_t, float* const scores[kPair]) {
        for (int tile = 0; tile < tiles; ++tile)
          HWY_DYNAMIC_DISPATCH(Scores)(shape, packed[tile], data, block, count, scores[tile]);
      },
      .softmax = [](float* scores, int64_t count, int64_t first_row, const int32_t* limit, float* max, float* sum,
                    float* factor) {
        HWY_DYNAMIC_DISPATCH(Softmax)(scores, count, first_row, limit, max, sum, factor);
      },
      .values = [](const Shape& shape, float* const p[kPair], int tiles, const std::byte* data, const std::byte* block,
                   int64_t count, const float* const factor[kPair], float* const out[kPair]) {
        for (int tile = 0; tile < tiles; ++tile)
          HWY_DYNAMIC_DISPATCH(Values)(shape, p[tile], data, block, count, factor[tile], out[tile]);
      },
      .write = Write,
      .merge = [](int64_t v_dim, float* out, float* max, float* sum, const float* later_out, const float* later_max,
                  const float* later_sum) {
        HWY_DYNAMIC_DISPATCH(Merge)(v_dim, out, max, sum, later_out, later_max, later_sum);
      },
  };
  return core;
}

}  // namespace fathom::attention
#endif  // HWY_ONCE
