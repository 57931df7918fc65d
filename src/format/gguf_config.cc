#include "format/gguf_config.h"

#include <cmath>
#include <limits>

#include "format/printable.h"

namespace fathom {
namespace {

// Reads `ARCH.suffix` keys, with the range of the field they go into.
class Keys {
 public:
  Keys(const GgufFile& file, std::string arch) : file_(file), arch_(std::move(arch)) {}

  std::string Name(std::string_view suffix) const { return fmt::format("{}.{}", arch_, suffix); }
  bool Has(std::string_view suffix) const { return file_.Find(Name(suffix)) != nullptr; }

  Result<int32_t> Int(std::string_view suffix, std::optional<int32_t> fallback = std::nullopt) const {
    const std::string key = Name(suffix);
    // Some files give per-layer arrays; those that are the same everywhere mean one number.
    const GgufValue* value = file_.Find(key);
    std::optional<int64_t> number;
    if (value != nullptr && value->type == GgufType::kArray) {
      FATHOM_TRY(const auto read, file_.Ints(key));
      const std::vector<int64_t> all = read.value_or(std::vector<int64_t>());
      if (all.empty()) return Fail(ErrorCode::kCorrupt, "metadata {} is an empty array", key);
      for (int64_t one : all) {
        if (one != all.front()) return Fail(ErrorCode::kUnsupported, "metadata {} differs between layers", key);
      }
      number = all.front();
    } else {
      FATHOM_TRY(number, file_.Int(key));
    }
    if (!number) {
      if (fallback) return *fallback;
      return Fail(ErrorCode::kCorrupt, "metadata {} is missing", key);
    }
    if (*number < 0 || *number > std::numeric_limits<int32_t>::max()) {
      return Fail(ErrorCode::kCorrupt, "metadata {} is {}, out of range", key, *number);
    }
    return static_cast<int32_t>(*number);
  }

  Result<float> Float(std::string_view suffix, std::optional<float> fallback = std::nullopt) const {
    FATHOM_TRY(const auto number, file_.Float(Name(suffix)));
    if (!number) {
      if (fallback) return *fallback;
      return Fail(ErrorCode::kCorrupt, "metadata {} is missing", Name(suffix));
    }
    if (std::abs(*number) > std::numeric_limits<float>::max()) {
      return Fail(ErrorCode::kCorrupt, "metadata {} is {}, out of range", Name(suffix), *number);
    }
    return static_cast<float>(*number);
  }

  const GgufFile& file() const { return file_; }

