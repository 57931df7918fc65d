#include "format/hf_config.h"

#include <cmath>

#include "format/json.h"
#include "format/printable.h"

namespace fathom {
namespace {

enum class HfClass { kDeepseekV2, kDeepseekV3, kGlm4MoeLite, kLlama, kQwen2 };

// What a class assumes when its config is silent (configuration_*.py of transformers).
struct ClassDefaults {
  int32_t q_lora_rank;
  int32_t first_k_dense_replace;
  int32_t n_group, topk_group;
  float routed_scaling_factor;
  float rms_norm_eps;
};

ClassDefaults DefaultsOf(HfClass kind) {
  switch (kind) {
    case HfClass::kDeepseekV3:
      return {1536, 3, 8, 4, 2.5f, 1e-6f};
    case HfClass::kGlm4MoeLite:
      return {768, 1, 1, 1, 1.8f, 1e-5f};
    default:
      return {1536, 0, 1, 1, 1.0f, 1e-6f};
  }
}

Result<HfClass> ClassOf(const JsonFields& fields, std::string& architecture) {
  static constexpr std::pair<std::string_view, HfClass> kNames[] = {{"DeepseekV2ForCausalLM", HfClass::kDeepseekV2},
                                                                    {"deepseek_v2", HfClass::kDeepseekV2},
                                                                    {"DeepseekV3ForCausalLM", HfClass::kDeepseekV3},
                                                                    {"deepseek_v3", HfClass::kDeepseekV3},
                                                                    {"KimiK2ForCausalLM", HfClass::kDeepseekV3},
                                                                    {"kimi_k2", HfClass::kDeepseekV3},
                                                                    {"Glm4MoeLiteForCausalLM", HfClass::kGlm4MoeLite},
                                                                    {"glm4_moe_lite", HfClass::kGlm4MoeLite},
                                                                    {"LlamaForCausalLM", HfClass::kLlama},
                                                                    {"llama", HfClass::kLlama},
                                                                    {"Qwen2ForCausalLM", HfClass::kQwen2},
                                                                    {"qwen2", HfClass::kQwen2}};
  const nlohmann::json* list = fields.Find("architectures");
  if (list != nullptr) {
    if (!list->is_array() || list->empty() || !list->front().is_string()) {
      return Fail(ErrorCode::kCorrupt, "architectures is not a list of names");
    }
    architecture = list->front().get<std::string>();
  } else {
    FATHOM_TRY(architecture, fields.String("model_type", ""));
    if (architecture.empty()) return Fail(ErrorCode::kCorrupt, "neither architectures nor model_type is there");
  }
  for (const auto& [name, kind] : kNames) {
    if (name == architecture) return kind;
  }
  return Fail(ErrorCode::kUnsupported,
              "architecture {}; fathom runs DeepseekV2ForCausalLM, DeepseekV3ForCausalLM (and Kimi K2), "
              "Glm4MoeLiteForCausalLM, LlamaForCausalLM and Qwen2ForCausalLM",
              PrintableName(architecture));
}

std::unexpected<Error> Unsupported(std::string_view field, std::string_view value, std::string_view known) {
  return Fail(ErrorCode::kUnsupported, "{} is {}; fathom has {}", field, PrintableName(value), known);
}

Status RefuseUnless(const JsonFields& fields, std::string_view key, bool wanted) {
  FATHOM_TRY(const bool value, fields.Bool(key, wanted));
  if (value != wanted)
    return Unsupported(fields.Name(key), value ? "true" : "false", wanted ? "true only" : "false only");
  return {};
}

Status ReadYarn(const JsonFields& rope, ModelConfig& config) {
  RopeConfig& out = config.rope;
  out.scaling = RopeScaling::kYarn;
  FATHOM_TRY(out.original_max_position_embeddings,
             rope.Int("original_max_position_embeddings", config.max_position_embeddings));
  FATHOM_TRY(const auto factor, rope.OptionalFloat("factor"));
  if (factor) {
    out.factor = *factor;
  } else if (out.original_max_position_embeddings > 0) {
    out.factor =
        static_cast<float>(config.max_position_embeddings) / static_cast<float>(out.original_max_position_embeddings);
  }
  // "or 32", "or 1" in transformers: 0 means the default as well.
  FATHOM_TRY(out.beta_fast, rope.Float("beta_fast", 32.0f));
  FATHOM_TRY(out.beta_slow, rope.Float("beta_slow", 1.0f));
  if (out.beta_fast == 0.0f) out.beta_fast = 32.0f;
  if (out.beta_slow == 0.0f) out.beta_slow = 1.0f;
  FATHOM_TRY(const float mscale, rope.Float("mscale", 0.0f));
  FATHOM_TRY(const float mscale_all_dim, rope.Float("mscale_all_dim", 0.0f));
  const auto get_mscale = [&](float scale) {
    return out.factor > 1.0f ? 0.1 * scale * std::log(static_cast<double>(out.factor)) + 1.0 : 1.0;
  };
  FATHOM_TRY(const auto attention_factor, rope.OptionalFloat("attention_factor"));
  if (attention_factor) {
    out.attention_factor = *attention_factor;
  } else if (mscale != 0.0f && mscale_all_dim != 0.0f) {
    out.attention_factor = static_cast<float>(get_mscale(mscale) / get_mscale(mscale_all_dim));
  } else {
    out.attention_factor = static_cast<float>(get_mscale(1.0f));
  }
  out.mscale = mscale != 0.0f ? mscale : 1.0f;
  out.mscale_all_dim = mscale_all_dim;
  FATHOM_TRY(const bool truncate, rope.Bool("truncate", true));
  if (!truncate) return Unsupported(rope.Name("truncate"), "false", "true only");
  return {};
}

Status ReadRope(const JsonFields& fields, ModelConfig& config) {
  RopeConfig& out = config.rope;
  FATHOM_TRY(out.theta, fields.Float("rope_theta", 10000.0f));
  FATHOM_TRY(const float partial, fields.Float("partial_rotary_factor", 1.0f));
  if (partial != 1.0f) return Unsupported("partial_rotary_factor", fmt::format("{}", partial), "1 only");
  std::string where = "rope_scaling";
  const nlohmann::json* object = fields.Find(where);
  if (object == nullptr) {
    where = "rope_parameters";
    object = fields.Find(where);
  }
  if (object == nullptr) return {};
  if (!object->is_object()) return Fail(ErrorCode::kCorrupt, "{} is not an object", where);
  // transformers 5 may list parameters by kind of layer; sliding layers have been refused before.
  if (const auto full = object->find("full_attention"); full != object->end() && full->is_object()) {
    where += ".full_attention";
    object = &*full;
  }
  const JsonFields rope(*object, where);
  FATHOM_TRY(out.theta, rope.Float("rope_theta", out.theta));
  FATHOM_TRY(const float inner_partial, rope.Float("partial_rotary_factor", 1.0f));
  if (inner_partial != 1.0f)
    return Unsupported(rope.Name("partial_rotary_factor"), fmt::format("{}", inner_partial), "1 only");
  FATHOM_TRY(const std::string old_name, rope.String("type", "default"));
  FATHOM_TRY(const std::string type, rope.String("rope_type", old_name));
  if (type == "default") return {};
  if (type == "yarn") return ReadYarn(rope, config);
  if (type != "linear" && type != "llama3") {
    return Unsupported(rope.Name("rope_type"), type, "default, linear, yarn and llama3");
  }
  FATHOM_TRY(const auto factor, rope.OptionalFloat("factor"));
  if (!factor) return Fail(ErrorCode::kCorrupt, "{} is missing", rope.Name("factor"));
  out.factor = *factor;
  out.scaling = RopeScaling::kLinear;
  if (type == "linear") return {};
  out.scaling = RopeScaling::kLlama3;
  FATHOM_TRY(out.low_freq_factor, rope.Float("low_freq_factor", 1.0f));
  FATHOM_TRY(out.high_freq_factor, rope.Float("high_freq_factor", 4.0f));
  FATHOM_TRY(out.original_max_position_embeddings,
             rope.Int("original_max_position_embeddings", config.max_position_embeddings));
  return {};
}

Status CheckQuantization(const JsonFields& fields) {
  const nlohmann::json* object = fields.Find("quantization_config");
  if (object == nullptr) return {};
  if (!object->is_object()) return Fail(ErrorCode::kCorrupt, "quantization_config is not an object");
  const JsonFields quantization(*object, "quantization_config");
  FATHOM_TRY(const std::string method, quantization.String("quant_method", "unnamed"));
  constexpr std::string_view kKnown = "fp8 (e4m3 in blocks of 128 x 128)";
  if (method != "fp8") return Unsupported("quantization_config.quant_method", method, kKnown);
  FATHOM_TRY(const std::string format, quantization.String("fmt", "e4m3"));
  if (format != "e4m3") return Unsupported("quantization_config.fmt", format, kKnown);
  const nlohmann::json* block = quantization.Find("weight_block_size");
  if (block == nullptr || *block != nlohmann::json::array({128, 128})) {
    return Unsupported(
        "quantization_config.weight_block_size",
        block == nullptr ? "absent" : block->dump(-1, ' ', true, nlohmann::json::error_handler_t::replace), kKnown);
  }
  return {};
}

// Layers are dense first and sparse after; the list, when there is one, must say the same.
Status ReadLayerPattern(const JsonFields& fields, const ClassDefaults& defaults, ModelConfig& config) {
  MoeConfig& moe = config.moe;
  FATHOM_TRY(moe.first_k_dense_replace, fields.Int("first_k_dense_replace", defaults.first_k_dense_replace));
  FATHOM_TRY(const int32_t frequency, fields.Int("moe_layer_freq", 1));
  if (frequency != 1) return Unsupported("moe_layer_freq", fmt::format("{}", frequency), "1 only");
  const nlohmann::json* types = fields.Find("mlp_layer_types");
  if (types == nullptr) return {};
  if (!types->is_array() || types->size() != static_cast<size_t>(config.num_hidden_layers)) {
    return Fail(ErrorCode::kCorrupt, "mlp_layer_types is not a list of {} names", config.num_hidden_layers);
  }
  int32_t dense = 0;
  bool sparse_seen = false;
  for (const auto& type : *types) {
    if (type == "sparse") {
      sparse_seen = true;
    } else if (type != "dense") {
      return Fail(ErrorCode::kCorrupt, "mlp_layer_types has an entry that is neither \"dense\" nor \"sparse\"");
    } else if (sparse_seen) {
      return Unsupported("mlp_layer_types", "dense after sparse", "dense layers only at the beginning");
    } else {
      ++dense;
    }
  }
  moe.first_k_dense_replace = dense;
  return {};
}

Status ReadMoe(const JsonFields& fields, HfClass kind, ModelConfig& config) {
  const ClassDefaults defaults = DefaultsOf(kind);
  MoeConfig& moe = config.moe;
  const char* named = nullptr;
  for (const char* key : {"n_routed_experts", "num_local_experts", "num_experts"}) {
    FATHOM_TRY(const auto count, fields.OptionalInt(key));
    if (count) {
      moe.n_routed_experts = *count;
      named = key;
      break;
    }
  }
  if (named == nullptr) return Fail(ErrorCode::kCorrupt, "n_routed_experts is missing");
  if (moe.n_routed_experts < 1) {
    return Fail(ErrorCode::kCorrupt,
                "{} is {}: a model of this class has at least 1\nOne without experts says so with first_k_dense_replace equal "
                "to num_hidden_layers.", named, moe.n_routed_experts);
  }
  FATHOM_TRY(moe.num_experts_per_tok, fields.Int("num_experts_per_tok"));
  FATHOM_TRY(moe.n_shared_experts, fields.Int("n_shared_experts", 0));
  FATHOM_TRY(moe.moe_intermediate_size, fields.Int("moe_intermediate_size"));
  FATHOM_TRY(moe.routed_scaling_factor, fields.Float("routed_scaling_factor", defaults.routed_scaling_factor));
  FATHOM_CHECK_OK(ReadLayerPattern(fields, defaults, config));

  const bool v2 = kind == HfClass::kDeepseekV2;
  FATHOM_TRY(const std::string scoring, fields.String("scoring_func", v2 ? "softmax" : "sigmoid"));
  if (scoring != (v2 ? "softmax" : "sigmoid")) {
    return Unsupported("scoring_func", scoring, v2 ? "softmax for this class" : "sigmoid for this class");
  }
  moe.scoring_func = v2 ? GatingFunction::kSoftmax : GatingFunction::kSigmoid;
  FATHOM_TRY(moe.norm_topk_prob, fields.Bool("norm_topk_prob", !v2));
  FATHOM_TRY(const std::string method, fields.String("topk_method", v2 ? "greedy" : "noaux_tc"));
  FATHOM_TRY(moe.n_group, fields.Int("n_group", fields.Mentions("n_group") ? 1 : defaults.n_group));
  FATHOM_TRY(moe.topk_group, fields.Int("topk_group", fields.Mentions("topk_group") ? 1 : defaults.topk_group));
  if (v2) {
    // transformers ignores the field; the authors' code renormalises instead of scaling. Nobody sets it.
    if (moe.norm_topk_prob) return Unsupported("norm_topk_prob", "true", "false only for this class");
    if (method == "greedy") {
      moe.n_group = moe.topk_group = 1;
    } else if (method != "group_limited_greedy") {
      return Unsupported("topk_method", method, "greedy and group_limited_greedy for this class");
    }
  } else {
    if (method != "noaux_tc") return Unsupported("topk_method", method, "noaux_tc for this class");
    moe.group_score_top2 = true;
    moe.has_correction_bias = true;
  }
  // A dense model in a class that has no word for it: experts are mentioned, and no layer uses them (as
  // hf_config_writer.h writes it). MTP layers count on from the others.
  if (moe.first_k_dense_replace == config.num_hidden_layers + config.num_nextn_predict_layers) moe = {};
  return {};
}

Status ReadMla(const JsonFields& fields, HfClass kind, ModelConfig& config) {
  MlaConfig& mla = config.mla;
  FATHOM_TRY(mla.q_lora_rank,
             fields.Int("q_lora_rank", fields.Mentions("q_lora_rank") ? 0 : DefaultsOf(kind).q_lora_rank));
  FATHOM_TRY(mla.kv_lora_rank, fields.Int("kv_lora_rank"));
  FATHOM_TRY(mla.qk_nope_head_dim, fields.Int("qk_nope_head_dim"));
  FATHOM_TRY(mla.qk_rope_head_dim, fields.Int("qk_rope_head_dim"));
  FATHOM_TRY(mla.v_head_dim, fields.Int("v_head_dim"));
  config.rope.dim = mla.qk_rope_head_dim;
  config.mla_norm_eps = 1e-6f;  // not rms_norm_eps: the classes build these norms with their default
  bool interleave = true;
  if (kind != HfClass::kDeepseekV2) {
    FATHOM_TRY(interleave, fields.Bool("rope_interleave", true));
  }
  config.rope.layout = interleave ? RopeLayout::kInterleaved : RopeLayout::kHalfSplit;
  FATHOM_CHECK_OK(RefuseUnless(fields, "attention_bias", false));
  FATHOM_TRY(config.num_nextn_predict_layers, fields.Int("num_mtp_layers", 0));
  FATHOM_TRY(config.num_nextn_predict_layers, fields.Int("num_nextn_predict_layers", config.num_nextn_predict_layers));
  return ReadMoe(fields, kind, config);
}

Status ReadGqa(const JsonFields& fields, HfClass kind, ModelConfig& config) {
  FATHOM_TRY(config.num_key_value_heads, fields.Int("num_key_value_heads", config.num_attention_heads));
  int32_t head_dim = 0;
  if (config.num_attention_heads > 0) head_dim = config.hidden_size / config.num_attention_heads;
  FATHOM_TRY(config.head_dim, fields.Int("head_dim", head_dim));
  config.rope.dim = config.head_dim;
  config.rope.layout = RopeLayout::kHalfSplit;
  if (kind == HfClass::kQwen2) {
    config.attention_bias = true;
  } else {
    FATHOM_CHECK_OK(RefuseUnless(fields, "attention_bias", false));
  }
  FATHOM_TRY(const bool sliding, fields.Bool("use_sliding_window", false));
  if (sliding) return Unsupported("use_sliding_window", "true", "full attention only");
  if (const nlohmann::json* types = fields.Find("layer_types")) {
    if (!types->is_array()) return Fail(ErrorCode::kCorrupt, "layer_types is not a list");
    for (const auto& type : *types) {
      if (type != "full_attention") {
        return Unsupported("layer_types", type.is_string() ? type.get<std::string>() : "not a name",
                           "full_attention only");
      }
    }
  }
  return {};
}

}  // namespace

Result<ModelConfig> ConfigFromHuggingFace(std::string_view text, std::string_view name) {
  FATHOM_TRY(const nlohmann::json json, ParseJsonObject(text));
  const JsonFields fields(json);
  ModelConfig config;
  config.name = std::string(name);
  FATHOM_TRY(const HfClass kind, ClassOf(fields, config.architecture));
  FATHOM_CHECK_OK(CheckQuantization(fields));
  config.family = kind == HfClass::kLlama   ? ArchFamily::kLlama
                  : kind == HfClass::kQwen2 ? ArchFamily::kQwen2
                                            : ArchFamily::kDeepseek2;
  FATHOM_TRY(config.vocab_size, fields.Int("vocab_size"));
  FATHOM_TRY(config.hidden_size, fields.Int("hidden_size"));
  FATHOM_TRY(config.intermediate_size, fields.Int("intermediate_size"));
  FATHOM_TRY(config.num_hidden_layers, fields.Int("num_hidden_layers"));
  FATHOM_TRY(config.num_attention_heads, fields.Int("num_attention_heads"));
  FATHOM_TRY(config.max_position_embeddings, fields.Int("max_position_embeddings"));
  FATHOM_TRY(config.rms_norm_eps, fields.Float("rms_norm_eps", DefaultsOf(kind).rms_norm_eps));
  FATHOM_TRY(config.tie_word_embeddings, fields.Bool("tie_word_embeddings", false));
  FATHOM_TRY(const std::string activation, fields.String("hidden_act", "silu"));
  if (activation != "silu") return Unsupported("hidden_act", activation, "silu only");
  FATHOM_CHECK_OK(RefuseUnless(fields, "mlp_bias", false));
  if (config.family == ArchFamily::kDeepseek2) {
    FATHOM_CHECK_OK(ReadMla(fields, kind, config));
  } else {
    FATHOM_CHECK_OK(ReadGqa(fields, kind, config));
  }
  FATHOM_CHECK_OK(ReadRope(fields, config));
  FATHOM_CHECK_OK(ValidateConfig(config));
  return config;
}

}  // namespace fathom
