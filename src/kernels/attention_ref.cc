#include "kernels/attention_ref.h"

#include <algorithm>
#include <cmath>

#include "kernels/kv_rows_ref.h"

namespace fathom {
namespace {

double Element(const KvView& kv, int64_t row, int64_t i) {
  const std::byte* data = kv.blocks[row / kv.block_tokens] + kv.offset + row % kv.block_tokens * kv.row_bytes;
  return KvValueRef(kv.row(), data, i);
}

}  // namespace

void AttentionRef(const AttentionJob& job) {
  const int64_t group = job.heads / job.kv_heads;
  for (int64_t t = 0; t < job.tokens; ++t) {
    for (int64_t h = 0; h < job.heads; ++h) {
      const int64_t kv_head = h / group;
      const int64_t length = job.first_position + t + 1;
      const float* q = job.q + (t * job.heads + h) * job.k_dim;
      std::vector<double> p(length);
      double max = -INFINITY, sum = 0;
      for (int64_t s = 0; s < length; ++s) {
        double score = 0;
        for (int64_t i = 0; i < job.k_dim; ++i) score += q[i] * Element(job.kv, s, kv_head * job.k_dim + i);
        p[s] = score * job.scale;
        max = std::max(max, p[s]);
      }
      for (double& value : p) sum += value = std::exp(value - max);
      float* out = job.out + (t * job.heads + h) * job.v_dim;
      for (int64_t i = 0; i < job.v_dim; ++i) {
        double value = 0;
        for (int64_t s = 0; s < length; ++s)
          value += p[s] * Element(job.kv, s, job.kv.v_begin + kv_head * job.v_dim + i);
        out[i] = static_cast<float>(value / sum);
      }
    }
  }
}

}  // namespace fathom
