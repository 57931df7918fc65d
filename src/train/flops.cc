#include "train/flops.h"

namespace fathom {
namespace {

// Weights of a layer's attention matrices.
double AttentionWeights(const ModelConfig& config) {
  const double hidden = config.hidden_size, heads = config.num_attention_heads;
  if (!config.is_mla()) {
    const double q = heads * config.head_dim, kv = 1.0 * config.num_key_value_heads * config.head_dim;
    return hidden * (q + 2 * kv) + q * hidden;
  }
  const MlaConfig& mla = config.mla;
  const double qk = mla.qk_head_dim();
  const double q = mla.q_lora_rank > 0 ? hidden * mla.q_lora_rank + mla.q_lora_rank * heads * qk : hidden * heads * qk;
  return q + hidden * mla.latent_dim() +
         mla.kv_lora_rank * heads * (1.0 * mla.qk_nope_head_dim + mla.v_head_dim) +
         heads * mla.v_head_dim * hidden;
}

// Both products of a layer, for one attended position.
double ScoreFlops(const ModelConfig& config) {
  const double heads = config.num_attention_heads;
  return config.is_mla() ? 2 * heads * (config.mla.qk_head_dim() + config.mla.v_head_dim)
                         : 2 * heads * 2 * config.head_dim;
}

}  // namespace

FlopsPerToken CountFlops(const ModelConfig& config, double sequence_length) {
  const double hidden = config.hidden_size, positions = (sequence_length + 1) / 2;
  const MoeConfig& moe = config.moe;
  const double attention = 2 * AttentionWeights(config), scores = ScoreFlops(config) * positions;
  const double dense = 2 * 3 * hidden * config.intermediate_size;
  const double experts = 2 * 3 * hidden * moe.moe_intermediate_size * (moe.num_experts_per_tok + moe.n_shared_experts);
  const double router = 2 * hidden * moe.n_routed_experts;
  FlopsPerToken count;
  count.head = 2 * hidden * config.vocab_size;
  for (int layer = 0; layer < config.num_hidden_layers; ++layer) {
    count.attention += attention;
    count.scores += scores;
    if (config.is_moe_layer(layer)) {
      count.experts += experts;
      count.router += router;
    } else {
      count.dense += dense;
    }
  }
  for (int layer = 0; layer < config.num_nextn_predict_layers; ++layer) {
    const bool sparse = config.is_moe_layer(config.num_hidden_layers + layer);
    count.mtp += 2 * 2 * hidden * hidden + attention + scores + (sparse ? experts + router : dense) + count.head;
  }
  return count;
}

int64_t CountMtpParameters(const ModelConfig& config) {
  // One more layer of the kind that would come next, eh_proj and three norms.
  ModelConfig more = config;
  int64_t total = 0;
  for (int layer = 0; layer < config.num_nextn_predict_layers; ++layer) {
    const int64_t before = CountParameters(more).total;
    ++more.num_hidden_layers;
    const int64_t hidden = config.hidden_size;
    total += CountParameters(more).total - before + 2 * hidden * hidden + 3 * hidden;
  }
  return total;
}

}  // namespace fathom
