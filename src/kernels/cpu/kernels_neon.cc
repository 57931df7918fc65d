// NEON (every aarch64), twice: plain, and with the int8 dot product of ARMv8.2 (Neoverse, Cortex-A76, Apple).
#include "kernels/cpu/kernel_table.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#include "base/cpu_features.h"
#include "kernels/matmul.h"
#include "tensor/blocks.h"

#define FATHOM_VEC_ASM(v) "+w"(v)
#include "kernels/cpu/target_begin.h"

namespace fathom {
namespace neon {
namespace {

#include "kernels/cpu/vec_neon.h"

#include "kernels/cpu/panels-inl.h"

}  // namespace
}  // namespace neon
}  // namespace fathom

#include "kernels/cpu/target_end.h"

#define FATHOM_DOTPROD 1
#ifdef __clang__
#define FATHOM_TARGET "dotprod"
#else
#define FATHOM_TARGET "arch=armv8.2-a+dotprod"
#endif
#include "kernels/cpu/target_begin.h"

namespace fathom {
namespace neon_dotprod {
namespace {

#include "kernels/cpu/vec_neon.h"

#include "kernels/cpu/panels-inl.h"

}  // namespace
}  // namespace neon_dotprod
}  // namespace fathom

#include "kernels/cpu/target_end.h"

namespace fathom {

extern const KernelTable kNeonKernels, kNeonDotprodKernels;
const KernelTable kNeonKernels = {
    .name = "neon",
    .supported = [] { return true; },
    .quantize = neon::Quantize,
    .panel = neon::FindPanel,
    .read_stream = neon::ReadStream,
    .int8_peak = neon::Int8Peak,
    .f32_peak = neon::F32Peak,
    .bf16_peak = nullptr,
};
const KernelTable kNeonDotprodKernels = {
    .name = "neon-dotprod",
    .supported = [] { return Cpu().neon_dotprod; },
    .quantize = neon_dotprod::Quantize,
    .panel = neon_dotprod::FindPanel,
    .read_stream = neon_dotprod::ReadStream,
    .int8_peak = neon_dotprod::Int8Peak,
    .f32_peak = neon_dotprod::F32Peak,
    .bf16_peak = nullptr,
};

}  // namespace fathom

#endif
