// Attention core in int8 for MLA's absorbed form on machines with AVX-512 VNNI and BF16: vpdpbusd multiplies four pairs of
// bytes a lane, 64 products an instruction, twice as many as vdpbf16ps.
//
// Latents (the first v_dim values of a row, keys and values alike) and queries become int8 with one scale for each 128 of
// a row: x ≈ scale * code, |error| <= largest / 254. The rope part is multiplied in bf16: it is short, and what tells
// positions apart. Probabilities, times the scale of the row that they weigh, become bytes with one scale for each
// block of 64 rows, lane and 128 values: |error| <= largest / 510. Every scale belongs to one row of keys or to one query
// and what it sees, so nothing depends on what else is computed; sums of codes are exact.
#include "kernels/attention_core.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "kernels/cpu/attention_avx512.h"

#define FATHOM_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vnni")))

namespace fathom::attention {
namespace {

constexpr int kRows = 16;  // accumulators, as in the bf16 core
constexpr int64_t kGroup = 128;
constexpr int64_t kMlaLatent = 512;

int64_t Groups(const Shape& shape) { return (shape.v_dim + kGroup - 1) / kGroup; }
int64_t Tail(const Shape& shape) { return shape.k_dim - shape.v_dim; }

// Packed queries: codes [v_dim / 4][16 lanes][4], rope parts [tail / 2][16][2] in bf16, then for each group 16 int32
// that undo the keys' offset of 128, and 16 scales.
struct QueryLayout {
  explicit QueryLayout(const Shape& shape)
      : tail(shape.v_dim / 4 * 64), bias(tail + Tail(shape) / 2 * 64), scale(bias + Groups(shape) * 64),
        total(scale + Groups(shape) * 64) {}
  int64_t tail, bias, scale, total;
};

// A prepared block: values [v_dim / 16][16 row quads][16][4], keys [64 rows][v_dim] with an offset of 128, rope parts
// [64][tail] in bf16, and the scales [groups][64 rows].
struct BlockLayout {
  explicit BlockLayout(const Shape& shape)
      : keys(shape.v_dim * kBlockRows), tail(2 * keys), tail_stride(Tail(shape) * 2),
        scales((tail + kBlockRows * tail_stride + 63) / 64 * 64), total(scales + Groups(shape) * kBlockRows * 4) {}
  int64_t keys, tail, tail_stride, scales, total;
};

int64_t QueryBytes(const Shape& shape) { return QueryLayout(shape).total; }
int64_t BlockBytes(const Shape& shape) { return BlockLayout(shape).total; }

struct Scales {
  float scale, inverse;
};

// Of a group whose largest magnitude has these bits: not a number when a value is not finite.
inline Scales ScaleOf(uint32_t bits) {
  float largest;
  std::memcpy(&largest, &bits, 4);
  if (bits >= 0x7f800000u) return {__builtin_nanf(""), 0.0f};
  if (largest < 1e-30f) return {0.0f, 0.0f};
  return {largest / 127.0f, 127.0f / largest};
}

// Quantises `vectors` (up to 8) vectors of 16 values to codes; returns the scale.
FATHOM_TARGET inline float QuantizeGroup(const __m512* x, int64_t vectors, int8_t* codes) {
  __m512i largest = _mm512_setzero_si512();
  for (int64_t i = 0; i < vectors; ++i)
    largest = _mm512_max_epu32(largest, _mm512_and_si512(_mm512_castps_si512(x[i]), _mm512_set1_epi32(0x7fffffff)));
  const Scales scales = ScaleOf(_mm512_reduce_max_epu32(largest));
  const __m512 inverse = _mm512_set1_ps(scales.inverse);
  for (int64_t i = 0; i < vectors; ++i)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i * 16),
                     _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(x[i], inverse))));
  return scales.scale;
}

