#include "plan/training.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include "engine/synth_configs.h"
#include "format/hf_config.h"
#include "format/model_file.h"
#include "io/env.h"
#include "plan/accelerators.h"
#include "train/recipe.h"

namespace fathom {
namespace {

constexpr double kUsableMemory = 0.9;  // the rest: buffers of communication, fragmentation, the runtime itself
constexpr double kSecondsPerHour = 3600;

Result<ModelConfig> ReadConfigJson(const std::string& file) {
  constexpr int64_t kMaxConfigBytes = int64_t{4} << 20;
  FATHOM_TRY(const std::string text, ReadWholeFile(Env::Default(), file, kMaxConfigBytes));
  auto config = ConfigFromHuggingFace(text, BaseName(DirectoryOf(file)));
  if (!config) return Prefix(config.error(), file);
  return config;
}

// Values of one token that a layer keeps for its backward pass, as V3's trainer keeps them (section 3.2.3): norms,
// MLA's up-projections and SwiGLU's product are made again, which costs little.
double LayerActivations(const ModelConfig& config, int layer) {
  const double hidden = config.hidden_size, heads = config.num_attention_heads;
  double values = 2 * hidden;  // the residual stream, before each of the two norms
  if (config.is_mla()) {
    const MlaConfig& mla = config.mla;
    values += 1.0 * mla.q_lora_rank + mla.latent_dim() + heads * mla.v_head_dim;
    if (mla.q_lora_rank == 0) values += heads * mla.qk_head_dim();
  } else {
    values += (2 * heads + 2.0 * config.num_key_value_heads) * config.head_dim;
  }
  const MoeConfig& moe = config.moe;
  if (config.is_moe_layer(layer)) {
    // An expert's input is a copy of the token's row; gate and up.
    values += moe.num_experts_per_tok * (hidden + 2.0 * moe.moe_intermediate_size) +
              2.0 * moe.n_shared_experts * moe.moe_intermediate_size + moe.n_routed_experts;
  } else {
    values += 2.0 * config.intermediate_size;
  }
  return values;
}

}  // namespace

double ActivationBytes(const ModelConfig& config, double sequence_length, bool recompute) {
  constexpr double kBf16 = 2, kF32 = 4;
  const int layers = config.num_hidden_layers + config.num_nextn_predict_layers;
  double all = 0, largest = 0;
  for (int layer = 0; layer < layers; ++layer) {
    const double values = LayerActivations(config, layer);
    all += values;
    largest = std::max(largest, values);
  }
  const double kept = recompute ? layers * static_cast<double>(config.hidden_size) + largest : all;
  // The loss is computed a slice of the sequence at a time; an eighth of the logits is there at once.
  const double logits = config.vocab_size / 8.0 * kF32;
  return sequence_length * (kept * kBf16 + logits);
}

TrainingPlan PlanTraining(const ModelConfig& config, const TrainingInput& input) {
  TrainingPlan plan;
  plan.parameters = CountParameters(config);
  plan.mtp_parameters = CountMtpParameters(config);
  plan.forward = CountFlops(config, input.sequence_length);
  // Work that is repeated is not model arithmetic: it takes hours but does not count. What V3 repeats is in its hours.
  plan.flops_per_token = plan.forward.training();
  plan.total_flops = plan.flops_per_token * input.tokens;
  const double repeated = input.recompute ? plan.forward.training(true) / plan.forward.training() : 1.0;
  plan.device_hours = plan.total_flops * repeated / (input.device_flops * input.mfu) / kSecondsPerHour;
  plan.cost = plan.device_hours * input.price_per_hour;
  plan.state_bytes = input.bytes_per_parameter * static_cast<double>(plan.parameters.total + plan.mtp_parameters);
  plan.activation_bytes = ActivationBytes(config, input.sequence_length, input.recompute);
  const double room = kUsableMemory * input.memory_bytes - plan.activation_bytes;
  if (room > 0) plan.least_devices = static_cast<int64_t>(std::ceil(plan.state_bytes / room));
  plan.devices = input.devices > 0 ? input.devices : plan.least_devices;
  if (plan.devices > 0) plan.days = plan.device_hours / static_cast<double>(plan.devices) / 24;
  return plan;
}

double V3Utilisation() {
  ModelConfig config = FindSynthConfig("deepseek-v3").value();
  config.num_nextn_predict_layers = 1;
  const double flops = CountFlops(config, kV3SequenceLength).training() * kV3Tokens;
  return flops / (kV3PretrainingHours * kSecondsPerHour * FindAccelerator("h800")->bf16_flops);
}

Result<TrainingTarget> LoadTrainingTarget(const std::string& target) {
  TrainingTarget out;
  out.name = target;
  Env& env = Env::Default();
  if (target.ends_with(".toml")) {
    FATHOM_TRY(const Recipe recipe, LoadRecipe(target));
    out.config = recipe.model;
    out.name = recipe.name;
    out.tokens = static_cast<double>(recipe.total_tokens());
    out.sequence_length = recipe.sequence_length;
    out.price_per_hour = recipe.price_per_hour;
    out.currency = recipe.currency;
  } else if (env.IsDirectory(target)) {
    FATHOM_TRY(out.config, ReadConfigJson(JoinPath(target, "config.json")));
  } else if (target.ends_with(".json")) {
    FATHOM_TRY(out.config, ReadConfigJson(target));
  } else if (target.ends_with(".gguf")) {
    FATHOM_TRY(const auto file, ModelFile::Open(target));
    out.config = file->config();
  } else {
    auto config = FindSynthConfig(target);
    if (!config) {
      return Fail(config.error().code, "{}\nOr give a config.json, a GGUF or a recipe (.toml).",
                  config.error().message);
    }
    out.config = std::move(*config);
    // These describe what inference needs; V3 was trained with one MTP layer, and so would this project's R2 be.
    std::string key = target;
    for (char& c : key) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (key == "deepseek-v3" || key == "r2") out.config.num_nextn_predict_layers = 1;
  }
  return out;
}

}  // namespace fathom
