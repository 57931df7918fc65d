// One description of a model for every family, filled from GGUF metadata or a Hugging Face config.json.
//
// Names are the field's: Hugging Face config keys where there is one (the GGUF key stands beside it in the readers).
// Sources: DeepSeek-V2 (arXiv 2405.04434), DeepSeek-V3 (arXiv 2412.19437), YaRN (arXiv 2309.00071), and the
// `configuration_*.py` files of Hugging Face transformers. Plain data, thread-safe for reading.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace fathom {

enum class ArchFamily {
  kDeepseek2,  // MLA + MoE: DeepSeek V2, V3, R1, V3.1, Kimi K2, Moonlight, GLM-4.7-Flash
  kLlama,      // GQA + SwiGLU: Llama, SmolLM2, the R1 Llama distills
  kQwen2,      // Llama with biases on Q, K, V: Qwen2, the R1 Qwen distills
};

/// How rotary pairs lie in a head: adjacent (x0,x1),(x2,x3)… or split in halves (x0,x[d/2])….
enum class RopeLayout { kInterleaved, kHalfSplit };

enum class RopeScaling { kNone, kLinear, kYarn, kLlama3 };

struct RopeConfig {
  float theta = 10000.0f;  // rope_theta
  int32_t dim = 0;         // rotated dimensions of a head: qk_rope_head_dim for MLA, head_dim otherwise
  RopeLayout layout = RopeLayout::kHalfSplit;
  RopeScaling scaling = RopeScaling::kNone;
  float factor = 1.0f;                            // yarn, linear, llama3
  int32_t original_max_position_embeddings = 0;   // yarn, llama3
  float beta_fast = 32.0f, beta_slow = 1.0f;      // yarn
  // yarn (DeepSeek): when mscale_all_dim is not 0 the softmax scale is multiplied by
  // (0.1 mscale_all_dim ln(factor) + 1)^2.
  float mscale = 1.0f, mscale_all_dim = 0.0f;
  // yarn: multiplies cos and sin. The readers always set it: what the file says, or what transformers derives
  // (the ratio of the two mscales when both are there, 0.1 ln(factor) + 1 otherwise). 0 in a config made by hand: the
  // ratio (0.1 mscale ln(factor) + 1) / (0.1 mscale_all_dim ln(factor) + 1).
  float attention_factor = 0.0f;
  float low_freq_factor = 1.0f, high_freq_factor = 4.0f;  // llama3
  // Per-frequency divisors stored in the file (GGUF tensor rope_freqs.weight, dim/2 values); empty when none.
  std::vector<float> freq_factors;
};

enum class GatingFunction { kSoftmax, kSigmoid };  // scoring_func; GGUF expert_gating_func 1, 2

struct MoeConfig {
  int32_t n_routed_experts = 0;     // 0: a dense model
  int32_t num_experts_per_tok = 0;  // top-k
  int32_t n_shared_experts = 0;
  int32_t moe_intermediate_size = 0;
  int32_t first_k_dense_replace = 0;  // leading dense layers
  int32_t n_group = 1, topk_group = 1;
  GatingFunction scoring_func = GatingFunction::kSoftmax;
  bool norm_topk_prob = false;
  float routed_scaling_factor = 1.0f;
  // Group score: the group's maximum (V2 group_limited_greedy) or the sum of its two best biased scores (V3 noaux_tc).
  bool group_score_top2 = false;
  bool has_correction_bias = false;  // e_score_correction_bias (GGUF exp_probs_b)
};

struct MlaConfig {
  int32_t q_lora_rank = 0;  // 0: queries by one full matrix
  int32_t kv_lora_rank = 0;
  int32_t qk_nope_head_dim = 0;
  int32_t qk_rope_head_dim = 0;
  int32_t v_head_dim = 0;

  int32_t qk_head_dim() const { return qk_nope_head_dim + qk_rope_head_dim; }
  int32_t latent_dim() const { return kv_lora_rank + qk_rope_head_dim; }  // values cached per token per layer
};

struct ModelConfig {
  ArchFamily family = ArchFamily::kLlama;
  std::string architecture;  // as the file says: "deepseek2", "DeepseekV3ForCausalLM"
  std::string name;          // general.name or the directory's name; may be empty
  int32_t vocab_size = 0;
  int32_t hidden_size = 0;
  int32_t intermediate_size = 0;  // of dense feed-forward layers
  int32_t num_hidden_layers = 0;  // without MTP layers
  int32_t num_nextn_predict_layers = 0;
  int32_t num_attention_heads = 0;
  int32_t num_key_value_heads = 0;  // GQA families
  int32_t head_dim = 0;             // GQA families
  float rms_norm_eps = 1e-6f;
  // Of the q_a and kv_a norms: DeepSeek's and transformers' code builds these with 1e-6 whatever the config says, so
  // both readers set that; other GGUF runtimes use rms_norm_eps (the two differ only in Moonlight-like configs).
  float mla_norm_eps = 1e-6f;
  int32_t max_position_embeddings = 0;
  bool tie_word_embeddings = false;
  bool attention_bias = false;  // biases on Q, K, V
  RopeConfig rope;
  MlaConfig mla;  // kDeepseek2
  MoeConfig moe;  // n_routed_experts == 0 when dense

  bool is_mla() const { return mla.kv_lora_rank > 0; }
  bool is_moe_layer(int layer) const { return moe.n_routed_experts > 0 && layer >= moe.first_k_dense_replace; }
  /// Values cached per token per layer: latent_dim() for MLA, keys and values of all KV heads otherwise.
  int64_t kv_values_per_token_layer() const {
    return is_mla() ? mla.latent_dim() : int64_t{2} * num_key_value_heads * head_dim;
  }
};

/// Every field in range and consistent with the others; the message names the field. Absurd sizes are refused here,
/// before anything is allocated from them.
Status ValidateConfig(const ModelConfig& config);

struct ParameterCount {
  int64_t total = 0;   // all weights, without MTP layers
  int64_t active = 0;  // used for one token: attention, shared and top-k experts, head; without the embedding table
};
ParameterCount CountParameters(const ModelConfig& config);

}  // namespace fathom
