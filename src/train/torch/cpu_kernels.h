// Fused loops of the trainer for tensors in host memory: what libtorch does in many passes over memory, in one.
//
// Pure functions on raw pointers, single-threaded (callers split rows over threads), thread-safe. Chosen at start for
// the best instruction set that this CPU has (AVX-512, AVX2, plain). T and In are float or Bf16; arithmetic is f32.
// The composed libtorch form of each operation in ops.cc is its reference and its twin on other devices.
#pragma once

#include <cstdint>

namespace fathom::train {

struct Bf16 {
  uint16_t bits;
};

/// One document and one head of causal attention. Strides count values; scale multiplies q·k.
template <typename T>
struct AttentionTask {
  int64_t tokens, qk_dim, v_dim;
  const T *q, *k, *v;
  int64_t q_stride, k_stride, v_stride;
  float scale;
  T* out;  // [tokens, v_dim] with out_stride
  int64_t out_stride;
  float* log_sum;  // [tokens]
  // Backward only; grad has out's stride, dq, dk, dv those of q, k, v.
  const T* grad = nullptr;
  T *dq = nullptr, *dk = nullptr, *dv = nullptr;
};

/// Floats of work space that an attention task needs, forward or backward.
int64_t AttentionWork(int64_t tokens, int64_t qk_dim, int64_t v_dim);

/// The loops for one pair of types. In: of the residual stream or a norm's input; T: of activations.
template <typename T>
struct CpuKernels {
  // x rows stand x_stride apart; out is dense; rstd: one value a row, kept for the backward pass.
  void (*rms_norm_f32)(const float* x, int64_t x_stride, const float* weight, float eps, int64_t rows, int64_t width,
                       T* out, float* rstd);
  void (*rms_norm)(const T* x, int64_t x_stride, const float* weight, float eps, int64_t rows, int64_t width, T* out,
                   float* rstd);
  // dweight is added to.
  void (*rms_norm_backward_f32)(const T* grad, const float* x, int64_t x_stride, const float* weight,
                                const float* rstd, int64_t rows, int64_t width, float* dx, float* dweight);
  void (*rms_norm_backward)(const T* grad, const T* x, int64_t x_stride, const float* weight, const float* rstd,
                            int64_t rows, int64_t width, T* dx, float* dweight);
  void (*swiglu)(const T* gate_up, const float* scale, int64_t rows, int64_t width, T* out);
  void (*swiglu_backward)(const T* grad, const T* gate_up, const float* scale, int64_t rows, int64_t width,
                          T* dgate_up, float* dscale);
  void (*rope_row)(T* x, int64_t heads, int64_t head_stride, int64_t width, const float* cos, const float* sin,
                   float sign);
  double (*cross_entropy)(T* logits, const int32_t* targets, int64_t rows, int64_t vocab);
  void (*sum_slots_f32)(const T* y, const int32_t* slots, int64_t k, int64_t rows, int64_t width, float* out);
  void (*sum_slots)(const T* y, const int32_t* slots, int64_t k, int64_t rows, int64_t width, T* out);
  void (*attention)(const AttentionTask<T>& task, float* work);
  void (*attention_backward)(const AttentionTask<T>& task, float* work);
};

/// T: float or Bf16. The best that this CPU has.
template <typename T>
const CpuKernels<T>& Kernels();

enum class InstructionSet { kPlain, kAvx2, kAvx512 };

/// The loops for one instruction set, so that tests can hold them against each other; nullptr where this CPU lacks it.
template <typename T>
const CpuKernels<T>* KernelsFor(InstructionSet set);

}  // namespace fathom::train
