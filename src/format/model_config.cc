#include "format/model_config.h"

#include <cmath>

namespace fathom {
namespace {

// Generous limits: far above any model known, small enough that products of two stay below 2^62 and that nothing
// allocated per layer, head or expert can be absurd.
constexpr int32_t kMaxWidth = 1 << 20;  // hidden, intermediate and head-product sizes
constexpr int32_t kMaxVocab = 1 << 24;
constexpr int32_t kMaxLayers = 4096;
constexpr int32_t kMaxHeads = 16384;
constexpr int32_t kMaxHeadDim = 16384;
constexpr int32_t kMaxExperts = 65536;
constexpr int32_t kMaxContext = 1 << 30;

Status InRange(const char* field, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) {
    return Fail(ErrorCode::kCorrupt, "{} is {}; {} to {} is possible", field, value, low, high);
  }
  return {};
}

Status InRangeF(const char* field, double value, double low, double high) {
  if (!(value >= low && value <= high)) {  // also refuses NaN
    return Fail(ErrorCode::kCorrupt, "{} is {}; {} to {} is possible", field, value, low, high);
  }
  return {};
}

Status ValidateRope(const RopeConfig& rope, int32_t head_part, const char* head_part_name) {
  FATHOM_CHECK_OK(InRange("rope.dim", rope.dim, 2, kMaxHeadDim));
  if (rope.dim % 2 != 0)
    return Fail(ErrorCode::kCorrupt, "rope.dim is {}; pairs are rotated, so it must be even", rope.dim);
  if (rope.dim > head_part) {
    return Fail(ErrorCode::kCorrupt, "rope.dim is {}, more than {} ({})", rope.dim, head_part_name, head_part);
  }
  FATHOM_CHECK_OK(InRangeF("rope_theta", rope.theta, 1.0 + 1e-6, 1e15));
  if (!rope.freq_factors.empty()) {
    if (rope.freq_factors.size() != static_cast<size_t>(rope.dim / 2)) {
      return Fail(ErrorCode::kCorrupt, "rope_freqs has {} values; {} are needed", rope.freq_factors.size(),
                  rope.dim / 2);
    }
    for (float factor : rope.freq_factors) FATHOM_CHECK_OK(InRangeF("rope_freqs value", factor, 1e-6, 1e6));
  }
  if (rope.scaling == RopeScaling::kNone) return {};
  FATHOM_CHECK_OK(InRangeF("rope factor", rope.factor, 1e-3, 1e6));
  if (rope.scaling == RopeScaling::kLinear) return {};
  FATHOM_CHECK_OK(InRange("original_max_position_embeddings", rope.original_max_position_embeddings, 1, kMaxContext));
  if (rope.scaling == RopeScaling::kYarn) {
    FATHOM_CHECK_OK(InRangeF("beta_fast", rope.beta_fast, 1e-3, 1e6));
    FATHOM_CHECK_OK(InRangeF("beta_slow", rope.beta_slow, 1e-3, 1e6));
    if (rope.beta_fast < rope.beta_slow) {
      return Fail(ErrorCode::kCorrupt, "beta_fast ({}) is below beta_slow ({})", rope.beta_fast, rope.beta_slow);
    }
    FATHOM_CHECK_OK(InRangeF("mscale", rope.mscale, 0, 1000));
    FATHOM_CHECK_OK(InRangeF("mscale_all_dim", rope.mscale_all_dim, 0, 1000));
    FATHOM_CHECK_OK(InRangeF("attention_factor", rope.attention_factor, 0, 1000));
  } else {
    FATHOM_CHECK_OK(InRangeF("low_freq_factor", rope.low_freq_factor, 1e-3, 1e6));
    FATHOM_CHECK_OK(InRangeF("high_freq_factor", rope.high_freq_factor, 1e-3, 1e6));
    if (rope.high_freq_factor <= rope.low_freq_factor) {
      return Fail(ErrorCode::kCorrupt, "high_freq_factor ({}) must be above low_freq_factor ({})",
                  rope.high_freq_factor, rope.low_freq_factor);
    }
  }
  return {};
}

Status ValidateMla(const ModelConfig& config) {
  const MlaConfig& mla = config.mla;
  FATHOM_CHECK_OK(InRange("kv_lora_rank", mla.kv_lora_rank, 1, kMaxHeadDim));
  FATHOM_CHECK_OK(InRange("q_lora_rank", mla.q_lora_rank, 0, kMaxWidth));
  FATHOM_CHECK_OK(InRange("qk_nope_head_dim", mla.qk_nope_head_dim, 1, kMaxHeadDim));
  FATHOM_CHECK_OK(InRange("qk_rope_head_dim", mla.qk_rope_head_dim, 2, kMaxHeadDim));
  FATHOM_CHECK_OK(InRange("v_head_dim", mla.v_head_dim, 1, kMaxHeadDim));
  if (config.rope.dim != mla.qk_rope_head_dim) {
    return Fail(ErrorCode::kCorrupt, "rope.dim is {} but qk_rope_head_dim is {}", config.rope.dim,
                mla.qk_rope_head_dim);
  }
  FATHOM_CHECK_OK(InRange("num_attention_heads × head width",
                          int64_t{config.num_attention_heads} * (int64_t{mla.qk_head_dim()} + int64_t{mla.v_head_dim}),
                          1, int64_t{4} * kMaxWidth));
  FATHOM_CHECK_OK(InRangeF("mla_norm_eps", config.mla_norm_eps, 0, 1));
  return ValidateRope(config.rope, mla.qk_rope_head_dim, "qk_rope_head_dim");
}

Status ValidateGqa(const ModelConfig& config) {
  FATHOM_CHECK_OK(InRange("num_key_value_heads", config.num_key_value_heads, 1, config.num_attention_heads));
  if (config.num_attention_heads % config.num_key_value_heads != 0) {
    return Fail(ErrorCode::kCorrupt, "num_attention_heads ({}) is not a multiple of num_key_value_heads ({})",
                config.num_attention_heads, config.num_key_value_heads);
  }
  FATHOM_CHECK_OK(InRange("head_dim", config.head_dim, 1, kMaxHeadDim));
  FATHOM_CHECK_OK(InRange("num_attention_heads × head_dim", int64_t{config.num_attention_heads} * config.head_dim, 1,
                          int64_t{4} * kMaxWidth));
  return ValidateRope(config.rope, config.head_dim, "head_dim");
}

Status ValidateMoe(const ModelConfig& config) {
  const MoeConfig& moe = config.moe;
  FATHOM_CHECK_OK(InRange("n_routed_experts", moe.n_routed_experts, 0, kMaxExperts));
  if (moe.n_routed_experts == 0) return {};
  if (config.family != ArchFamily::kDeepseek2) {
    return Fail(ErrorCode::kUnsupported, "a mixture of experts in a {} model", config.architecture);
  }
  FATHOM_CHECK_OK(InRange("num_experts_per_tok", moe.num_experts_per_tok, 1, moe.n_routed_experts));
  FATHOM_CHECK_OK(InRange("n_shared_experts", moe.n_shared_experts, 0, kMaxExperts));
  FATHOM_CHECK_OK(InRange("moe_intermediate_size", moe.moe_intermediate_size, 1, kMaxWidth));
  FATHOM_CHECK_OK(InRange("n_shared_experts × moe_intermediate_size",
                          int64_t{moe.n_shared_experts} * moe.moe_intermediate_size, 0, kMaxWidth));
  FATHOM_CHECK_OK(InRange("first_k_dense_replace", moe.first_k_dense_replace, 0, config.num_hidden_layers));
  FATHOM_CHECK_OK(InRange("n_group", moe.n_group, 1, moe.n_routed_experts));
  if (moe.n_routed_experts % moe.n_group != 0) {
    return Fail(ErrorCode::kCorrupt, "n_routed_experts ({}) is not a multiple of n_group ({})", moe.n_routed_experts,
                moe.n_group);
  }
  FATHOM_CHECK_OK(InRange("topk_group", moe.topk_group, 1, moe.n_group));
  if (moe.num_experts_per_tok > int64_t{moe.topk_group} * (moe.n_routed_experts / moe.n_group)) {
    return Fail(ErrorCode::kCorrupt, "num_experts_per_tok ({}) is more than {} groups of {} experts hold",
                moe.num_experts_per_tok, moe.topk_group, moe.n_routed_experts / moe.n_group);
  }
  if (moe.group_score_top2 && moe.n_group > 1 && moe.n_routed_experts / moe.n_group < 2) {
    return Fail(ErrorCode::kCorrupt,
                "n_group ({}) leaves groups of one expert, which cannot be scored by their best two", moe.n_group);
  }
  return InRangeF("routed_scaling_factor", moe.routed_scaling_factor, 1e-6, 1e6);
}

}  // namespace