FATHOM_TARGET void PackQueries(const Shape& shape, const float* const rows[kLanes], float scale, std::byte* packed) {
  const QueryLayout layout(shape);
  const __m512 by = _mm512_set1_ps(scale);
  alignas(64) int8_t codes[kLanes][kGroup] = {};
  for (int64_t g = 0; g < Groups(shape); ++g) {
    const int64_t begin = g * kGroup, count = std::min(kGroup, shape.v_dim - begin);
    float* scales = reinterpret_cast<float*>(packed + layout.scale) + g * kLanes;
    for (int lane = 0; lane < kLanes; ++lane) {
      scales[lane] = 0.0f;
      if (rows[lane] == nullptr) {
        std::memset(codes[lane], 0, kGroup);
        continue;
      }
      __m512 x[kGroup / 16];
      for (int64_t i = 0; i < count / 16; ++i) x[i] = _mm512_mul_ps(_mm512_loadu_ps(rows[lane] + begin + i * 16), by);
      scales[lane] = QuantizeGroup(x, count / 16, codes[lane]);
    }
    __m512i sum = _mm512_setzero_si512();
    for (int64_t i = 0; i < count; i += 64) {
      __m512i x[16];
      for (int lane = 0; lane < kLanes; ++lane) x[lane] = _mm512_load_si512(codes[lane] + i);
      Transpose(x);
      for (int64_t quad = 0; quad < std::min<int64_t>(16, (count - i) / 4); ++quad) {
        _mm512_storeu_si512(packed + ((begin + i) / 4 + quad) * 64, x[quad]);
        sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), x[quad]);
      }
    }
    _mm512_storeu_si512(packed + layout.bias + g * 64,
                        _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(sum, 7)));
  }
  for (int64_t i = 0; i < Tail(shape); i += 32) {
    const __mmask16 low = FirstOf(Tail(shape) - i), high = FirstOf(Tail(shape) - i - 16);
    __m512i x[16];
    for (int lane = 0; lane < kLanes; ++lane) {
      x[lane] = _mm512_setzero_si512();
      if (rows[lane] == nullptr) continue;
      const float* row = rows[lane] + shape.v_dim + i;
      const __m512 a = _mm512_mul_ps(_mm512_maskz_loadu_ps(low, row), by);
      const __m512 b = high == 0 ? _mm512_setzero_ps() : _mm512_mul_ps(_mm512_maskz_loadu_ps(high, row + 16), by);
      x[lane] = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b, a));
    }
    Transpose(x);
    for (int64_t p = 0; p < std::min<int64_t>(16, (Tail(shape) - i) / 2); ++p)
      _mm512_storeu_si512(packed + layout.tail + (i / 2 + p) * 64, x[p]);
  }
}

// Bits of the largest magnitude of `count` bf16 values, a multiple of 32, as those of an f32.
FATHOM_TARGET inline uint32_t LargestBf16(const std::byte* x, int64_t count) {
  __m512i largest = _mm512_setzero_si512();
  for (int64_t i = 0; i < count; i += 32)
    largest = _mm512_max_epu16(largest, _mm512_and_si512(_mm512_loadu_si512(x + i * 2), _mm512_set1_epi16(0x7fff)));
  const __m256i half = _mm256_max_epu16(_mm512_castsi512_si256(largest), _mm512_extracti64x4_epi64(largest, 1));
  const __m128i eight = _mm_max_epu16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  const __m128i least = _mm_minpos_epu16(_mm_xor_si128(eight, _mm_set1_epi16(-1)));
  return (0xffffu ^ static_cast<uint32_t>(_mm_extract_epi16(least, 0))) << 16;
}

// Keys of a row in bf16: codes with their offset.
FATHOM_TARGET inline void QuantizeBf16(const std::byte* x, int64_t count, float inverse, std::byte* keys) {
  const __m512 by = _mm512_set1_ps(inverse);
  const __m256i offset = _mm256_set1_epi8(-128);
  for (int64_t i = 0; i < count; i += 32) {
    const __m512i both = _mm512_loadu_si512(x + i * 2);
    const __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
    const __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
    const __m512i low = _mm512_cvtps_epi32(_mm512_mul_ps(even, by));
    const __m512i high = _mm512_slli_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(odd, by)), 16);
    const __m256i codes = _mm512_cvtsepi16_epi8(_mm512_mask_blend_epi16(0xaaaaaaaau, low, high));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(keys + i), _mm256_xor_si256(codes, offset));
  }
}

// Scales for groups whose largest magnitudes (times `levels`) have these bits, and what values are multiplied by: not a
// number and zero where a value is not finite, zero where all are next to nothing.
FATHOM_TARGET inline __m512 ScalesOf(__m512i bits, float levels, __mmask16* some) {
  const __mmask16 finite = _mm512_cmplt_epu32_mask(bits, _mm512_set1_epi32(0x7f800000));
  const __m512 largest = _mm512_castsi512_ps(bits);
  *some = _mm512_mask_cmp_ps_mask(finite, largest, _mm512_set1_ps(1e-30f), _CMP_GE_OQ);
  return _mm512_mask_mov_ps(_mm512_set1_ps(__builtin_nanf("")), finite,
                            _mm512_maskz_div_ps(*some, largest, _mm512_set1_ps(levels)));
}

