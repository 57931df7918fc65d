#include "train/torch/cpu_kernels.h"

#include <initializer_list>

// cpu_kernels.inc is compiled once for each instruction set. It includes nothing, so that no inline function of a
// standard header can be compiled with instructions that another machine lacks.
namespace fathom::train::plain {
#include "train/torch/cpu_kernels.inc"
}
#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,bmi2,f16c")
namespace fathom::train::avx2 {
#include "train/torch/cpu_kernels.inc"
}
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,bmi2,f16c,avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512")
namespace fathom::train::avx512 {
#include "train/torch/cpu_kernels.inc"
}
#pragma GCC pop_options
#endif

namespace fathom::train {
namespace {

#define FATHOM_KERNELS(isa)                                                                                    \
  {                                                                                                            \
    isa::RmsNormRows<float, T>, isa::RmsNormRows<T, T>, isa::RmsNormBackwardRows<float, T>,                    \
        isa::RmsNormBackwardRows<T, T>, isa::SwiGluRows<T>, isa::SwiGluBackwardRows<T>, isa::RopeRow<T>,       \
        isa::CrossEntropyRows<T>, isa::SumSlotsRows<T, float>, isa::SumSlotsRows<T, T>,                        \
        isa::AttentionForward<T>, isa::AttentionBackward<T>                                                    \
  }

template <typename T>
constexpr CpuKernels<T> kPlain FATHOM_KERNELS(plain);
#if defined(__x86_64__)
template <typename T>
constexpr CpuKernels<T> kAvx2 FATHOM_KERNELS(avx2);
template <typename T>
constexpr CpuKernels<T> kAvx512 FATHOM_KERNELS(avx512);
#endif
#undef FATHOM_KERNELS

}  // namespace

int64_t AttentionWork(int64_t tokens, int64_t qk_dim, int64_t v_dim) {
  const int64_t n = (tokens + 15) / 16 * 16, q = (qk_dim + 15) / 16 * 16, v = (v_dim + 15) / 16 * 16;
  constexpr int64_t kBlock = 64;
  return n * (3 * q + 2 * v) + kBlock * (2 * q + v) + 2 * kBlock * (n + 16) + 64;
}

template <typename T>
const CpuKernels<T>* KernelsFor(InstructionSet set) {
  if (set == InstructionSet::kPlain) return &kPlain<T>;
#if defined(__x86_64__)
  if (set == InstructionSet::kAvx2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c")) {
    return &kAvx2<T>;
  }
  if (set == InstructionSet::kAvx512 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
    return &kAvx512<T>;
  }
#endif
  return nullptr;
}
template const CpuKernels<float>* KernelsFor<float>(InstructionSet);
template const CpuKernels<Bf16>* KernelsFor<Bf16>(InstructionSet);

template <typename T>
const CpuKernels<T>& Kernels() {
  static const CpuKernels<T>& best = [] -> const CpuKernels<T>& {
    for (const auto set : {InstructionSet::kAvx512, InstructionSet::kAvx2}) {
      if (const CpuKernels<T>* kernels = KernelsFor<T>(set)) return *kernels;
    }
    return kPlain<T>;
  }();
  return best;
}
template const CpuKernels<float>& Kernels<float>();
template const CpuKernels<Bf16>& Kernels<Bf16>();

}  // namespace fathom::train
