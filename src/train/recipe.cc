#include "train/recipe.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numbers>
#include <set>

#include "io/env.h"
#include "train/toml_reader.h"

namespace fathom {
namespace {

constexpr int64_t kMaxRecipeBytes = 1 << 20;
constexpr int64_t kMaxTokens = int64_t{1} << 53;

class RecipeReader {
 public:
  RecipeReader(const toml::table& document, const std::string& path)
      : path_(path), document_(&document, "", errors_) {
    errors_.source = path.empty() ? "recipe" : path;
  }

  Result<Recipe> Run() {
    recipe_.path = path_;
    recipe_.name = path_.empty() ? "" : std::filesystem::path(path_).stem().string();
    document_.Read("name", recipe_.name);
    ReadSeed(document_, "seed", recipe_.seed);
    ReadFiles();
    ReadModel();
    ReadBatch();
    ReadPrecision();
    ReadOptimizer();
    ReadSchedule();
    ReadLoss();
    ReadStages();
    ReadValidation();
    TomlSection checkpoint = document_.Sub("checkpoint");
    checkpoint.Read("minutes", recipe_.checkpoint_minutes, 0, 1e6);
    checkpoint.Read("keep", recipe_.keep_checkpoints, 1, 1000);
    checkpoint.RefuseUnknown();
    TomlSection cost = document_.Sub("cost");
    cost.Read("price_per_hour", recipe_.price_per_hour, 0, 1e9);
    cost.Read("currency", recipe_.currency);
    cost.RefuseUnknown();
    document_.RefuseUnknown();
    if (errors_.first) return std::unexpected(*errors_.first);
    CheckHeldOut();
    if (errors_.first) return std::unexpected(*errors_.first);
    return std::move(recipe_);
  }

 private:
  static void ReadSeed(TomlSection& section, std::string_view key, uint64_t& out) {
    int64_t value = static_cast<int64_t>(out);
    section.Read(key, value, 0, INT64_MAX);
    out = static_cast<uint64_t>(value);
  }

  /// Relative paths of the file are relative to its folder; those of the command line, to where it is typed.
  std::string Resolve(const std::string& path, const toml::node* node) const {
    if (path.empty() || path.front() == '/' || path_.empty() || (node != nullptr && FromOverride(*node))) return path;
    return (std::filesystem::path(DirectoryOf(path_)) / path).lexically_normal().string();
  }

  void ReadPath(TomlSection& section, std::string& out) {
    section.Require("path");
    section.Read("path", out);
    if (section.present() && section.table()->get("path") != nullptr && out.empty()) {
      section.Fail("path", section.Name("path") + " is empty");
    }
    if (section.present()) out = Resolve(out, section.table()->get("path"));
    section.RefuseUnknown();
  }

  void ReadFiles() {
    TomlSection tokenizer = document_.Sub("tokenizer");
    ReadPath(tokenizer, recipe_.tokenizer);
    TomlSection output = document_.Sub("output");
    ReadPath(output, recipe_.output);
  }

