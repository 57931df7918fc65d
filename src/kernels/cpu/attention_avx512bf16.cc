// Attention core for caches in bf16 on machines with AVX-512 BF16: vdpbf16ps multiplies pairs, 32 products an
// instruction, with the key or value pair broadcast from memory. Queries and probabilities are rounded to bf16.
#include "kernels/attention_core.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>

#include "kernels/cpu/attention_avx512.h"

#define FATHOM_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

namespace fathom::attention {
namespace {

// Accumulators, enough to hide the latency of two multiplications a cycle. A pair of tiles takes half as many rows (or
// values), and each broadcast from memory serves both.
constexpr int kRows = 16;
// Rows of the absorbed MLA of every DeepSeek model (512 + 64 values): with the distance known to the compiler, sixteen
// rows need one address.
constexpr int64_t kMlaRowBytes = 1152;

// Packed queries: [k_dim / 2][16 lanes][2] bf16.
int64_t QueryBytes(const Shape& shape) { return shape.k_dim / 2 * kLanes * 4; }

// Prepared values: for each 16 of v_dim, [32 row pairs][16][2] bf16, so that values() streams through them.
int64_t ValueBytes(const Shape& shape) { return (shape.v_dim + 15) / 16 * 16 * kBlockRows * 2; }

// Behind them, of rows in 8 bits: their keys unpacked, [64 rows][k_dim] bf16, and two rows of values where those are not
// the keys' first part.
int64_t Stride(int64_t values) { return (values + 31) / 32 * 64; }
int64_t BlockBytes(const Shape& shape) {
  if (!shape.row.packed()) return ValueBytes(shape);
  return ValueBytes(shape) + kBlockRows * Stride(shape.k_dim) + (shape.shared() ? 0 : 2 * Stride(shape.v_dim));
}

FATHOM_TARGET void PackQueries(const Shape& shape, const float* const rows[kLanes], float scale, std::byte* packed) {
  const __m512 by = _mm512_set1_ps(scale);
  for (int64_t i = 0; i < shape.k_dim; i += 32) {
    const __mmask16 low = FirstOf(shape.k_dim - i), high = FirstOf(shape.k_dim - i - 16);
    __m512i x[16];
    for (int lane = 0; lane < kLanes; ++lane) {
      if (rows[lane] == nullptr) {
        x[lane] = _mm512_setzero_si512();
        continue;
      }
      const __m512 a = _mm512_mul_ps(_mm512_maskz_loadu_ps(low, rows[lane] + i), by);
      const __m512 b = high == 0 ? _mm512_setzero_ps() : _mm512_mul_ps(_mm512_maskz_loadu_ps(high, rows[lane] + i + 16), by);
      x[lane] = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b, a));
    }
    Transpose(x);
    const int64_t pairs = std::min<int64_t>(16, (shape.k_dim - i) / 2);
    for (int64_t p = 0; p < pairs; ++p) _mm512_storeu_si512(packed + (i / 2 + p) * 64, x[p]);
  }
}

FATHOM_TARGET void Write(int64_t v_dim, const float* out, const float* factor, float* const rows[kLanes]) {
  const __m512 by = _mm512_loadu_ps(factor);
  for (int64_t i = 0; i < v_dim; i += 16) {
    const int64_t count = std::min<int64_t>(16, v_dim - i);
    __m512i x[16];
    for (int64_t j = 0; j < 16; ++j)
      x[j] = j < count ? reinterpret_cast<__m512i>(_mm512_mul_ps(_mm512_loadu_ps(out + (i + j) * kLanes), by))
                       : _mm512_setzero_si512();
    Transpose(x);
    for (int lane = 0; lane < kLanes; ++lane)
      if (rows[lane] != nullptr) _mm512_mask_storeu_epi32(rows[lane] + i, FirstOf(count), x[lane]);
  }
}

// Values of rows r and r + 1 into the prepared block; nullptr: zeros.
FATHOM_TARGET inline void InterleaveValues(const uint16_t* a, const uint16_t* b, int64_t v_dim, int64_t r,
                                           std::byte* block) {
  const __m512i interleave = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22,
                                              6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  for (int64_t i = 0; i < v_dim; i += 16) {
    const __mmask16 mask = FirstOf(v_dim - i);
    const __m256i low = a != nullptr ? _mm256_maskz_loadu_epi16(mask, a + i) : _mm256_setzero_si256();
    const __m256i high = b != nullptr ? _mm256_maskz_loadu_epi16(mask, b + i) : _mm256_setzero_si256();
    const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    _mm512_store_si512(block + (i / 16 * (kBlockRows / 2) + r / 2) * 64, _mm512_permutexvar_epi16(interleave, both));
  }
}

