// AVX2 with FMA and F16C (Haswell, Zen 1 and later), twice: plain, and with AVX-VNNI (Alder Lake, Zen 5).
#include "kernels/cpu/kernel_table.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include "base/cpu_features.h"
#include "kernels/matmul.h"
#include "tensor/blocks.h"

#define FATHOM_VEC_ASM(v) "+x"(v)
#define FATHOM_TARGET "avx2,fma,f16c"
#include "kernels/cpu/target_begin.h"

namespace fathom {
namespace avx2 {
namespace {

#include "kernels/cpu/vec_avx2.h"

#include "kernels/cpu/panels-inl.h"

}  // namespace
}  // namespace avx2
}  // namespace fathom

#include "kernels/cpu/target_end.h"
#undef FATHOM_TARGET

#define FATHOM_AVX_VNNI 1
#define FATHOM_TARGET "avx2,fma,f16c,avxvnni"
#include "kernels/cpu/target_begin.h"

namespace fathom {
namespace avx_vnni {
namespace {

#include "kernels/cpu/vec_avx2.h"

#include "kernels/cpu/panels-inl.h"

}  // namespace
}  // namespace avx_vnni
}  // namespace fathom

#include "kernels/cpu/target_end.h"

namespace fathom {

extern const KernelTable kAvx2Kernels, kAvxVnniKernels;
const KernelTable kAvx2Kernels = {
    .name = "avx2",
    .supported = [] { return Cpu().avx2; },
    .quantize = avx2::Quantize,
    .panel = avx2::FindPanel,
    .read_stream = avx2::ReadStream,
    .int8_peak = avx2::Int8Peak,
    .f32_peak = avx2::F32Peak,
    .bf16_peak = nullptr,
};
const KernelTable kAvxVnniKernels = {
    .name = "avx2-vnni",
    .supported = [] { return Cpu().avx_vnni; },
    .quantize = avx_vnni::Quantize,
    .panel = avx_vnni::FindPanel,
    .read_stream = avx_vnni::ReadStream,
    .int8_peak = avx_vnni::Int8Peak,
    .f32_peak = avx_vnni::F32Peak,
    .bf16_peak = nullptr,
};

}  // namespace fathom

#endif