  void ReadModel() {
    ModelConfig& config = recipe_.model;
    config.family = ArchFamily::kDeepseek2;
    config.architecture = "DeepseekV3ForCausalLM";
    config.name = recipe_.name;
    config.max_position_embeddings = 4096;
    config.rope.layout = RopeLayout::kInterleaved;
    config.moe.scoring_func = GatingFunction::kSigmoid;
    config.moe.group_score_top2 = true;
    config.moe.has_correction_bias = true;
    config.moe.norm_topk_prob = true;
    config.moe.routed_scaling_factor = 2.5f;

    constexpr int64_t kMax = INT32_MAX;  // what is possible is ValidateConfig's to say
    TomlSection model = document_.Sub("model");
    for (const std::string_view key : {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
                                       "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"}) {
      model.Require(key);
    }
    model.Read("vocab_size", config.vocab_size, 0, kMax);
    model.Read("hidden_size", config.hidden_size, 0, kMax);
    model.Read("intermediate_size", config.intermediate_size, 0, kMax);
    model.Read("num_hidden_layers", config.num_hidden_layers, 0, kMax);
    model.Read("num_nextn_predict_layers", config.num_nextn_predict_layers, 0, kMax);
    model.Read("num_attention_heads", config.num_attention_heads, 0, kMax);
    model.Read("max_position_embeddings", config.max_position_embeddings, 0, kMax);
    model.Read("rms_norm_eps", config.rms_norm_eps, 1e-12, 1);
    model.Read("tie_word_embeddings", config.tie_word_embeddings);
    model.Read("rope_theta", config.rope.theta, 1, 1e15);
    MlaConfig& mla = config.mla;
    model.Read("q_lora_rank", mla.q_lora_rank, 0, kMax);
    model.Read("kv_lora_rank", mla.kv_lora_rank, 0, kMax);
    model.Read("qk_nope_head_dim", mla.qk_nope_head_dim, 0, kMax);
    model.Read("qk_rope_head_dim", mla.qk_rope_head_dim, 0, kMax);
    model.Read("v_head_dim", mla.v_head_dim, 0, kMax);
    config.rope.dim = mla.qk_rope_head_dim;
    MoeConfig& moe = config.moe;
    model.Read("n_routed_experts", moe.n_routed_experts, 0, kMax);
    model.Read("num_experts_per_tok", moe.num_experts_per_tok, 0, kMax);
    model.Read("n_shared_experts", moe.n_shared_experts, 0, kMax);
    model.Read("moe_intermediate_size", moe.moe_intermediate_size, 0, kMax);
    model.Read("first_k_dense_replace", moe.first_k_dense_replace, 0, kMax);
    model.Read("n_group", moe.n_group, 0, kMax);
    model.Read("topk_group", moe.topk_group, 0, kMax);
    model.Read("norm_topk_prob", moe.norm_topk_prob);
    model.Read("routed_scaling_factor", moe.routed_scaling_factor, 0, 1e6);
    int scoring = 0;
    model.Read("scoring_func", scoring, {"sigmoid"});  // the softmax gate of V2 is not trained
    model.RefuseUnknown();
    if (errors_.first) return;
    const Status valid = ValidateConfig(config);
    if (valid) return;
    // ValidateConfig's messages begin with the field, which is the key.
    const std::string& message = valid.error().message;
    model.Fail(message.substr(0, message.find(' ')), "model." + message);
  }

  void ReadBatch() {
    TomlSection batch = document_.Sub("batch");
    batch.Read("tokens", recipe_.batch_tokens, 1, int64_t{1} << 40);
    recipe_.micro_batch_tokens = std::min(recipe_.micro_batch_tokens, recipe_.batch_tokens);
    batch.Read("micro_tokens", recipe_.micro_batch_tokens, 1, int64_t{1} << 30);
    recipe_.sequence_length = std::min({recipe_.sequence_length, recipe_.micro_batch_tokens,
                                        static_cast<int64_t>(std::max(1, recipe_.model.max_position_embeddings))});
    batch.Read("sequence_length", recipe_.sequence_length, 8, int64_t{1} << 30);
    if (recipe_.batch_tokens % recipe_.micro_batch_tokens != 0) {
      batch.Fail("tokens", fmt::format("batch.tokens ({}) is not a multiple of batch.micro_tokens ({})",
                                       recipe_.batch_tokens, recipe_.micro_batch_tokens));
    }
    if (recipe_.sequence_length > recipe_.micro_batch_tokens) {
      batch.Fail("sequence_length", fmt::format("batch.sequence_length ({}) is more than batch.micro_tokens ({})",
                                                recipe_.sequence_length, recipe_.micro_batch_tokens));
    }
    if (recipe_.sequence_length > recipe_.model.max_position_embeddings) {
      batch.Fail("sequence_length",
                 fmt::format("batch.sequence_length ({}) is more than model.max_position_embeddings ({})",
                             recipe_.sequence_length, recipe_.model.max_position_embeddings));
    }
    batch.RefuseUnknown();
  }

  void ReadPrecision() {
    TomlSection precision = document_.Sub("precision");
    int matmul = recipe_.bf16 ? 0 : 1;
    precision.Read("matmul", matmul, {"bf16", "f32"});
    recipe_.bf16 = matmul == 0;
    precision.Read("checkpoint_activations", recipe_.checkpoint_activations);
    precision.RefuseUnknown();
  }