// A range of values of every row in 8 bits; what needs a division is found once.
struct PackedRange {
  PackedRange(const KvRowFormat& format, int64_t begin, int64_t count)
      : first(begin), end(begin + count), codes_end(std::min(end, format.codes())), group(format.group),
        first_group_end((begin / group + 1) * group), scales(format.scales_at() + begin / group * 4),
        tail(format.tail_at() - format.codes() * 2) {}
  int64_t first, end, codes_end;
  int64_t group, first_group_end;
  int64_t scales;  // bytes from the row's start to the first group's scale
  int64_t tail;    // … to where value 0 would be if all were bf16
};

// 32 codes times their scale, in bf16.
template <bool kInt8>
FATHOM_TARGET inline __m512i Unpack32(__m256i codes, __m512 scale) {
  __m512 low, high;
  if constexpr (kInt8) {
    low = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_castsi256_si128(codes)));
    high = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_extracti128_si256(codes, 1)));
  } else {
    // An f16 with the same exponent and mantissa bits is 2^-8 of the e4m3, also where that is subnormal; the sign
    // stands twice after extension, at bits 15 and 14.
    const __m512i half = _mm512_and_si512(_mm512_slli_epi16(_mm512_cvtepi8_epi16(codes), 7),
                                          _mm512_set1_epi16(static_cast<int16_t>(0xbfff)));
    low = _mm512_cvtph_ps(_mm512_castsi512_si256(half));
    high = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(half, 1));
  }
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(_mm512_mul_ps(high, scale), _mm512_mul_ps(low, scale)));
}

inline __mmask32 FirstOf32(int64_t count) { return static_cast<__mmask32>(count >= 32 ? ~0u : (1u << count) - 1); }

// The range's values, as LoadKvRow gives them, rounded to bf16.
template <bool kInt8>
FATHOM_TARGET void UnpackRow(const PackedRange& range, const std::byte* row, uint16_t* out) {
  constexpr float kFactor = kInt8 ? 1.0f : 256.0f;  // Unpack32's f16
  const std::byte* scales = row + range.scales;
  int64_t i = range.first;
  for (int64_t group_end = range.first_group_end; i < range.codes_end; group_end += range.group, scales += 4) {
    const int64_t next = std::min(range.codes_end, group_end);
    float scale_value;
    __builtin_memcpy(&scale_value, scales, 4);
    const __m512 scale = _mm512_set1_ps(scale_value * kFactor);
    for (; i + 32 <= next; i += 32) {
      const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + i));
      _mm512_storeu_si512(out + (i - range.first), Unpack32<kInt8>(codes, scale));
    }
    if (i == next) continue;
    const __mmask32 mask = FirstOf32(next - i);
    _mm512_mask_storeu_epi16(out + (i - range.first), mask,
                             Unpack32<kInt8>(_mm256_maskz_loadu_epi8(mask, row + i), scale));
    i = next;
  }
  for (; i < range.end; i += 32) {
    const __mmask32 mask = FirstOf32(range.end - i);
    _mm512_mask_storeu_epi16(out + (i - range.first), mask, _mm512_maskz_loadu_epi16(mask, row + range.tail + i * 2));
  }
}

FATHOM_TARGET void PreparePacked(const Shape& shape, const std::byte* data, int64_t count, std::byte* block) {
  const auto unpack = shape.dtype == DType::kI8 ? UnpackRow<true> : UnpackRow<false>;
  const PackedRange key_range(shape.row, shape.k_begin, shape.k_dim), value_range(shape.row, shape.v_begin, shape.v_dim);
  const int64_t stride = Stride(shape.k_dim), v_stride = Stride(shape.v_dim);
  std::byte* keys = block + ValueBytes(shape);
  std::byte* two_values = keys + kBlockRows * stride;
  for (int64_t r = 0; r < kBlockRows; r += 2) {
    const uint16_t* values[2] = {};
    for (int64_t j = 0; j < 2 && r + j < count; ++j) {
      const std::byte* row = data + (r + j) * shape.row_bytes;
      auto* key = reinterpret_cast<uint16_t*>(keys + (r + j) * stride);
      unpack(key_range, row, key);
      values[j] = key;
      if (shape.shared()) continue;
      auto* value = reinterpret_cast<uint16_t*>(two_values + j * v_stride);
      unpack(value_range, row, value);
      values[j] = value;
    }
    InterleaveValues(values[0], values[1], shape.v_dim, r, block);
  }
}

