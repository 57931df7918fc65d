// AVX-512 with VNNI and, for the ceiling only, BF16: Ice Lake, Zen 4 and later.
#include "kernels/cpu/kernel_table.h"

#if defined(__x86_64__)

// GCC 12 takes the undefined operands inside its own AVX-512 intrinsics for mistakes (GCC bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <immintrin.h>

#include "base/cpu_features.h"
#include "kernels/matmul.h"
#include "tensor/blocks.h"

#define FATHOM_TARGET "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"
#define FATHOM_VEC_ASM(v) "+v"(v)
#include "kernels/cpu/target_begin.h"

namespace fathom {
namespace avx512 {
namespace {

#include "kernels/cpu/vec_avx512.h"

#include "kernels/cpu/panels-inl.h"

}  // namespace
}  // namespace avx512
}  // namespace fathom

#include "kernels/cpu/target_end.h"
#undef FATHOM_TARGET
#define FATHOM_TARGET "avx512f,avx512bf16"
#include "kernels/cpu/target_begin.h"

namespace fathom {
namespace avx512 {
namespace {

int64_t Bf16Peak(int64_t rounds, float* sink) {
  constexpr int kChains = 12;
  __m512 sum[kChains];
  const __m512bh w = (__m512bh)_mm512_set1_epi32(0x3f803f80), x = (__m512bh)_mm512_set1_epi32(0x3f003f00);
  FATHOM_UNROLL
  for (int i = 0; i < kChains; ++i) sum[i] = _mm512_set1_ps(*sink);
  for (int64_t r = 0; r < rounds; ++r) {
    FATHOM_UNROLL
    for (int i = 0; i < kChains; ++i) sum[i] = _mm512_dpbf16_ps(sum[i], w, x);
    FATHOM_UNROLL
    for (int i = 0; i < kChains; ++i) asm volatile("" : FATHOM_VEC_ASM(sum[i]));
  }
  FATHOM_UNROLL
  for (int i = 1; i < kChains; ++i) sum[0] = _mm512_add_ps(sum[0], sum[i]);
  *sink = _mm512_cvtss_f32(sum[0]);
  return rounds * kChains * 32 * 2;
}

}  // namespace
}  // namespace avx512
}  // namespace fathom

#include "kernels/cpu/target_end.h"

namespace fathom {

extern const KernelTable kAvx512Kernels;
const KernelTable kAvx512Kernels = {
    .name = "avx512-vnni",
    .supported = [] { return Cpu().avx512_vnni; },
    .quantize = avx512::Quantize,
    .panel = avx512::FindPanel,
    .read_stream = avx512::ReadStream,
    .int8_peak = avx512::Int8Peak,
    .f32_peak = avx512::F32Peak,
    .bf16_peak = avx512::Bf16Peak,
};

}  // namespace fathom

#endif
