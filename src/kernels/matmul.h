// Matrix products of stored (usually quantised) weights with rows of activations: y[m, n] = x[m, k] W[n, k]^T.
//
// Weights stay as they are in the file. For block-quantised types the activations are quantised on the fly to int8
// with one f32 scale per 32 values, and products are exact in int32; F32 weights are multiplied in f32, so that F32
// models are exact to rounding; F16, BF16 and F8_E4M3 weights are widened to f32 and multiplied in f32.
//
// Each output is summed in one fixed order, so a row's results are the same to the bit whichever rows are computed
// beside it and however many threads there are: prefill in pieces equals prefill in one and token by token.
//
// A call takes many jobs so that one parallel region covers all experts of a layer, or Q, K and V. Two strategies,
// chosen per job by its row count: few rows read each weight byte once, row by row (decode, memory bound); many rows
// unpack panels of weights once into int8 tiles that stay in L2 and multiply them by all rows (prefill, compute
// bound).
//
// Dispatch is at run time (AVX-512 VNNI/BF16, AVX2, NEON, plain C++). matmul_ref.h has the naive twin.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/thread_pool.h"
#include "kernels/work_count.h"
#include "tensor/view.h"

namespace fathom {

/// 32 consecutive activations as int8 (x ≈ scale * q, scale = amax / 127) with what the products need besides: sums
/// that undo the weights' offsets. One stream of these a row keeps an inner loop on one pointer.
struct ActivationBlock {
  int8_t q[32];
  float scale;
  float scaled_sum;      // scale * (float)sum of q, for the affine types
  int32_t neg_sum;       // -(sum of q)
  int32_t neg_sum_high;  // -(sum of q[16..31])
};
static_assert(sizeof(ActivationBlock) == 48);

/// Rows of activations, in f32 and as int8 blocks of 32 (the last one filled up with zeros). Reused between calls:
/// Set() keeps the memory.
class Activations;
struct KernelTable;
Status SetActivations(const KernelTable& kernels, MatrixView<const float> x, bool quantize, ThreadPool& pool,
                      Activations& out);

class Activations {
 public:
  /// Keeps a reference to x (f32 rows must stay alive and unchanged until the products are done); quantises in
  /// parallel when `quantize`. A block that holds an infinity or a NaN gets a NaN scale. Errors: kResource.
  Status Set(MatrixView<const float> x, bool quantize, ThreadPool& pool);

  const ActivationBlock* row(int64_t r) const { return blocks + r * groups; }

  MatrixView<const float> x;
  int64_t rows = 0, cols = 0;
  int64_t groups = 0;  // blocks a row
  bool quantized = false;
  const ActivationBlock* blocks = nullptr;  // [rows][groups]

 private:
  friend Status SetActivations(const KernelTable&, MatrixView<const float>, bool, ThreadPool&, Activations&);
  AlignedBuffer buffer_;
};

/// One product. Rows of x are taken from `row_index` when it is set (token gather for an expert), else in order.
struct MatmulJob {
  WeightView w;                      // [n, k]; k a multiple of 32 for quantised types
  const Activations* x = nullptr;    // x->cols >= x_col + k
  int64_t x_col = 0;                 // first column of x that is used, a multiple of 32 (heads side by side)
  const int32_t* row_index = nullptr;  // row of x for each output row; nullptr: 0, 1, …
  int64_t m = 0;                     // output rows
  float* y = nullptr;                // [m, n], row stride ldy floats
  int64_t ldy = 0;
};

/// True when a product with this type wants x quantised.
bool NeedsQuantizedActivations(DType dtype);

/// Lists that a call builds; reused between calls so that a decode step allocates nothing. One call at a time.
class MatmulWorkspace {
 public:
  struct Piece {
    int32_t job;
    int32_t first, count;  // weight rows
  };
  std::vector<Piece> pieces;
  std::vector<const void*> rows;    // activation rows of all jobs
  std::vector<size_t> rows_of_job;  // where each job's begin
  WorkCount* count = nullptr;       // added to by every call, when there is one
};

/// Does all jobs, in one parallel region. REQUIRES: outputs do not overlap; x->quantized where the type needs it.
void Matmul(std::span<const MatmulJob> jobs, MatmulWorkspace& workspace, ThreadPool& pool);

/// What dispatch chose, for `bench` and logs: "avx512-vnni", "avx2-vnni", "avx2", "neon-dotprod", "neon", "generic".
/// FATHOM_ISA=generic|avx2|… in the environment lowers it (for tests).
const char* MatmulIsa();

}  // namespace fathom
