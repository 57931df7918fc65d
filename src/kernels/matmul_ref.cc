#include "kernels/matmul_ref.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/dequant.h"

namespace fathom {
namespace {

void Reference(const MatmulJob& job, bool quantized, double* magnitude) {
  const int64_t n = job.w.rows, k = job.w.cols;
  std::vector<float> w(k), x(k);
  for (int64_t j = 0; j < n; ++j) {
    DequantizeWeightRow(job.w, j, w.data());
    for (int64_t i = 0; i < job.m; ++i) {
      const int64_t row = job.row_index != nullptr ? job.row_index[i] : i;
      double sum = 0, abs = 0;
      for (int64_t c = 0; c < k; ++c) {
        double value;
        if (quantized) {
          const ActivationBlock& block = job.x->row(row)[(job.x_col + c) / 32];
          value = static_cast<double>(block.scale) * block.q[(job.x_col + c) % 32];
        } else {
          value = job.x->x.row(row)[job.x_col + c];
        }
        sum += value * w[c];
        abs += std::abs(value * w[c]);
      }
      job.y[i * job.ldy + j] = static_cast<float>(sum);
      if (magnitude != nullptr) magnitude[i * n + j] = abs;
    }
  }
}

}  // namespace

void MatmulRefExact(const MatmulJob& job) { Reference(job, false, nullptr); }

void MatmulRef(const MatmulJob& job, double* magnitude) {
  Reference(job, NeedsQuantizedActivations(job.w.dtype), magnitude);
}

void QuantizeActivationsRef(const float* x, int64_t count, ActivationBlock* block) {
  *block = {};
  float amax = 0;
  bool finite = true;
  for (int64_t i = 0; i < count; ++i) {
    finite = finite && std::isfinite(x[i]);
    amax = std::max(amax, std::abs(x[i]));
  }
  if (!finite) {
    block->scale = block->scaled_sum = std::numeric_limits<float>::quiet_NaN();
    return;
  }
  block->scale = amax / 127.0f;
  const float inverse = block->scale > 0 ? 127.0f / amax : 0.0f;
  if (!std::isfinite(inverse)) {  // amax is so small that 127 / amax overflows: as good as zero
    block->scale = 0;
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    block->q[i] = static_cast<int8_t>(std::nearbyint(x[i] * inverse));
    block->neg_sum -= block->q[i];
    if (i >= 16) block->neg_sum_high -= block->q[i];
  }
  block->scaled_sum = block->scale * static_cast<float>(-block->neg_sum);
}

}  // namespace fathom
