// Attention core for caches in bf16 on machines with AVX-512 BF16: vdpbf16ps multiplies pairs, 32 products an
// instruction, with the key or value pair broadcast from memory. Queries and probabilities are rounded to bf16. Rows in
// 8 bits are first unpacked to bf16 in the block's scratch, which the L2 cache holds.
#include "kernels/attention_core.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>

#define FATHOM_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

namespace fathom::attention {
namespace {

constexpr int kRows = 16;  // accumulators: enough to hide the latency of two multiplications a cycle

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

inline uint16_t RoundBf16(float f) {
  uint32_t bits;
  __builtin_memcpy(&bits, &f, 4);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

void PackQueries(const Shape& shape, const float* const rows[kLanes], float scale, std::byte* packed) {
  uint16_t* out = reinterpret_cast<uint16_t*>(packed);
  for (int lane = 0; lane < kLanes; ++lane) {
    const float* row = rows[lane];
    for (int64_t i = 0; i < shape.k_dim; ++i)
      out[(i / 2 * kLanes + lane) * 2 + i % 2] = row == nullptr ? 0 : RoundBf16(row[i] * scale);
  }
}

// Values of rows r and r + 1 into the prepared block; nullptr: zeros.
FATHOM_TARGET inline void InterleaveValues(const uint16_t* a, const uint16_t* b, int64_t v_dim, int64_t r,
                                           std::byte* block) {
  const __m512i interleave = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22,
                                              6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  for (int64_t i = 0; i < v_dim; i += 16) {
    const __mmask16 mask = static_cast<__mmask16>((1u << std::min<int64_t>(16, v_dim - i)) - 1);
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

FATHOM_TARGET inline __m512 DotPairs(__m512 acc, __m512i lanes, const void* pair) {
  int32_t bits;
  __builtin_memcpy(&bits, pair, 4);
  return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(lanes), reinterpret_cast<__m512bh>(_mm512_set1_epi32(bits)));
}

template <int kCount>
FATHOM_TARGET inline void ScoreRows(const std::byte* packed, int64_t pairs, const std::byte* keys, int64_t row_bytes,
                                    float* scores) {
  __m512 acc[kCount];
  for (int j = 0; j < kCount; ++j) acc[j] = _mm512_setzero_ps();
  for (int64_t p = 0; p < pairs; ++p) {
    const __m512i q = _mm512_loadu_si512(packed + p * 64);
#pragma GCC unroll 16
    for (int j = 0; j < kCount; ++j) acc[j] = DotPairs(acc[j], q, keys + j * row_bytes + p * 4);
  }
  for (int j = 0; j < kCount; ++j) _mm512_storeu_ps(scores + j * kLanes, acc[j]);
}

FATHOM_TARGET void Scores(const Shape& shape, const std::byte* packed, const std::byte* data, const std::byte* block,
                          int64_t count, float* scores) {
  const bool unpacked = shape.row.packed();
  const std::byte* keys = unpacked ? block + ValueBytes(shape) : data + shape.k_begin * 2;
  const int64_t stride = unpacked ? Stride(shape.k_dim) : shape.row_bytes;
  int64_t r = 0;
  for (; r + kRows <= count; r += kRows)
    ScoreRows<kRows>(packed, shape.k_dim / 2, keys + r * stride, stride, scores + r * kLanes);
  for (; r < count; ++r)
    ScoreRows<1>(packed, shape.k_dim / 2, keys + r * stride, stride, scores + r * kLanes);
}

// out[16][16 lanes] (+)= sum over row pairs of P[pair][lane] . V[pair][value]
FATHOM_TARGET inline void ValueTile(const __m512i* p, int64_t pairs, const std::byte* values, __m512 factor,
                                    bool scale_out, int64_t count, float* out) {
  __m512 acc[16];
  for (int j = 0; j < 16; ++j) {
    acc[j] = j < count ? _mm512_loadu_ps(out + j * kLanes) : _mm512_setzero_ps();
    if (scale_out) acc[j] = _mm512_mul_ps(acc[j], factor);
  }
  for (int64_t r = 0; r < pairs; ++r) {
    const __m512i lanes = _mm512_load_si512(p + r);
#pragma GCC unroll 16
    for (int j = 0; j < 16; ++j) acc[j] = DotPairs(acc[j], lanes, values + r * 64 + j * 4);
  }
  for (int j = 0; j < 16; ++j)
    if (j < count) _mm512_storeu_ps(out + j * kLanes, acc[j]);
}

FATHOM_TARGET void Values(const Shape& shape, float* probabilities, const std::byte*, const std::byte* block,
                          int64_t count, const float* factor, bool scale_out, float* out) {
  const int64_t pairs = (count + 1) / 2;
  alignas(64) __m512i p[kBlockRows / 2];
  for (int64_t r = 0; r < pairs; ++r) {
    const __m512 even = _mm512_loadu_ps(probabilities + 2 * r * kLanes);
    const __m512 odd =
        2 * r + 1 < count ? _mm512_loadu_ps(probabilities + (2 * r + 1) * kLanes) : _mm512_setzero_ps();
    const __m256i even16 = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(even));
    const __m256i odd16 = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(odd));
    p[r] = _mm512_or_si512(_mm512_cvtepu16_epi32(even16), _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd16), 16));
  }
  const __m512 f = _mm512_loadu_ps(factor);
  for (int64_t i = 0; i < shape.v_dim; i += 16)
    ValueTile(p, pairs, block + i / 16 * (kBlockRows / 2) * 64, f, scale_out, std::min<int64_t>(16, shape.v_dim - i),
              out + i * kLanes);
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