  void ReadOptimizer() {
    OptimizerSpec& out = recipe_.optimizer;
    TomlSection optimizer = document_.Sub("optimizer");
    int kind = out.muon ? 0 : 1;
    optimizer.Read("kind", kind, {"muon", "adamw"});
    out.muon = kind == 0;
    optimizer.Read("learning_rate", out.learning_rate, 0, 100);
    optimizer.Read("adam_learning_rate", out.adam_learning_rate, 0, 100);
    optimizer.Read("beta1", out.beta1, 0, 0.999999);
    optimizer.Read("beta2", out.beta2, 0, 0.999999);
    optimizer.Read("epsilon", out.epsilon, 1e-30, 1);
    optimizer.Read("momentum", out.momentum, 0, 0.999999);
    optimizer.Read("newton_schulz_steps", out.newton_schulz_steps, 1, 100);
    optimizer.Read("weight_decay", out.weight_decay, 0, 100);
    optimizer.Read("clip_norm", out.clip_norm, 0, 1e9);
    optimizer.RefuseUnknown();
  }

  void ReadSchedule() {
    Schedule& out = recipe_.schedule;
    TomlSection schedule = document_.Sub("schedule");
    int kind = static_cast<int>(out.kind);
    schedule.Read("kind", kind, {"constant", "cosine", "wsd"});
    out.kind = static_cast<ScheduleKind>(kind);
    schedule.Read("warmup_tokens", out.warmup_tokens, 0, kMaxTokens);
    schedule.Read("decay_share", out.decay_share, 0, 1);
    schedule.Read("final_share", out.final_share, 0, 1);
    schedule.RefuseUnknown();
  }

  void ReadLoss() {
    LossSpec& out = recipe_.loss;
    TomlSection loss = document_.Sub("loss");
    loss.Read("mtp_weight", out.mtp_weight, 0, 100);
    loss.Read("bias_update_speed", out.bias_update_speed, 0, 10);
    loss.Read("sequence_balance_weight", out.sequence_balance_weight, 0, 100);
    loss.RefuseUnknown();
  }

  DataSpec ReadData(TomlSection& data) {
    DataSpec out;
    int kind = 0;
    data.Require("kind");
    data.Read("kind", kind, {"text", "chat", "tasks"});
    out.kind = static_cast<DataSpec::Kind>(kind);
    data.Read("weight", out.weight, 1e-9, 1e9);
    data.Read("held_out", out.held_out);
    if (out.kind == DataSpec::Kind::kTasks) {
      ReadSeed(data, "seed", out.seed);
      data.Read("families", out.families);
      data.Read("no_thinking_share", out.no_thinking_share, 0, 1);
    } else {
      data.Require("paths");
      data.Read("paths", out.paths);
      if (data.present() && out.paths.empty()) data.Fail("paths", data.Name("paths") + " names no file");
      for (std::string& path : out.paths) {
        if (path.empty()) data.Fail("paths", data.Name("paths") + " has an empty name");
        path = Resolve(path, data.table()->get("paths"));
      }
      data.Read("held_out_share", out.held_out_share, 0, 0.999);
      if (out.held_out && out.held_out_share == 0) {
        data.Fail("held_out", data.Name("held_out") + " needs held_out_share, the share that is held out");
      }
    }
    data.RefuseUnknown();
    return out;
  }

  void ReadStages() {
    std::set<std::string> names;
    for (TomlSection& stage : document_.Array("stage")) {
      StageSpec out;
      out.name = fmt::format("stage{}", recipe_.stages.size() + 1);
      stage.Read("name", out.name);
      stage.Require("tokens");
      stage.Read("tokens", out.tokens, 1, kMaxTokens);
      for (TomlSection& data : stage.Array("data")) out.data.push_back(ReadData(data));
      if (out.data.empty()) stage.Fail("data", fmt::format("{} has no data: add [[stage.data]]", stage.prefix()));
      if (!names.insert(out.name).second) stage.Fail("name", fmt::format("two stages are named \"{}\"", out.name));
      stage.RefuseUnknown();
      recipe_.stages.push_back(std::move(out));
    }
    if (recipe_.stages.empty()) document_.Fail("stage", "no [[stage]]: say what to train on");
    int64_t sum = 0;
    for (const StageSpec& stage : recipe_.stages) {
      if (stage.tokens > kMaxTokens - sum) return document_.Fail("stage", "the stages' tokens add up to too many");
      sum += stage.tokens;
    }
  }