FATHOM_TARGET void QuantizeRows(const Shape& shape, const std::byte* data, int64_t count, std::byte* keys,
                                float* scales) {
  for (int64_t g = 0; g < Groups(shape); ++g) {
    const int64_t begin = g * kGroup, values = std::min(kGroup, shape.v_dim - begin);
    alignas(64) uint32_t largest[kBlockRows] = {};
    alignas(64) float inverse[kBlockRows];
    for (int64_t r = 0; r < count; ++r) largest[r] = LargestBf16(data + r * shape.row_bytes + begin * 2, values);
    for (int64_t r = 0; r < kBlockRows; r += 16) {  // all divisions at once
      const __m512i bits = _mm512_load_si512(largest + r);
      __mmask16 some;
      _mm512_storeu_ps(scales + g * kBlockRows + r, ScalesOf(bits, 127.0f, &some));
      _mm512_store_ps(inverse + r, _mm512_maskz_div_ps(some, _mm512_set1_ps(127.0f), _mm512_castsi512_ps(bits)));
    }
    for (int64_t r = 0; r < count; ++r)
      QuantizeBf16(data + r * shape.row_bytes + begin * 2, values, inverse[r], keys + r * shape.v_dim + begin);
  }
}

// Rows in int8 whose groups are a quarter, a half or the whole of ours: codes are multiplied by their scale's share of the
// largest in our group, in 15 bits.
FATHOM_TARGET void RescaleRows(const Shape& shape, const std::byte* data, int64_t count, std::byte* keys,
                               float* scales) {
  const int64_t fine = shape.row.group, in_group = kGroup / fine, parts = shape.v_dim / fine;
  const __m256i offset = _mm256_set1_epi8(-128);
  for (int64_t r = 0; r < count; ++r) {
    const std::byte* row = data + r * shape.row_bytes;
    std::byte* key = keys + r * shape.v_dim;
    for (int64_t first = 0; first < parts; first += 16) {
      const __m512 own = _mm512_maskz_loadu_ps(FirstOf(parts - first), row + shape.row.scales_at() + first * 4);
      __m512i bits = _mm512_and_si512(_mm512_castps_si512(own), _mm512_set1_epi32(0x7fffffff));
      if (in_group >= 2) bits = _mm512_max_epu32(bits, _mm512_shuffle_epi32(bits, _MM_PERM_CDAB));
      if (in_group >= 4) bits = _mm512_max_epu32(bits, _mm512_shuffle_epi32(bits, _MM_PERM_BADC));
      __mmask16 some;
      alignas(64) float scale[16];
      alignas(64) int32_t shares[16];
      _mm512_store_ps(scale, ScalesOf(bits, 1.0f, &some));
      const __m512 share = _mm512_maskz_div_ps(some, own, _mm512_castsi512_ps(bits));
      _mm512_store_si512(shares, _mm512_min_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(share, _mm512_set1_ps(32768.0f))),
                                                  _mm512_set1_epi32(32767)));
      const int64_t end = std::min<int64_t>(16, parts - first);
      for (int64_t part = 0; part < end; part += in_group)
        scales[(first + part) / in_group * kBlockRows + r] = scale[part];
      for (int64_t part = 0; part < end; ++part) {
        const __m512i by = _mm512_set1_epi16(static_cast<int16_t>(shares[part]));
        for (int64_t i = (first + part) * fine; i < (first + part + 1) * fine; i += 32) {
          const __m512i codes = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + i)));
          const __m256i scaled = _mm512_cvtsepi16_epi8(_mm512_mulhrs_epi16(codes, by));
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(key + i), _mm256_xor_si256(scaled, offset));
        }
      }
    }
  }
}