Status ValidateConfig(const ModelConfig& config) {
  FATHOM_CHECK_OK(InRange("vocab_size", config.vocab_size, 1, kMaxVocab));
  FATHOM_CHECK_OK(InRange("hidden_size", config.hidden_size, 1, kMaxWidth));
  FATHOM_CHECK_OK(InRange("num_hidden_layers", config.num_hidden_layers, 1, kMaxLayers));
  FATHOM_CHECK_OK(InRange("num_nextn_predict_layers", config.num_nextn_predict_layers, 0, 64));
  FATHOM_CHECK_OK(InRange("num_attention_heads", config.num_attention_heads, 1, kMaxHeads));
  FATHOM_CHECK_OK(InRange("max_position_embeddings", config.max_position_embeddings, 1, kMaxContext));
  FATHOM_CHECK_OK(InRangeF("rms_norm_eps", config.rms_norm_eps, 0, 1));
  FATHOM_CHECK_OK(ValidateMoe(config));
  const bool has_dense = config.moe.n_routed_experts == 0 || config.moe.first_k_dense_replace > 0;
  FATHOM_CHECK_OK(InRange("intermediate_size", config.intermediate_size, has_dense ? 1 : 0, kMaxWidth));
  if (config.family == ArchFamily::kDeepseek2) return ValidateMla(config);
  if (config.is_mla()) return Fail(ErrorCode::kUnsupported, "kv_lora_rank in a {} model", config.architecture);
  return ValidateGqa(config);
}

