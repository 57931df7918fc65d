#include "engine/gguf_metadata.h"

#include <cmath>

namespace fathom {
namespace {

// Adds `ARCH.suffix` keys with the types that the converter uses: u32, f32, bool, string.
class Keys {
 public:
  Keys(GgufWriter& writer, std::string_view arch) : writer_(writer), arch_(arch) {}
  void Int(std::string_view suffix, int32_t value) { Add(suffix, static_cast<uint32_t>(value)); }
  void Float(std::string_view suffix, float value) { Add(suffix, value); }
  void Bool(std::string_view suffix, bool value) { Add(suffix, value); }
  void Text(std::string_view suffix, std::string value) { Add(suffix, std::move(value)); }

 private:
  void Add(std::string_view suffix, GgufMetadataValue value) {
    writer_.AddMetadata(fmt::format("{}.{}", arch_, suffix), std::move(value));
  }
  GgufWriter& writer_;
  std::string_view arch_;
};

// A factor of cos and sin other than the one that readers derive (gguf_config.cc): 1 where mscale_all_dim is said, as
// in every published DeepSeek, 0.1 ln(factor) + 1 elsewhere.
void AddAttentionFactor(const ModelConfig& config, Keys& keys) {
  const RopeConfig& rope = config.rope;
  if (rope.attention_factor == 0.0f) return;
  const bool said = config.is_mla() && rope.mscale_all_dim > 0;
  const float derived = said || rope.factor <= 1.0f ? 1.0f : 1.0f + 0.1f * std::log(rope.factor);
  if (std::abs(rope.attention_factor - derived) > 1e-6f * derived)
    keys.Float("rope.scaling.attn_factor", rope.attention_factor / derived);
}

void AddRope(const ModelConfig& config, Keys& keys) {
  const RopeConfig& rope = config.rope;
  keys.Int("rope.dimension_count", rope.dim);
  keys.Float("rope.freq_base", rope.theta);
  if (rope.scaling == RopeScaling::kLinear) {
    keys.Text("rope.scaling.type", "linear");
    keys.Float("rope.scaling.factor", rope.factor);
  }
  if (rope.scaling != RopeScaling::kYarn) return;  // Llama 3's scaling is the tensor rope_freqs.weight
  keys.Text("rope.scaling.type", "yarn");
  keys.Float("rope.scaling.factor", rope.factor);
  keys.Int("rope.scaling.original_context_length", rope.original_max_position_embeddings);
  keys.Float("rope.scaling.yarn_beta_fast", rope.beta_fast);
  keys.Float("rope.scaling.yarn_beta_slow", rope.beta_slow);
  AddAttentionFactor(config, keys);
  // Times 0.1: a convention of this architecture's files (llama.cpp pull request 17945).
  if (config.is_mla() && rope.mscale_all_dim > 0)
    keys.Float("rope.scaling.yarn_log_multiplier", 0.1f * rope.mscale_all_dim);
}

void AddMla(const ModelConfig& config, GgufLayout layout, Keys& keys) {
  const MlaConfig& mla = config.mla;
  // Both runtimes take a model to be without q_lora only when it has 26 or 27 layers; otherwise they want the key.
  if (mla.q_lora_rank > 0 || (config.num_hidden_layers != 26 && config.num_hidden_layers != 27))
    keys.Int("attention.q_lora_rank", mla.q_lora_rank);
  keys.Int("attention.kv_lora_rank", mla.kv_lora_rank);
  if (layout == GgufLayout::kMainline) {
    keys.Int("attention.head_count_kv", 1);
    keys.Int("attention.key_length", mla.latent_dim());
    keys.Int("attention.value_length", mla.kv_lora_rank);
    keys.Int("attention.key_length_mla", mla.qk_head_dim());
    keys.Int("attention.value_length_mla", mla.v_head_dim);
  } else {
    keys.Int("attention.head_count_kv", config.num_attention_heads);
    keys.Int("attention.key_length", mla.qk_head_dim());
    keys.Int("attention.value_length", mla.v_head_dim);
  }
}

void AddMoe(const ModelConfig& config, int32_t mtp_layers, Keys& keys) {
  const MoeConfig& moe = config.moe;
  keys.Int("leading_dense_block_count",
           moe.n_routed_experts > 0 ? moe.first_k_dense_replace : config.num_hidden_layers + mtp_layers);
  keys.Int("expert_feed_forward_length",
           moe.moe_intermediate_size > 0 ? moe.moe_intermediate_size : config.intermediate_size);
  keys.Int("expert_shared_count", moe.n_shared_experts);
  keys.Float("expert_weights_scale", moe.routed_scaling_factor);
  if (moe.n_routed_experts == 0) return;
  keys.Int("expert_count", moe.n_routed_experts);
  keys.Int("expert_used_count", moe.num_experts_per_tok);
  keys.Int("expert_group_count", moe.n_group);
  keys.Int("expert_group_used_count", moe.topk_group);
  keys.Int("expert_gating_func", moe.scoring_func == GatingFunction::kSigmoid ? 2 : 1);
  if (moe.norm_topk_prob) keys.Bool("expert_weights_norm", true);
}

}  // namespace

void AddModelMetadata(const ModelConfig& config, std::string_view architecture, int32_t file_type, GgufLayout layout,
                      bool mtp, GgufWriter& writer) {
  writer.AddMetadata("general.file_type", static_cast<uint32_t>(file_type));
  writer.AddMetadata("general.quantization_version", uint32_t{2});
  Keys keys(writer, architecture);
  const int32_t extra = mtp ? config.num_nextn_predict_layers : 0;
  keys.Int("block_count", config.num_hidden_layers + extra);
  if (extra > 0) keys.Int("nextn_predict_layers", extra);
  keys.Int("context_length", config.max_position_embeddings);
  keys.Int("embedding_length", config.hidden_size);
  keys.Int("feed_forward_length", config.intermediate_size);
  keys.Int("attention.head_count", config.num_attention_heads);
  keys.Float("attention.layer_norm_rms_epsilon", config.rms_norm_eps);
  keys.Int("vocab_size", config.vocab_size);
  AddRope(config, keys);
  if (config.is_mla()) {
    AddMla(config, layout, keys);
    AddMoe(config, extra, keys);
  } else {
    keys.Int("attention.head_count_kv", config.num_key_value_heads);
    keys.Int("attention.key_length", config.head_dim);
    keys.Int("attention.value_length", config.head_dim);
  }
}

}  // namespace fathom