FATHOM_TARGET void PrepareBlock(const Shape& shape, const std::byte* data, int64_t count, std::byte* block) {
  const BlockLayout layout(shape);
  const bool packed = shape.row.packed();
  (packed ? RescaleRows : QuantizeRows)(shape, data, count, block + layout.keys,
                                        reinterpret_cast<float*>(block + layout.scales));
  const int64_t tail_at = packed ? shape.row.tail_at() : shape.v_dim * 2;
  for (int64_t r = 0; r < count; ++r)
    std::memcpy(block + layout.tail + r * layout.tail_stride, data + r * shape.row_bytes + tail_at, layout.tail_stride);
  for (int64_t r = count; r % 4 != 0; ++r)  // rows that fill the last quad weigh nothing
    std::memset(block + layout.keys + r * shape.v_dim, 0x80, shape.v_dim);
  const __m512i by_bytes = _mm512_broadcast_i32x4(_mm_set_epi8(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0));
  const __m512i by_words = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
  const __m512i offset = _mm512_set1_epi8(-128);
  for (int64_t quad = 0; quad * 4 < count; ++quad) {  // nothing reads beyond the last quad
    const std::byte* keys = block + layout.keys + quad * 4 * shape.v_dim;
    for (int64_t i = 0; i < shape.v_dim; i += 16) {
      const auto row = [&](int64_t r) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(keys + r * shape.v_dim + i));
      };
      __m512i four = _mm512_inserti32x4(_mm512_castsi128_si512(row(0)), row(1), 1);
      four = _mm512_inserti32x4(_mm512_inserti32x4(four, row(2), 2), row(3), 3);
      // Words of the four rows side by side, then their bytes.
      const __m512i bytes = _mm512_shuffle_epi8(_mm512_permutexvar_epi32(by_words, four), by_bytes);
      _mm512_storeu_si512(block + (i / 16 * (kBlockRows / 4) + quad) * 64, _mm512_xor_si512(bytes, offset));
    }
  }
}

FATHOM_TARGET inline __m512i BroadcastWord(const void* at) {
  int32_t bits;
  __builtin_memcpy(&bits, at, 4);
  return _mm512_set1_epi32(bits);
}

// acc += unsigned bytes x signed bytes. Assembly, since g++ 12 copies every accumulator twice around the intrinsic.
FATHOM_TARGET inline void Dot(__m512i& acc, __m512i bytes, __m512i signed_bytes) {
  asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(bytes), "v"(signed_bytes));
}

// What is wanted from memory next, two lines between the multiplications at a time: 16 rows take 160 steps, and up to 288
// lines.
struct Ahead {
  const std::byte* at;
  const std::byte* end;
  void Fetch() {
    if (at >= end) return;
    __builtin_prefetch(at);
    __builtin_prefetch(at + 64);
    at += 128;
  }
};

template <int kTiles, int kCount, int64_t kLatent>
FATHOM_TARGET inline void ScoreRows(const Shape& shape, const std::byte* const packed[kPair], const std::byte* block,
                                    int64_t row, Ahead& ahead, float* const scores[kPair]) {
  const int64_t latent = kLatent > 0 ? kLatent : shape.v_dim;
  const QueryLayout query(shape);
  const BlockLayout layout(shape);
  {
    const std::byte* tail = block + layout.tail + row * layout.tail_stride;
    __m512 acc[kTiles][kCount];
    for (int t = 0; t < kTiles; ++t)
      for (int j = 0; j < kCount; ++j) acc[t][j] = _mm512_setzero_ps();
    for (int64_t p = 0; p < Tail(shape) / 2; ++p) {
      ahead.Fetch();
      __m512i q[kTiles];
      for (int t = 0; t < kTiles; ++t) q[t] = _mm512_loadu_si512(packed[t] + query.tail + p * 64);
#pragma GCC unroll 16
      for (int j = 0; j < kCount; ++j) {
        const __m512i key = BroadcastWord(tail + j * layout.tail_stride + p * 4);
#pragma GCC unroll 2
        for (int t = 0; t < kTiles; ++t)
          acc[t][j] = _mm512_dpbf16_ps(acc[t][j], reinterpret_cast<__m512bh>(q[t]), reinterpret_cast<__m512bh>(key));
      }
    }
    for (int t = 0; t < kTiles; ++t)
      for (int j = 0; j < kCount; ++j) _mm512_storeu_ps(scores[t] + (row + j) * kLanes, acc[t][j]);
  }
  for (int64_t g = 0; g * kGroup < latent; ++g) {
    const std::byte* keys = block + layout.keys + row * latent + g * kGroup;
    __m512i acc[kTiles][kCount];
    for (int t = 0; t < kTiles; ++t)
      for (int j = 0; j < kCount; ++j) acc[t][j] = _mm512_loadu_si512(packed[t] + query.bias + g * 64);
    const int64_t quads = std::min(kGroup, latent - g * kGroup) / 4;
    for (int64_t c = 0; c < quads; ++c) {
      ahead.Fetch();
      __m512i q[kTiles];
      for (int t = 0; t < kTiles; ++t) q[t] = _mm512_loadu_si512(packed[t] + (g * (kGroup / 4) + c) * 64);
#pragma GCC unroll 16
      for (int j = 0; j < kCount; ++j) {
        const __m512i key = BroadcastWord(keys + j * latent + c * 4);
#pragma GCC unroll 2
        for (int t = 0; t < kTiles; ++t) Dot(acc[t][j], key, q[t]);
      }
    }
    const float* row_scales = reinterpret_cast<const float*>(block + layout.scales) + g * kBlockRows + row;
    for (int t = 0; t < kTiles; ++t) {
      const __m512 lane_scales = _mm512_loadu_ps(packed[t] + query.scale + g * 64);
      for (int j = 0; j < kCount; ++j) {
        float* score = scores[t] + (row + j) * kLanes;
        const __m512 part = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[t][j]), lane_scales);
        _mm512_storeu_ps(score, _mm512_fmadd_ps(part, _mm512_set1_ps(row_scales[j]), _mm512_loadu_ps(score)));
      }
    }
  }
}