 private:
  const GgufFile& file_;
  std::string arch_;
};

Status ReadRope(const Keys& keys, ModelConfig& config) {
  RopeConfig& rope = config.rope;
  FATHOM_TRY(rope.theta, keys.Float("rope.freq_base", 10000.0f));
  FATHOM_TRY(const auto type, keys.file().String(keys.Name("rope.scaling.type")));
  FATHOM_TRY(float factor, keys.Float("rope.scaling.factor", 0.0f));
  if (factor == 0.0f) {
    FATHOM_TRY(factor, keys.Float("rope.scale_linear", 0.0f));
  }
  if (factor == 0.0f) factor = 1.0f;
  // Without a type, a factor means linear scaling.
  const std::string_view name = type.value_or("linear");
  if (name == "none") return {};
  if (name == "linear") {
    if (factor != 1.0f) {
      rope.scaling = RopeScaling::kLinear;
      rope.factor = factor;
    }
    return {};
  }
  if (name != "yarn") {
    return Fail(ErrorCode::kUnsupported, "metadata {} is \"{}\"; fathom knows none, linear and yarn",
                keys.Name("rope.scaling.type"), PrintableName(name));
  }
  rope.scaling = RopeScaling::kYarn;
  rope.factor = factor;
  FATHOM_TRY(rope.original_max_position_embeddings,
             keys.Int("rope.scaling.original_context_length", config.max_position_embeddings));
  FATHOM_TRY(rope.beta_fast, keys.Float("rope.scaling.yarn_beta_fast", 32.0f));
  FATHOM_TRY(rope.beta_slow, keys.Float("rope.scaling.yarn_beta_slow", 1.0f));
  rope.attention_factor = factor > 1.0f ? 1.0f + 0.1f * std::log(factor) : 1.0f;
  if (config.family == ArchFamily::kDeepseek2) {
    // The converter stores 0.1 × mscale_all_dim here (llama.cpp pull request 17945), and mscale nowhere: in every
    // published model it is the same, so cos and sin are not scaled and the softmax is, by mscale squared.
    FATHOM_TRY(const float multiplier, keys.Float("rope.scaling.yarn_log_multiplier", 0.0f));
    if (multiplier != 0.0f) {
      rope.mscale = rope.mscale_all_dim = 10.0f * multiplier;
      rope.attention_factor = 1.0f;
    }
  }
  if (keys.Has("rope.scaling.yarn_attn_factor")) {
    FATHOM_TRY(rope.attention_factor, keys.Float("rope.scaling.yarn_attn_factor"));
  }
  FATHOM_TRY(const float attn_factor, keys.Float("rope.scaling.attn_factor", 1.0f));
  rope.attention_factor *= attn_factor;
  return {};
}

Status ReadMla(const Keys& keys, ModelConfig& config) {
  MlaConfig& mla = config.mla;
  // Mistral Large 3 is stored as deepseek2 and scales queries by position; without that it would answer nonsense.
  FATHOM_TRY(const float temperature, keys.Float("attention.temperature_scale", 0.0f));
  if (temperature != 0.0f) {
    return Fail(ErrorCode::kUnsupported, "metadata {} is {}: attention temperature, which fathom does not have",
                keys.Name("attention.temperature_scale"), temperature);
  }
  FATHOM_TRY(mla.kv_lora_rank, keys.Int("attention.kv_lora_rank"));
  FATHOM_TRY(mla.q_lora_rank, keys.Int("attention.q_lora_rank", 0));
  FATHOM_TRY(mla.qk_rope_head_dim, keys.Int("rope.dimension_count"));
  config.rope.dim = mla.qk_rope_head_dim;
  // key_length_mla and value_length_mla are the heads as trained; without them the file has the legacy layout, where
  // key_length and value_length say it.
  const bool mainline = keys.Has("attention.key_length_mla");
  const char* key_length = mainline ? "attention.key_length_mla" : "attention.key_length";
  const char* value_length = mainline ? "attention.value_length_mla" : "attention.value_length";
  FATHOM_TRY(const int32_t qk, keys.Int(key_length));
  FATHOM_TRY(mla.v_head_dim, keys.Int(value_length));
  if (qk <= mla.qk_rope_head_dim) {
    return Fail(ErrorCode::kCorrupt, "metadata {} is {}; it must be above rope.dimension_count ({})",
                keys.Name(key_length), qk, mla.qk_rope_head_dim);
  }
  mla.qk_nope_head_dim = qk - mla.qk_rope_head_dim;
  config.mla_norm_eps = 1e-6f;
  return {};
}

// Converters wrote no group keys until the summer of 2025. The files of DeepSeek-V2, V2.5, V3 and R1 from before route
// by groups all the same, as their authors' code does; the two shapes are unmistakable.
void SupplyGroups(ModelConfig& config) {
  MoeConfig& moe = config.moe;
  const bool v2 = config.num_hidden_layers == 60 && config.hidden_size == 5120 && moe.n_routed_experts == 160 &&
                  config.num_attention_heads == 128 && config.vocab_size == 102400;
  const bool v3 = config.num_hidden_layers == 61 && config.hidden_size == 7168 && moe.n_routed_experts == 256 &&
                  config.num_attention_heads == 128 && config.vocab_size == 129280;
  if (!v2 && !v3) return;
  moe.n_group = 8;
  moe.topk_group = v2 ? 3 : 4;
}

Status ReadMoe(const Keys& keys, const GgufTensorFacts& facts, ModelConfig& config) {
  MoeConfig& moe = config.moe;
  FATHOM_TRY(moe.n_routed_experts, keys.Int("expert_count", 0));
  if (moe.n_routed_experts == 0) return {};
  FATHOM_TRY(moe.num_experts_per_tok, keys.Int("expert_used_count"));
  FATHOM_TRY(moe.n_shared_experts, keys.Int("expert_shared_count", 0));
  FATHOM_TRY(moe.moe_intermediate_size, keys.Int("expert_feed_forward_length"));
  FATHOM_TRY(moe.first_k_dense_replace, keys.Int("leading_dense_block_count", 0));
  if (!keys.Has("expert_group_count")) SupplyGroups(config);
  FATHOM_TRY(moe.n_group, keys.Int("expert_group_count", moe.n_group));
  FATHOM_TRY(moe.topk_group,
             keys.Int("expert_group_used_count", keys.Has("expert_group_count") ? moe.n_group : moe.topk_group));
  if (moe.n_group <= 1) moe.n_group = moe.topk_group = 1;
  FATHOM_TRY(moe.routed_scaling_factor, keys.Float("expert_weights_scale", 1.0f));
  if (moe.routed_scaling_factor == 0.0f) moe.routed_scaling_factor = 1.0f;
  FATHOM_TRY(const auto norm, keys.file().Bool(keys.Name("expert_weights_norm")));
  moe.norm_topk_prob = norm.value_or(false);
  FATHOM_TRY(const int32_t gating, keys.Int("expert_gating_func", 0));
  switch (gating) {
    case 0: {  // older files do not say: DeepSeek-V2, or an early GLM-4.7-Flash
      const bool glm =
          (config.num_hidden_layers == 47 || config.num_hidden_layers == 48) && config.vocab_size == 154880;
      moe.scoring_func = glm ? GatingFunction::kSigmoid : GatingFunction::kSoftmax;
      break;
    }
    case 1:
      moe.scoring_func = GatingFunction::kSoftmax;
      break;
    case 2:
      moe.scoring_func = GatingFunction::kSigmoid;
      break;
    default:
      return Fail(ErrorCode::kUnsupported, "metadata {} is {}; fathom knows 1 (softmax) and 2 (sigmoid)",
                  keys.Name("expert_gating_func"), gating);
  }
  moe.has_correction_bias = facts.has_correction_bias;
  moe.group_score_top2 = moe.scoring_func == GatingFunction::kSigmoid;
  return {};
}

Status ReadGqa(const Keys& keys, ModelConfig& config) {
  FATHOM_TRY(config.num_key_value_heads, keys.Int("attention.head_count_kv", config.num_attention_heads));
  int32_t head_dim = 0;
  if (config.num_attention_heads > 0 && config.hidden_size % config.num_attention_heads == 0) {
    head_dim = config.hidden_size / config.num_attention_heads;
  }
  FATHOM_TRY(config.head_dim, keys.Int("attention.key_length", head_dim));
  FATHOM_TRY(const int32_t value_length, keys.Int("attention.value_length", config.head_dim));
  if (value_length != config.head_dim) {
    return Fail(ErrorCode::kUnsupported, "metadata {} ({}) differs from key_length ({})",
                keys.Name("attention.value_length"), value_length, config.head_dim);
  }
  FATHOM_TRY(config.rope.dim, keys.Int("rope.dimension_count", config.head_dim));
  FATHOM_TRY(const int32_t experts, keys.Int("expert_count", 0));
  if (experts > 0) {
    return Fail(ErrorCode::kUnsupported, "metadata {}: a mixture of experts in a {} model", keys.Name("expert_count"),
                config.architecture);
  }
  return {};
}

Status ReadVocabSize(const Keys& keys, const GgufTensorFacts& facts, ModelConfig& config) {
  FATHOM_TRY(const auto tokens, keys.file().ArrayCount("tokenizer.ggml.tokens"));
  FATHOM_TRY(const int32_t stated, keys.Int("vocab_size", 0));
  const int64_t count = facts.embedding_rows > 0 ? facts.embedding_rows
                        : tokens                 ? static_cast<int64_t>(std::min<uint64_t>(*tokens, INT32_MAX))
                                                 : stated;
  if (count <= 0)
    return Fail(ErrorCode::kCorrupt, "neither token_embd.weight nor tokenizer.ggml.tokens nor {} is there",
                keys.Name("vocab_size"));
  if (count > INT32_MAX) return Fail(ErrorCode::kCorrupt, "token_embd.weight has {} rows", count);
  if (tokens && *tokens > static_cast<uint64_t>(count)) {
    return Fail(ErrorCode::kCorrupt, "tokenizer.ggml.tokens has {} entries but token_embd.weight has {} rows", *tokens,
                count);
  }
  config.vocab_size = static_cast<int32_t>(count);
  return {};
}

}  // namespace

Result<ModelConfig> ConfigFromGguf(const GgufFile& file, const GgufTensorFacts& facts) {
  FATHOM_TRY(const auto architecture, file.String("general.architecture"));
  if (!architecture) return Fail(ErrorCode::kCorrupt, "metadata general.architecture is missing");
  ModelConfig config;
  config.architecture = std::string(*architecture);
  if (*architecture == "deepseek2") {
    config.family = ArchFamily::kDeepseek2;
    config.rope.layout = RopeLayout::kInterleaved;
  } else if (*architecture == "llama") {
    config.family = ArchFamily::kLlama;
    config.rope.layout = RopeLayout::kInterleaved;  // the converter permutes Q and K for it
    config.attention_bias = facts.has_attention_bias;
  } else if (*architecture == "qwen2") {
    config.family = ArchFamily::kQwen2;
    config.rope.layout = RopeLayout::kHalfSplit;
    config.attention_bias = true;
  } else {
    return Fail(ErrorCode::kUnsupported, "architecture \"{}\"; fathom runs deepseek2, llama and qwen2",
                PrintableName(*architecture));
  }
  FATHOM_TRY(const auto name, file.String("general.name"));
  config.name = std::string(name.value_or(""));

  const Keys keys(file, config.architecture);
  FATHOM_TRY(const int32_t blocks, keys.Int("block_count"));
  FATHOM_TRY(config.num_nextn_predict_layers, keys.Int("nextn_predict_layers", 0));
  if (config.num_nextn_predict_layers >= blocks) {
    return Fail(ErrorCode::kCorrupt, "metadata {} ({}) leaves no layers of {}", keys.Name("nextn_predict_layers"),
                config.num_nextn_predict_layers, blocks);
  }
  config.num_hidden_layers = blocks - config.num_nextn_predict_layers;
  FATHOM_TRY(config.hidden_size, keys.Int("embedding_length"));
  FATHOM_TRY(config.intermediate_size, keys.Int("feed_forward_length"));
  FATHOM_TRY(config.num_attention_heads, keys.Int("attention.head_count"));
  FATHOM_TRY(config.rms_norm_eps, keys.Float("attention.layer_norm_rms_epsilon"));
  FATHOM_TRY(config.max_position_embeddings, keys.Int("context_length"));
  config.tie_word_embeddings = !facts.has_output;
  FATHOM_CHECK_OK(ReadVocabSize(keys, facts, config));
  FATHOM_CHECK_OK(ReadRope(keys, config));
  config.rope.freq_factors = facts.rope_freqs;
  if (config.family == ArchFamily::kDeepseek2) {
    FATHOM_CHECK_OK(ReadMla(keys, config));
    FATHOM_CHECK_OK(ReadMoe(keys, facts, config));
  } else {
    FATHOM_CHECK_OK(ReadGqa(keys, config));
  }
  FATHOM_CHECK_OK(ValidateConfig(config));
  return config;
}

Result<TokenizerSource> TokenizerFromGguf(const GgufFile& file) {
  TokenizerSource source;
  FATHOM_TRY(const auto model, file.String("tokenizer.ggml.model"));
  if (!model) return source;
  source.ggml_model = std::string(*model);
  FATHOM_TRY(const auto pre, file.String("tokenizer.ggml.pre"));
  source.ggml_pre = std::string(pre.value_or(""));
  FATHOM_TRY(auto tokens, file.Strings("tokenizer.ggml.tokens"));
  if (!tokens) return Fail(ErrorCode::kCorrupt, "metadata tokenizer.ggml.tokens is missing");
  if (tokens->size() > static_cast<size_t>(INT32_MAX)) {
    return Fail(ErrorCode::kCorrupt, "tokenizer.ggml.tokens has {} entries", tokens->size());
  }
  source.tokens = std::move(*tokens);
  FATHOM_TRY(auto merges, file.Strings("tokenizer.ggml.merges"));
  if (merges) source.merges = std::move(*merges);
  FATHOM_TRY(const auto types, file.Ints("tokenizer.ggml.token_type"));
  if (types) {
    if (types->size() != source.tokens.size()) {
      return Fail(ErrorCode::kCorrupt, "tokenizer.ggml.token_type has {} entries for {} tokens", types->size(),
                  source.tokens.size());
    }
    source.token_types.reserve(types->size());
    for (int64_t type : *types) {
      if (type < 0 || type > 6) return Fail(ErrorCode::kCorrupt, "tokenizer.ggml.token_type has the value {}", type);
      source.token_types.push_back(static_cast<int32_t>(type));
    }
  }
  const auto read_id = [&](const char* key, int32_t& out) -> Status {
    FATHOM_TRY(const auto id, file.Int(key));
    // 0xffffffff stands for "none" in some files.
    if (!id || *id == 0xffffffff || *id == -1) return {};
    if (*id < 0 || *id >= static_cast<int64_t>(source.tokens.size())) {
      return Fail(ErrorCode::kCorrupt, "metadata {} is {}, outside the vocabulary of {}", key, *id,
                  source.tokens.size());
    }
    out = static_cast<int32_t>(*id);
    return {};
  };
  FATHOM_CHECK_OK(read_id("tokenizer.ggml.bos_token_id", source.bos_id));
  FATHOM_CHECK_OK(read_id("tokenizer.ggml.eos_token_id", source.eos_id));
  FATHOM_CHECK_OK(read_id("tokenizer.ggml.padding_token_id", source.pad_id));
  FATHOM_CHECK_OK(read_id("tokenizer.ggml.unknown_token_id", source.unk_id));
  FATHOM_CHECK_OK(read_id("tokenizer.ggml.eot_token_id", source.eot_id));
  int32_t eom_id = -1;
  FATHOM_CHECK_OK(read_id("tokenizer.ggml.eom_token_id", eom_id));
  if (eom_id >= 0) source.eog_ids.push_back(eom_id);
  FATHOM_TRY(const auto add_bos, file.Bool("tokenizer.ggml.add_bos_token"));
  FATHOM_TRY(const auto add_eos, file.Bool("tokenizer.ggml.add_eos_token"));
  if (add_bos) source.add_bos = *add_bos ? 1 : 0;
  if (add_eos) source.add_eos = *add_eos ? 1 : 0;
  FATHOM_TRY(const auto chat_template, file.String("tokenizer.chat_template"));
  source.chat_template = std::string(chat_template.value_or(""));
  return source;
}

}  // namespace fathom