FATHOM_TARGET void PrepareBlock(const Shape& shape, const std::byte* data, int64_t count, std::byte* block) {
  if (shape.row.packed()) return PreparePacked(shape, data, count, block);
  const auto values = [&](int64_t r) {
    return r < count ? reinterpret_cast<const uint16_t*>(data + r * shape.row_bytes) + shape.v_begin : nullptr;
  };
  for (int64_t r = 0; r < kBlockRows; r += 2) InterleaveValues(values(r), values(r + 1), shape.v_dim, r, block);
}

FATHOM_TARGET inline __m512i BroadcastPair(const void* pair) {
  int32_t bits;
  __builtin_memcpy(&bits, pair, 4);
  return _mm512_set1_epi32(bits);
}

FATHOM_TARGET inline __m512 DotPairs(__m512 acc, __m512i lanes, __m512i pair) {
  return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(lanes), reinterpret_cast<__m512bh>(pair));
}

// What is wanted from memory next, a line between the multiplications at a time.
struct Ahead {
  const std::byte* at;
  const std::byte* end;
};

template <int kTiles, int kCount, int64_t kRowBytes>
FATHOM_TARGET inline void ScoreRows(const std::byte* const packed[kPair], int64_t pairs, const std::byte* keys,
                                    int64_t row_bytes, int64_t row, Ahead& ahead, float* const scores[kPair]) {
  if (kRowBytes > 0) row_bytes = kRowBytes;
  __m512 acc[kTiles][kCount];
  for (int t = 0; t < kTiles; ++t)
    for (int j = 0; j < kCount; ++j) acc[t][j] = _mm512_setzero_ps();
  for (int64_t p = 0; p < pairs; ++p) {
    if (ahead.at < ahead.end) {
      __builtin_prefetch(ahead.at);
      ahead.at += 64;
    }
    __m512i q[kTiles];
    for (int t = 0; t < kTiles; ++t) q[t] = _mm512_loadu_si512(packed[t] + p * 64);
#pragma GCC unroll 16
    for (int j = 0; j < kCount; ++j) {
      const __m512i key = BroadcastPair(keys + j * row_bytes + p * 4);
#pragma GCC unroll 2
      for (int t = 0; t < kTiles; ++t) acc[t][j] = DotPairs(acc[t][j], q[t], key);
    }
  }
  for (int t = 0; t < kTiles; ++t)
    for (int j = 0; j < kCount; ++j) _mm512_storeu_ps(scores[t] + (row + j) * kLanes, acc[t][j]);
}

template <int kTiles, int64_t kRowBytes>
FATHOM_TARGET void ScoreBlock(const Shape& shape, const std::byte* const packed[kPair], const std::byte* keys,
                              int64_t bytes, int64_t count, Ahead ahead, float* const scores[kPair]) {
  constexpr int kStep = kRows / kTiles;
  const int64_t pairs = shape.k_dim / 2;
  int64_t r = 0;
  for (; r + kStep <= count; r += kStep)
    ScoreRows<kTiles, kStep, kRowBytes>(packed, pairs, keys + r * bytes, bytes, r, ahead, scores);
  for (; r < count; ++r) ScoreRows<kTiles, 1, kRowBytes>(packed, pairs, keys + r * bytes, bytes, r, ahead, scores);
}

FATHOM_TARGET void Scores(const Shape& shape, const std::byte* const packed[kPair], int tiles, const std::byte* data,
                          const std::byte* block, int64_t count, const std::byte* next, int64_t next_bytes,
                          float* const scores[kPair]) {
  const bool unpacked = shape.row.packed();
  const std::byte* keys = unpacked ? block + ValueBytes(shape) : data + shape.k_begin * 2;
  const int64_t stride = unpacked ? Stride(shape.k_dim) : shape.row_bytes;
  const Ahead ahead{next, next + next_bytes};
  const auto score = stride == kMlaRowBytes ? (tiles == 2 ? ScoreBlock<2, kMlaRowBytes> : ScoreBlock<1, kMlaRowBytes>)
                                            : (tiles == 2 ? ScoreBlock<2, 0> : ScoreBlock<1, 0>);
  score(shape, packed, keys, stride, count, ahead, scores);
}