template <int kTiles, int64_t kLatent>
FATHOM_TARGET void ScoreBlock(const Shape& shape, const std::byte* const packed[kPair], const std::byte* block,
                              int64_t count, Ahead ahead, float* const scores[kPair]) {
  constexpr int kStep = kRows / kTiles;
  int64_t r = 0;
  for (; r + kStep <= count; r += kStep) ScoreRows<kTiles, kStep, kLatent>(shape, packed, block, r, ahead, scores);
  for (; r < count; ++r) ScoreRows<kTiles, 1, kLatent>(shape, packed, block, r, ahead, scores);
}

FATHOM_TARGET void Scores(const Shape& shape, const std::byte* const packed[kPair], int tiles, const std::byte*,
                          const std::byte* block, int64_t count, const std::byte* next, int64_t next_bytes,
                          float* const scores[kPair]) {
  const auto score = shape.v_dim == kMlaLatent ? (tiles == 2 ? ScoreBlock<2, kMlaLatent> : ScoreBlock<1, kMlaLatent>)
                                               : (tiles == 2 ? ScoreBlock<2, 0> : ScoreBlock<1, 0>);
  score(shape, packed, block, count, {next, next + next_bytes}, scores);
}

// Probabilities of a block times the rows' scales, as bytes of four rows side by side.
struct Quads {
  alignas(64) __m512i p[kBlockRows / 4];
  __m512 scale;
};

FATHOM_TARGET inline void PackProbabilities(const float* probabilities, const float* row_scales, int64_t count,
                                            Quads& out) {
  __m512 weight[kBlockRows];
  __m512 most[4];
  for (int j = 0; j < 4; ++j) most[j] = _mm512_setzero_ps();
  for (int64_t r = 0; r < count; r += 4) {
    for (int64_t j = 0; j < 4; ++j) {
      weight[r + j] = _mm512_setzero_ps();
      if (r + j < count)
        weight[r + j] = _mm512_mul_ps(_mm512_loadu_ps(probabilities + (r + j) * kLanes), _mm512_set1_ps(row_scales[r + j]));
      most[j] = _mm512_max_ps(most[j], weight[r + j]);  // keeps a NaN in the last rows, which is where all are NaN
    }
  }
  const __m512 largest = _mm512_max_ps(_mm512_max_ps(most[0], most[1]), _mm512_max_ps(most[2], most[3]));
  const __mmask16 some = _mm512_cmp_ps_mask(largest, _mm512_set1_ps(1e-30f), _CMP_NLT_UQ);
  const __m512 inverse = _mm512_maskz_div_ps(some, _mm512_set1_ps(255.0f), largest);
  out.scale = _mm512_maskz_mul_ps(some, largest, _mm512_set1_ps(1.0f / 255.0f));
  for (int64_t r = 0; r < count; r += 4) {
    __m512i word = _mm512_cvtps_epi32(_mm512_mul_ps(weight[r], inverse));
    for (int j = 1; j < 4; ++j)
      word = _mm512_or_si512(word, _mm512_slli_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(weight[r + j], inverse)), 8 * j));
    out.p[r / 4] = word;
  }
}

