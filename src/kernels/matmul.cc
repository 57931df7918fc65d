#include "kernels/matmul.h"

#include <algorithm>

#include "kernels/dequant.h"
#include "kernels/matmul_ref.h"

namespace fathom {

bool NeedsQuantizedActivations(DType dtype) { return TraitsOf(dtype).quantized && dtype != DType::kF8_E4M3; }

Status Activations::Set(MatrixView<const float> view, bool quantize, ThreadPool& pool) {
  x = view;
  rows = view.rows;
  cols = view.cols;
  groups = (cols + 31) / 32;
  quantized = quantize;
  if (!quantize) return {};
  const size_t bytes = static_cast<size_t>(rows) * static_cast<size_t>(groups) * sizeof(ActivationBlock);
  if (buffer_.size() < bytes) {
    FATHOM_TRY(buffer_, AlignedBuffer::Allocate(bytes));
  }
  auto* out = buffer_.as<ActivationBlock>();
  blocks = out;
  pool.ParallelFor(rows, 4, [&](int64_t r, int) {
    for (int64_t g = 0; g < groups; ++g) {
      QuantizeActivationsRef(x.row(r) + g * 32, std::min<int64_t>(32, cols - g * 32), out + r * groups + g);
    }
  });
  return {};
}

// Portable beginning: dequantises a weight row and multiplies in f32. The vector paths take its place.
void Matmul(std::span<const MatmulJob> jobs, MatmulWorkspace& workspace, ThreadPool& pool) {
  workspace.per_thread.resize(pool.size());
  int64_t total = 0;
  for (const MatmulJob& job : jobs) total += job.m > 0 ? job.w.rows : 0;
  pool.ParallelFor(total, 8, [&](int64_t index, int) {
    for (const MatmulJob& job : jobs) {
      const int64_t n = job.m > 0 ? job.w.rows : 0;
      if (index >= n) {
        index -= n;
        continue;
      }
      thread_local std::vector<float> w;
      w.resize(job.w.cols);
      DequantizeWeightRow(job.w, index, w.data());
      for (int64_t i = 0; i < job.m; ++i) {
        const float* xr = job.x->x.row(job.row_index != nullptr ? job.row_index[i] : i) + job.x_col;
        float sums[8] = {};
        int64_t c = 0;
        for (; c + 8 <= job.w.cols; c += 8) {
          for (int l = 0; l < 8; ++l) sums[l] += w[c + l] * xr[c + l];
        }
        float sum = 0;
        for (; c < job.w.cols; ++c) sum += w[c] * xr[c];
        for (float s : sums) sum += s;
        job.y[i * job.ldy + index] = sum;
      }
      return;
    }
  });
}

const char* MatmulIsa() { return "generic"; }

}  // namespace fathom
