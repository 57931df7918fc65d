#include "format/hf_config_writer.h"

#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

namespace fathom {
namespace {

using Json = nlohmann::ordered_json;

// The shortest decimal that reads back as the same float: 1e-06, not 9.999999974752427e-07.
double Short(float value) { return std::strtod(fmt::format("{}", value).c_str(), nullptr); }

Json IdOrNull(int32_t id) { return id < 0 ? Json(nullptr) : Json(id); }

std::optional<std::string_view> TorchName(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "float32";
    case DType::kF16:
      return "float16";
    case DType::kBF16:
      return "bfloat16";
    default:
      return std::nullopt;
  }
}

std::unexpected<Error> NoKeyFor(std::string_view what, std::string_view architecture) {
  return Fail(ErrorCode::kUnsupported, "{} has no place in the config.json of a {}", what, architecture);
}

float Mscale(float factor, float scale) {
  return static_cast<float>(factor > 1.0f ? 0.1 * scale * std::log(static_cast<double>(factor)) + 1.0 : 1.0);
}

// attention_factor is left out where the reader derives the same from the mscales (hf_config.cc).
void AddYarn(const RopeConfig& rope, Json& out) {
  out["type"] = "yarn";
  out["rope_type"] = "yarn";
  out["factor"] = Short(rope.factor);
  out["original_max_position_embeddings"] = rope.original_max_position_embeddings;
  out["beta_fast"] = Short(rope.beta_fast);
  out["beta_slow"] = Short(rope.beta_slow);
  out["mscale"] = Short(rope.mscale);
  if (rope.mscale_all_dim != 0.0f) out["mscale_all_dim"] = Short(rope.mscale_all_dim);
  const auto ratio = [&] {
    const double log_factor = rope.factor > 1.0f ? std::log(static_cast<double>(rope.factor)) : 0.0;
    return static_cast<float>((0.1 * rope.mscale * log_factor + 1.0) / (0.1 * rope.mscale_all_dim * log_factor + 1.0));
  };
  const float derived =
      rope.mscale != 0.0f && rope.mscale_all_dim != 0.0f ? ratio() : Mscale(rope.factor, 1.0f);
  const float wanted = rope.attention_factor != 0.0f ? rope.attention_factor : ratio();
  if (wanted != derived) out["attention_factor"] = Short(wanted);
}

Status AddRope(const RopeConfig& rope, std::string_view architecture, Json& out) {
  if (!rope.freq_factors.empty()) return NoKeyFor("a table of RoPE frequency factors", architecture);
  out["rope_theta"] = Short(rope.theta);
  if (rope.scaling == RopeScaling::kNone) {
    out["rope_scaling"] = nullptr;
    return {};
  }
  Json scaling = Json::object();
  if (rope.scaling == RopeScaling::kYarn) {
    AddYarn(rope, scaling);
  } else {
    const bool linear = rope.scaling == RopeScaling::kLinear;
    scaling["type"] = scaling["rope_type"] = linear ? "linear" : "llama3";
    scaling["factor"] = Short(rope.factor);
    if (!linear) {
      scaling["low_freq_factor"] = Short(rope.low_freq_factor);
      scaling["high_freq_factor"] = Short(rope.high_freq_factor);
      scaling["original_max_position_embeddings"] = rope.original_max_position_embeddings;
    }
  }
  out["rope_scaling"] = std::move(scaling);
  return {};
}

Status AddV3Gate(const MoeConfig& moe, std::string_view architecture, Json& out) {
  if (!moe.has_correction_bias) return NoKeyFor("a sigmoid gate without correction bias", architecture);
  if (!moe.group_score_top2 && moe.n_group > 1) return NoKeyFor("a group scored by its best expert", architecture);
  out["norm_topk_prob"] = moe.norm_topk_prob;
  out["scoring_func"] = "sigmoid";
  out["topk_method"] = "noaux_tc";
  return {};
}

Status AddV2Gate(const MoeConfig& moe, std::string_view architecture, Json& out) {
  if (moe.has_correction_bias) return NoKeyFor("a correction bias beside the softmax gate", architecture);
  if (moe.norm_topk_prob) return NoKeyFor("norm_topk_prob", architecture);
  if (moe.group_score_top2 && moe.n_group > 1) return NoKeyFor("a group scored by its two best", architecture);
  out["norm_topk_prob"] = false;
  out["scoring_func"] = "softmax";
  out["topk_method"] = moe.n_group > 1 ? "group_limited_greedy" : "greedy";
  return {};
}

Status AddMoe(const ModelConfig& config, bool v3, std::string_view architecture, Json& out) {
  MoeConfig moe = config.moe;
  if (moe.n_routed_experts == 0) {
    moe = {};
    moe.n_routed_experts = moe.num_experts_per_tok = moe.n_shared_experts = 1;
    moe.moe_intermediate_size = config.intermediate_size;
    moe.first_k_dense_replace = config.num_hidden_layers + config.num_nextn_predict_layers;
    moe.norm_topk_prob = moe.has_correction_bias = moe.group_score_top2 = true;
  }
  out["moe_intermediate_size"] = moe.moe_intermediate_size;
  out["n_routed_experts"] = moe.n_routed_experts;
  out["n_shared_experts"] = moe.n_shared_experts;
  out["num_experts_per_tok"] = moe.num_experts_per_tok;
  out["first_k_dense_replace"] = moe.first_k_dense_replace;
  out["moe_layer_freq"] = 1;
  out["n_group"] = moe.n_group;
  out["topk_group"] = moe.topk_group;
  out["routed_scaling_factor"] = Short(moe.routed_scaling_factor);
  return v3 ? AddV3Gate(moe, architecture, out) : AddV2Gate(moe, architecture, out);
}

Status AddMla(const ModelConfig& config, bool v3, std::string_view architecture, Json& out) {
  const MlaConfig& mla = config.mla;
  if (config.mla_norm_eps != 1e-6f) return NoKeyFor("an eps of its own for the MLA norms", architecture);
  out["num_key_value_heads"] = config.num_attention_heads;
  out["q_lora_rank"] = mla.q_lora_rank > 0 ? Json(mla.q_lora_rank) : Json(nullptr);
  out["kv_lora_rank"] = mla.kv_lora_rank;
  out["qk_nope_head_dim"] = mla.qk_nope_head_dim;
  out["qk_rope_head_dim"] = mla.qk_rope_head_dim;
  out["v_head_dim"] = mla.v_head_dim;
  const bool interleaved = config.rope.layout == RopeLayout::kInterleaved;
  if (v3) {
    out["rope_interleave"] = interleaved;
  } else if (!interleaved) {
    return NoKeyFor("RoPE pairs split in halves", architecture);
  }
  if (v3 || config.num_nextn_predict_layers > 0) out["num_nextn_predict_layers"] = config.num_nextn_predict_layers;
  out["attention_bias"] = false;
  return AddMoe(config, v3, architecture, out);
}

Status AddGqa(const ModelConfig& config, std::string_view architecture, Json& out) {
  const bool qwen2 = config.family == ArchFamily::kQwen2;
  if (config.rope.layout != RopeLayout::kHalfSplit) return NoKeyFor("interleaved RoPE pairs", architecture);
  if (config.rope.dim != config.head_dim) return NoKeyFor("a partial RoPE", architecture);
  if (config.attention_bias != qwen2) return NoKeyFor("this attention_bias", architecture);
  if (config.num_nextn_predict_layers > 0) return NoKeyFor("num_nextn_predict_layers", architecture);
  out["num_key_value_heads"] = config.num_key_value_heads;
  out["head_dim"] = config.head_dim;
  if (qwen2) {
    out["use_sliding_window"] = false;
  } else {
    out["attention_bias"] = false;
    out["mlp_bias"] = false;
  }
  return {};
}

}  // namespace

