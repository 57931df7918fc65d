// Memory of a forward pass: float matrices that grow to the largest batch seen and are reused. Not thread-safe; one
// per Model.
#pragma once

#include <cstdint>
#include <vector>

#include "base/aligned_buffer.h"
#include "kernels/attention.h"
#include "kernels/matmul.h"
#include "tensor/view.h"

namespace fathom {

class FloatBuffer {
 public:
  /// A dense [rows, cols] matrix with undefined contents. Errors: kResource.
  Result<MatrixView<float>> Matrix(int64_t rows, int64_t cols) {
    const size_t bytes = static_cast<size_t>(rows) * cols * sizeof(float);
    if (buffer_.size() < bytes) {
      buffer_ = {};  // give the old one back first
      FATHOM_TRY(buffer_, AlignedBuffer::Allocate(bytes));
    }
    return MatrixView<float>{buffer_.as<float>(), rows, cols, cols};
  }
  int64_t bytes() const { return static_cast<int64_t>(buffer_.size()); }

 private:
  AlignedBuffer buffer_;
};

struct Scratch {
  FloatBuffer x, h, update;                           // residual stream, normed input, what a block adds
  FloatBuffer q_a, q, kv, k, v, q_latent, o_latent, o;  // attention
  FloatBuffer gate, up, down, shared_gate, shared_up, router;  // feed-forward
  FloatBuffer cos, sin, last, joined;
  Activations in, mid, mid_shared;
  MatmulWorkspace matmul;
  AttentionWorkspace attention;

  std::vector<int32_t> expert_ids, slot_of, slot_row, slot_begin, iota;
  std::vector<float> expert_weights;
  std::vector<MatmulJob> jobs;

  /// Gives back what grows with the rows of a pass; the next one takes what it needs.
  void Release() {
    WorkCount* const count = matmul.count;
    *this = {};
    matmul.count = attention.count = count;
  }
  int64_t bytes() const {
    int64_t sum = 0;
    for (const FloatBuffer* buffer : {&x, &h, &update, &q_a, &q, &kv, &k, &v, &q_latent, &o_latent, &o, &gate, &up,
                                      &down, &shared_gate, &shared_up, &router, &cos, &sin, &last, &joined})
      sum += buffer->bytes();
    for (const auto& buffer : attention.per_thread) sum += static_cast<int64_t>(buffer.size());
    return sum + static_cast<int64_t>(attention.partials.size());
  }
};

}  // namespace fathom
