#include "engine/prefill_rows.h"

#include <algorithm>
#include <cmath>

namespace fathom {

int64_t PrefillRows(const PrefillRowsInput& input) {
  const int64_t most = std::max(input.base, input.most);
  const double wanted = kComputeShare * input.pass_bytes / input.disk_rate / input.row_seconds;
  if (!(wanted < static_cast<double>(most))) return most;
  const auto rows = static_cast<int64_t>(std::ceil(wanted / kPrefillQuantum)) * kPrefillQuantum;
  return std::clamp(rows, input.base, most);
}

int64_t ScratchBytesOfRow(const ModelConfig& config) {
  const int64_t hidden = config.hidden_size, heads = config.num_attention_heads, top_k = config.moe.num_experts_per_tok;
  const int64_t chosen = top_k * config.moe.moe_intermediate_size, dense = config.intermediate_size;
  const int64_t shared = int64_t{config.moe.n_shared_experts} * config.moe.moe_intermediate_size;
  int64_t attention = 0, widest = std::max(chosen, dense);  // the widest is what is quantised
  if (config.is_mla()) {
    const MlaConfig& mla = config.mla;
    attention = mla.q_lora_rank + mla.latent_dim() +
                heads * (mla.qk_head_dim() + mla.latent_dim() + mla.kv_lora_rank + mla.v_head_dim);
    widest = std::max({widest, heads * mla.qk_head_dim(), heads * mla.kv_lora_rank});
  } else {
    attention = int64_t{2} * (heads + config.num_key_value_heads) * config.head_dim;
  }
  const int64_t floats = 3 * hidden + attention + 2 * std::max(chosen, dense) + top_k * hidden + 2 * shared +
                         config.moe.n_routed_experts + config.rope.dim;
  const int64_t quantised = hidden + widest + shared;  // 48 bytes for 32 values
  return 4 * floats + quantised * 3 / 2;
}

}  // namespace fathom
