// Small vector operations of a layer: norms, activation functions, rotary embedding, sums. One row at a time; callers
// spread rows over threads. Dispatched at run time by Highway (AVX-512, AVX2, SSE4, NEON, plain C++).
//
// vec_ops_ref.h has the naive twins. Pure functions, thread-safe. All lengths in elements; no alignment is asked for.
#pragma once

#include <cstdint>

namespace fathom {

/// out[i] = x[i] / sqrt(mean(x²) + eps) * weight[i] (RMSNorm, arXiv 1910.07467). out may be x.
void RmsNorm(const float* x, const float* weight, int64_t n, float eps, float* out);

/// out[i] = gate[i] * sigmoid(gate[i]) * up[i] (SwiGLU, arXiv 2002.05202). out may be gate or up.
void SiluMul(const float* gate, const float* up, int64_t n, float* out);

/// y[i] += x[i]
void AddTo(const float* x, int64_t n, float* y);

/// y[i] += a * x[i]
void Axpy(float a, const float* x, int64_t n, float* y);

/// Rotates pairs of x[0, dim) in place by the angles whose cosines and sines are given (dim / 2 each): adjacent pairs
/// when `interleaved`, (i, i + dim/2) otherwise (RoPE, arXiv 2104.09864).
void Rope(float* x, int64_t dim, bool interleaved, const float* cos, const float* sin);

/// Index of the largest value, the lowest on ties; NaNs are passed over. REQUIRES: n > 0.
int64_t ArgMax(const float* x, int64_t n);

/// Replaces x by exp(x - max) and returns the sum.
float ExpMinusMax(float* x, int64_t n, float max);

/// f32 to the 16-bit formats of the KV cache, and back.
void FloatsToBF16(const float* x, int64_t n, uint16_t* out);
void FloatsToF16(const float* x, int64_t n, uint16_t* out);
void BF16ToFloats(const uint16_t* x, int64_t n, float* out);
void F16ToFloats(const uint16_t* x, int64_t n, float* out);

}  // namespace fathom