ParameterCount CountParameters(const ModelConfig& config) {
  const int64_t hidden = config.hidden_size;
  const int64_t heads = config.num_attention_heads;
  int64_t attention = 0;
  if (config.is_mla()) {
    const MlaConfig& mla = config.mla;
    const int64_t qk = mla.qk_head_dim();
    attention += mla.q_lora_rank > 0 ? hidden * mla.q_lora_rank + mla.q_lora_rank + mla.q_lora_rank * heads * qk
                                     : hidden * heads * qk;
    attention += hidden * mla.latent_dim() + mla.kv_lora_rank;
    attention += mla.kv_lora_rank * heads * (int64_t{mla.qk_nope_head_dim} + mla.v_head_dim);
    attention += heads * mla.v_head_dim * hidden;
  } else {
    const int64_t q = heads * config.head_dim;
    const int64_t kv = int64_t{config.num_key_value_heads} * config.head_dim;
    attention = hidden * (q + 2 * kv) + q * hidden + (config.attention_bias ? q + 2 * kv : 0);
  }
  const int64_t norms = 2 * hidden;  // before attention, before the feed-forward
  const MoeConfig& moe = config.moe;
  const int64_t expert = 3 * hidden * moe.moe_intermediate_size;
  ParameterCount count;
  for (int layer = 0; layer < config.num_hidden_layers; ++layer) {
    count.total += attention + norms;
    count.active += attention + norms;
    if (config.is_moe_layer(layer)) {
      const int64_t always = moe.n_shared_experts * expert + moe.n_routed_experts * hidden +
                             (moe.has_correction_bias ? moe.n_routed_experts : 0);
      count.total += always + moe.n_routed_experts * expert;
      count.active += always + moe.num_experts_per_tok * expert;
    } else {
      count.total += 3 * hidden * config.intermediate_size;
      count.active += 3 * hidden * config.intermediate_size;
    }
  }
  const int64_t table = hidden * config.vocab_size;
  count.total += hidden + table + (config.tie_word_embeddings ? 0 : table);
  count.active += hidden + table;  // the final norm and the head
  return count;
}

}  // namespace fathom
