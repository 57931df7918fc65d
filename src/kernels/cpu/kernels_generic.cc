// Plain C++: the last resort of dispatch and the base of comparison for the others.
#include "base/cpu_features.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/matmul.h"
#include "tensor/blocks.h"
#include "tensor/float16.h"

#define FATHOM_VEC_ASM(v) "+m"(v)
#include "kernels/cpu/target_begin.h"

namespace fathom {
namespace generic {
namespace {

#include "kernels/cpu/vec_generic.h"

#include "kernels/cpu/panels-inl.h"

}  // namespace
}  // namespace generic

extern const KernelTable kGenericKernels;
const KernelTable kGenericKernels = {
    .name = "generic",
    .supported = [] { return true; },
    .quantize = generic::Quantize,
    .panel = generic::FindPanel,
    .read_stream = generic::ReadStream,
    .int8_peak = generic::Int8Peak,
    .f32_peak = generic::F32Peak,
    .bf16_peak = nullptr,
};

}  // namespace fathom