template <int kTiles, int kCount>
FATHOM_TARGET inline void ValueTile(const Quads* p, int64_t quads, const std::byte* values, const __m512* factor,
                                    float* const out[kPair], int64_t at) {
  __m512i acc[kTiles][kCount];
  for (int t = 0; t < kTiles; ++t)
    for (int j = 0; j < kCount; ++j) acc[t][j] = _mm512_setzero_si512();
  for (int64_t r = 0; r < quads; ++r) {
    __m512i lanes[kTiles];
    for (int t = 0; t < kTiles; ++t) lanes[t] = _mm512_load_si512(&p[t].p[r]);
#pragma GCC unroll 16
    for (int j = 0; j < kCount; ++j) {
      const __m512i value = BroadcastWord(values + r * 64 + j * 4);
#pragma GCC unroll 2
      for (int t = 0; t < kTiles; ++t) Dot(acc[t][j], lanes[t], value);
    }
  }
  for (int t = 0; t < kTiles; ++t)
    for (int j = 0; j < kCount; ++j) {
      float* to = out[t] + (at + j) * kLanes;
      const __m512 before = _mm512_mul_ps(_mm512_loadu_ps(to), factor[t]);
      _mm512_storeu_ps(to, _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[t][j]), p[t].scale, before));
    }
}

template <int kTiles>
FATHOM_TARGET void ValueBlock(const Shape& shape, float* const probabilities[kPair], const std::byte* block,
                              int64_t count, const float* const factor[kPair], float* const out[kPair]) {
  constexpr int kStep = kRows / kTiles;
  const float* scales = reinterpret_cast<const float*>(block + BlockLayout(shape).scales);
  Quads p[kTiles];
  __m512 f[kTiles];
  for (int t = 0; t < kTiles; ++t) f[t] = _mm512_loadu_ps(factor[t]);
  for (int64_t g = 0; g < Groups(shape); ++g) {
    for (int t = 0; t < kTiles; ++t) PackProbabilities(probabilities[t], scales + g * kBlockRows, count, p[t]);
    const int64_t end = std::min(shape.v_dim, (g + 1) * kGroup);
    for (int64_t i = g * kGroup; i < end; i += kStep)
      ValueTile<kTiles, kStep>(p, (count + 3) / 4, block + i / 16 * (kBlockRows / 4) * 64 + i % 16 * 4, f, out, i);
  }
}

FATHOM_TARGET void Values(const Shape& shape, float* const probabilities[kPair], int tiles, const std::byte*,
                          const std::byte* block, int64_t count, const float* const factor[kPair],
                          float* const out[kPair]) {
  (tiles == 2 ? ValueBlock<2> : ValueBlock<1>)(shape, probabilities, block, count, factor, out);
}

}  // namespace

const Core* Int8Core() {
  const Core* bf16 = Bf16Core();
  static const bool supported = bf16 != nullptr && __builtin_cpu_supports("avx512vnni");
  static const Core core = {
      .name = "avx512-vnni",
      .query_bytes = QueryBytes,
      .block_bytes = BlockBytes,
      .pack_queries = PackQueries,
      .prepare_block = PrepareBlock,
      .scores = Scores,
      .softmax = PortableCore().softmax,
      .values = Values,
      .write = supported ? bf16->write : nullptr,
      .merge = PortableCore().merge,
  };
  return supported ? &core : nullptr;
}

bool Int8CoreTakes(const Shape& shape) {
  if (!shape.shared() || shape.k_begin != 0 || shape.v_dim % 32 != 0 || shape.v_dim > shape.k_dim) return false;
  if (Tail(shape) % 2 != 0) return false;
  if (shape.dtype != DType::kI8) return shape.dtype == DType::kBF16;
  const KvRowFormat& row = shape.row;
  return row.values == shape.k_dim && row.tail == Tail(shape) && row.group % 32 == 0 && kGroup % row.group == 0 &&
         shape.v_dim % row.group == 0;
}

}  // namespace fathom::attention

#else

namespace fathom::attention {
const Core* Int8Core() { return nullptr; }
bool Int8CoreTakes(const Shape&) { return false; }
}  // namespace fathom::attention

#endif
