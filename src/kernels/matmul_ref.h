// The naive twins of Matmul: what it must compute, in double precision, one product at a time.
//
// Pure functions, thread-safe, slow.
#pragma once

#include "kernels/matmul.h"

namespace fathom {

/// y as it would be without quantising the activations: dequantised weights times f32 x, summed in double.
void MatmulRefExact(const MatmulJob& job);

/// y as Matmul defines it for a type that wants quantised activations: dequantised weights times scale * q.
/// Same as MatmulRefExact for the other types. If `magnitude` is not null, magnitude[i * n + j] receives the sum of
/// |w| |x| over k, against which a rounding error is measured.
void MatmulRef(const MatmulJob& job, double* magnitude = nullptr);

/// The naive twin of the quantising in Activations::Set: count values (at most 32) to one block.
void QuantizeActivationsRef(const float* x, int64_t count, ActivationBlock* block);

}  // namespace fathom