Result<std::string> HfConfigJson(const ModelConfig& config, DType dtype, const HfTokenIds& ids) {
  FATHOM_CHECK_OK(ValidateConfig(config));
  const auto torch_name = TorchName(dtype);
  if (!torch_name) {
    return Fail(ErrorCode::kInvalidArgument, "a Hugging Face model in {}; f32, f16 and bf16 are possible",
                DTypeName(dtype));
  }
  const bool mla = config.family == ArchFamily::kDeepseek2;
  const bool v3 = mla && (config.moe.n_routed_experts == 0 || config.moe.scoring_func == GatingFunction::kSigmoid);
  const std::string_view architecture = v3                                      ? "DeepseekV3ForCausalLM"
                                        : mla                                   ? "DeepseekV2ForCausalLM"
                                        : config.family == ArchFamily::kQwen2 ? "Qwen2ForCausalLM"
                                                                                : "LlamaForCausalLM";
  const std::string_view model_type = v3                                      ? "deepseek_v3"
                                      : mla                                   ? "deepseek_v2"
                                      : config.family == ArchFamily::kQwen2 ? "qwen2"
                                                                              : "llama";
  Json out;
  out["architectures"] = Json::array({architecture});
  out["model_type"] = model_type;
  out["torch_dtype"] = *torch_name;
  out["vocab_size"] = config.vocab_size;
  out["hidden_size"] = config.hidden_size;
  out["intermediate_size"] = config.intermediate_size;
  out["num_hidden_layers"] = config.num_hidden_layers;
  out["num_attention_heads"] = config.num_attention_heads;
  if (mla) {
    FATHOM_CHECK_OK(AddMla(config, v3, architecture, out));
  } else {
    FATHOM_CHECK_OK(AddGqa(config, architecture, out));
  }
  out["max_position_embeddings"] = config.max_position_embeddings;
  FATHOM_CHECK_OK(AddRope(config.rope, architecture, out));
  out["rms_norm_eps"] = Short(config.rms_norm_eps);
  out["hidden_act"] = "silu";
  out["attention_dropout"] = 0.0;
  out["initializer_range"] = 0.02;
  out["tie_word_embeddings"] = config.tie_word_embeddings;
  out["use_cache"] = true;
  out["bos_token_id"] = IdOrNull(ids.bos);
  out["eos_token_id"] = IdOrNull(ids.eos);
  out["pad_token_id"] = IdOrNull(ids.pad);
  return out.dump(2) + "\n";
}

}  // namespace fathom