  void ReadValidation() {
    TomlSection validation = document_.Sub("validation");
    validation.Read("tokens", recipe_.validation_tokens, 1, int64_t{1} << 40);
    validation.Read("every_steps", recipe_.validate_every_steps, 1, int64_t{1} << 40);
    for (TomlSection& data : validation.Array("data")) recipe_.validation.push_back(ReadData(data));
    validation.RefuseUnknown();
  }

  /// What is validated on must not be trained on, and the other way round: a file that both name must be cut at one
  /// place. (Files that two different globs match are beyond this check.)
  void CheckHeldOut() {
    for (size_t s = 0; s < recipe_.stages.size(); ++s) {
      for (size_t d = 0; d < recipe_.stages[s].data.size(); ++d) {
        const DataSpec& train = recipe_.stages[s].data[d];
        if (train.held_out) {
          return errors_.Set(nullptr, fmt::format("stage[{}].data[{}].held_out: a stage cannot train on what is held "
                                                  "out; use it under [[validation.data]]", s, d));
        }
        for (size_t v = 0; v < recipe_.validation.size(); ++v) {
          const DataSpec& check = recipe_.validation[v];
          if (!check.held_out || check.held_out_share <= train.held_out_share) continue;
          for (const std::string& path : check.paths) {
            if (std::find(train.paths.begin(), train.paths.end(), path) == train.paths.end()) continue;
            return errors_.Set(
                nullptr, fmt::format("validation.data[{}] holds out {} of {}, but stage[{}].data[{}] trains on all but "
                                     "{} of it; give both the same held_out_share",
                                     v, check.held_out_share, path, s, d, train.held_out_share));
          }
        }
      }
    }
  }

  TomlErrors errors_;
  std::string path_;
  TomlSection document_;
  Recipe recipe_;
};

}  // namespace

double ScheduleShare(const Schedule& schedule, int64_t tokens, int64_t total) {
  const double at = static_cast<double>(std::clamp<int64_t>(tokens, 0, std::max<int64_t>(total, 0)));
  const double end = static_cast<double>(std::max<int64_t>(total, 1));
  const double warmup = static_cast<double>(std::max<int64_t>(schedule.warmup_tokens, 0));
  const double rise = warmup > 0 ? std::min(1.0, at / warmup) : 1.0;
  double fall = 1.0;
  if (schedule.kind == ScheduleKind::kCosine && end > warmup) {
    const double progress = std::clamp((at - warmup) / (end - warmup), 0.0, 1.0);
    fall = schedule.final_share + (1 - schedule.final_share) * 0.5 * (1 + std::cos(std::numbers::pi * progress));
  } else if (schedule.kind == ScheduleKind::kWsd && schedule.decay_share > 0) {
    const double begin = end * (1 - schedule.decay_share);
    const double progress = std::clamp((at - begin) / (end - begin), 0.0, 1.0);
    fall = 1 - (1 - schedule.final_share) * progress;
  }
  return std::min(rise, fall);
}

Result<Recipe> ParseRecipe(std::string_view text, const std::string& path, const std::vector<std::string>& overrides) {
  FATHOM_TRY(toml::table document, ParseToml(text, path.empty() ? "recipe" : path));
  for (const std::string& override_text : overrides) FATHOM_CHECK_OK(ApplyOverride(document, override_text));
  return RecipeReader(document, path).Run();
}

Result<Recipe> LoadRecipe(const std::string& path, const std::vector<std::string>& overrides) {
  FATHOM_TRY(const std::string text, ReadWholeFile(Env::Default(), path, kMaxRecipeBytes));
  return ParseRecipe(text, path, overrides);
}

}  // namespace fathom