// Probabilities of a block as pairs of rows in bf16.
struct Pairs {
  alignas(64) __m512i p[kBlockRows / 2];
};

FATHOM_TARGET inline void PackProbabilities(const float* probabilities, int64_t count, Pairs& out) {
  for (int64_t r = 0; 2 * r < count; ++r) {
    const __m512 even = _mm512_loadu_ps(probabilities + 2 * r * kLanes);
    const __m512 odd =
        2 * r + 1 < count ? _mm512_loadu_ps(probabilities + (2 * r + 1) * kLanes) : _mm512_setzero_ps();
    const __m256i even16 = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(even));
    const __m256i odd16 = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(odd));
    out.p[r] = _mm512_or_si512(_mm512_cvtepu16_epi32(even16), _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd16), 16));
  }
}

// out[kCount][16 lanes] = out * factor + sum over row pairs of P[pair][lane] . V[pair][value], for values that exist
template <int kTiles, int kCount>
FATHOM_TARGET inline void ValueTile(const Pairs* p, int64_t pairs, const std::byte* values, const __m512* factor,
                                    int64_t count, float* const out[kPair], int64_t at) {
  __m512 acc[kTiles][kCount];
  for (int t = 0; t < kTiles; ++t)
    for (int j = 0; j < kCount; ++j)
      acc[t][j] = j < count ? _mm512_mul_ps(_mm512_loadu_ps(out[t] + (at + j) * kLanes), factor[t]) : _mm512_setzero_ps();
  for (int64_t r = 0; r < pairs; ++r) {
    __m512i lanes[kTiles];
    for (int t = 0; t < kTiles; ++t) lanes[t] = _mm512_load_si512(&p[t].p[r]);
#pragma GCC unroll 16
    for (int j = 0; j < kCount; ++j) {
      const __m512i value = BroadcastPair(values + r * 64 + j * 4);
#pragma GCC unroll 2
      for (int t = 0; t < kTiles; ++t) acc[t][j] = DotPairs(acc[t][j], lanes[t], value);
    }
  }
  for (int t = 0; t < kTiles; ++t)
    for (int j = 0; j < kCount; ++j)
      if (j < count) _mm512_storeu_ps(out[t] + (at + j) * kLanes, acc[t][j]);
}

template <int kTiles>
FATHOM_TARGET void ValueBlock(const Shape& shape, float* const probabilities[kPair], const std::byte* block,
                              int64_t count, const float* const factor[kPair], float* const out[kPair]) {
  constexpr int kStep = kRows / kTiles;
  Pairs p[kTiles];
  __m512 f[kTiles];
  for (int t = 0; t < kTiles; ++t) {
    PackProbabilities(probabilities[t], count, p[t]);
    f[t] = _mm512_loadu_ps(factor[t]);
  }
  for (int64_t i = 0; i < shape.v_dim; i += kStep)
    ValueTile<kTiles, kStep>(p, (count + 1) / 2, block + i / 16 * (kBlockRows / 2) * 64 + i % 16 * 4, f,
                             std::min<int64_t>(kStep, shape.v_dim - i), out, i);
}

FATHOM_TARGET void Values(const Shape& shape, float* const probabilities[kPair], int tiles, const std::byte*,
                          const std::byte* block, int64_t count, const float* const factor[kPair],
                          float* const out[kPair]) {
  (tiles == 2 ? ValueBlock<2> : ValueBlock<1>)(shape, probabilities, block, count, factor, out);
}

}  // namespace

const Core* Bf16Core() {
  static const bool supported = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                                __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                                __builtin_cpu_supports("avx512bf16");
  static const Core core = {
      .name = "avx512-bf16",
      .query_bytes = QueryBytes,
      .block_bytes = BlockBytes,
      .pack_queries = PackQueries,
      .prepare_block = PrepareBlock,
      .scores = Scores,
      .softmax = PortableCore().softmax,
      .values = Values,
      .write = Write,
      .merge = PortableCore().merge,
  };
  return supported ? &core : nullptr;
}

}  // namespace fathom::attention

#else

namespace fathom::attention {
const Core* Bf16Core() { return nullptr; }
}  // namespace fathom::attention

#endif
