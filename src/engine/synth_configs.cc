#include "engine/synth_configs.h"

#include <algorithm>
#include <cctype>

namespace fathom {
namespace {

void SetYarn(ModelConfig& config, float factor, float beta_fast, float mscale) {
  config.rope.scaling = RopeScaling::kYarn;
  config.rope.factor = factor;
  config.rope.original_max_position_embeddings = 4096;
  config.rope.beta_fast = beta_fast;
  config.rope.mscale = config.rope.mscale_all_dim = mscale;
  config.rope.attention_factor = 1.0f;
}

// What DeepSeek-V2, V3 and their relatives share.
ModelConfig Mla(std::string name, int layers, int hidden, int heads, int q_lora, int vocab, int context) {
  ModelConfig config;
  config.family = ArchFamily::kDeepseek2;
  config.architecture = "deepseek2";
  config.name = std::move(name);
  config.num_hidden_layers = layers;
  config.hidden_size = hidden;
  config.num_attention_heads = heads;
  config.num_key_value_heads = heads;
  config.vocab_size = vocab;
  config.max_position_embeddings = context;
  config.mla = {.q_lora_rank = q_lora, .kv_lora_rank = 512, .qk_nope_head_dim = 128, .qk_rope_head_dim = 64,
                .v_head_dim = 128};
  config.rope.dim = 64;
  config.rope.layout = RopeLayout::kInterleaved;
  return config;
}

struct Experts {
  int routed, shared, per_token, width, dense_width, dense_layers, groups, groups_used;
  float scale;
};

void SetSoftmax(ModelConfig& config, const Experts& e) {
  config.intermediate_size = e.dense_width;
  config.moe = {.n_routed_experts = e.routed, .num_experts_per_tok = e.per_token, .n_shared_experts = e.shared,
                .moe_intermediate_size = e.width, .first_k_dense_replace = e.dense_layers, .n_group = e.groups,
                .topk_group = e.groups_used, .routed_scaling_factor = e.scale};
}

// V3's gate: sigmoid, correction bias, groups by their two best, renormalised.
void SetSigmoid(ModelConfig& config, const Experts& e) {
  SetSoftmax(config, e);
  config.moe.scoring_func = GatingFunction::kSigmoid;
  config.moe.norm_topk_prob = true;
  config.moe.group_score_top2 = true;
  config.moe.has_correction_bias = true;
}

ModelConfig DeepseekV2Lite() {
  auto config = Mla("DeepSeek-V2-Lite shape", 27, 2048, 16, 0, 102400, 163840);
  SetSoftmax(config, {64, 2, 6, 1408, 10944, 1, 1, 1, 1.0f});
  SetYarn(config, 40, 32, 0.707f);
  return config;
}

ModelConfig DeepseekV2() {
  auto config = Mla("DeepSeek-V2 shape", 60, 5120, 128, 1536, 102400, 163840);
  SetSoftmax(config, {160, 2, 6, 1536, 12288, 1, 8, 3, 16.0f});
  SetYarn(config, 40, 32, 0.707f);
  return config;
}

ModelConfig DeepseekV3() {
  auto config = Mla("DeepSeek-V3 shape", 61, 7168, 128, 1536, 129280, 163840);
  SetSigmoid(config, {256, 1, 8, 2048, 18432, 3, 8, 4, 2.5f});
  SetYarn(config, 40, 32, 1.0f);
  return config;
}

ModelConfig R2() {
  auto config = Mla("R2 proposal", 64, 8192, 128, 2048, 129280, 163840);
  SetSigmoid(config, {256, 1, 12, 3072, 27648, 3, 8, 4, 2.5f});
  SetYarn(config, 40, 32, 1.0f);
  return config;
}

ModelConfig KimiK2() {
  auto config = Mla("Kimi-K2 shape", 61, 7168, 64, 1536, 163840, 131072);
  SetSigmoid(config, {384, 1, 8, 2048, 18432, 1, 1, 1, 2.827f});
  config.rope.theta = 50000.0f;
  SetYarn(config, 32, 1, 1.0f);
  return config;
}

ModelConfig Moonlight() {
  auto config = Mla("Moonlight-16B-A3B shape", 27, 2048, 16, 0, 163840, 8192);
  SetSigmoid(config, {64, 2, 6, 1408, 11264, 1, 1, 1, 2.446f});
  config.rope.theta = 50000.0f;
  config.rms_norm_eps = 1e-5f;
  return config;
}

ModelConfig GlmFlash() {
  auto config = Mla("GLM-4.7-Flash shape", 47, 2048, 20, 768, 154880, 202752);
  SetSigmoid(config, {64, 1, 4, 1536, 10240, 1, 1, 1, 1.8f});
  config.mla.qk_nope_head_dim = 192;
  config.mla.v_head_dim = 256;
  config.rope.theta = 1e6f;
  config.rms_norm_eps = 1e-5f;
  return config;
}

// Nobody's model: V3's gate and attention at a size between V2-Lite and V2, to fill a disk with.
ModelConfig Middle() {
  auto config = Mla("120B shape", 49, 4096, 32, 1536, 102400, 163840);
  SetSigmoid(config, {128, 1, 8, 1536, 12288, 1, 4, 2, 2.5f});
  SetYarn(config, 40, 32, 1.0f);
  return config;
}

// Nobody's model: Moonlight's layers with the experts of newer models, many and small, on a machine for V2-Lite.
ModelConfig Fine() {
  auto config = Mla("17B shape of 256 experts", 27, 2048, 16, 0, 102400, 32768);
  SetSigmoid(config, {256, 1, 8, 384, 8192, 1, 1, 1, 2.446f});
  return config;
}

ModelConfig Tiny() {
  auto config = Mla("fathom tiny", 4, 256, 4, 128, 4096, 4096);
  SetSigmoid(config, {16, 1, 4, 128, 512, 1, 4, 2, 2.5f});
  config.mla = {.q_lora_rank = 128, .kv_lora_rank = 128, .qk_nope_head_dim = 64, .qk_rope_head_dim = 32,
                .v_head_dim = 64};
  config.rope.dim = 32;
  return config;
}

ModelConfig Gqa(ArchFamily family, std::string name, int layers, int hidden, int heads, int kv_heads, int intermediate,
                int vocab, int context, float theta, float eps) {
  ModelConfig config;
  config.family = family;
  config.architecture = family == ArchFamily::kQwen2 ? "qwen2" : "llama";
  config.name = std::move(name);
  config.num_hidden_layers = layers;
  config.hidden_size = hidden;
  config.num_attention_heads = heads;
  config.num_key_value_heads = kv_heads;
  config.head_dim = hidden / heads;
  config.intermediate_size = intermediate;
  config.vocab_size = vocab;
  config.max_position_embeddings = context;
  config.rms_norm_eps = eps;
  config.attention_bias = family == ArchFamily::kQwen2;
  config.rope.theta = theta;
  config.rope.dim = config.head_dim;
  config.rope.layout = family == ArchFamily::kQwen2 ? RopeLayout::kHalfSplit : RopeLayout::kInterleaved;
  return config;
}

ModelConfig SmolLm2(std::string name, int layers, int hidden, int heads, int kv_heads, int intermediate, float theta) {
  auto config =
      Gqa(ArchFamily::kLlama, std::move(name), layers, hidden, heads, kv_heads, intermediate, 49152, 8192, theta, 1e-5f);
  config.tie_word_embeddings = true;
  return config;
}

ModelConfig LlamaDistill(std::string name, int layers, int hidden, int heads, int intermediate) {
  auto config = Gqa(ArchFamily::kLlama, std::move(name), layers, hidden, heads, 8, intermediate, 128256, 131072, 500000.0f,
                    1e-5f);
  config.rope.scaling = RopeScaling::kLlama3;
  config.rope.factor = 8.0f;
  config.rope.original_max_position_embeddings = 8192;
  return config;
}

ModelConfig SmolLm2Small() { return SmolLm2("SmolLM2-135M shape", 30, 576, 9, 3, 1536, 100000.0f); }
ModelConfig SmolLm2Medium() { return SmolLm2("SmolLM2-360M shape", 32, 960, 15, 5, 2560, 100000.0f); }
ModelConfig SmolLm2Large() { return SmolLm2("SmolLM2-1.7B shape", 24, 2048, 32, 32, 8192, 130000.0f); }
ModelConfig Llama8() { return LlamaDistill("R1-Distill-Llama-8B shape", 32, 4096, 32, 14336); }
ModelConfig Llama70() { return LlamaDistill("R1-Distill-Llama-70B shape", 80, 8192, 64, 28672); }
ModelConfig Qwen1() {
  return Gqa(ArchFamily::kQwen2, "R1-Distill-Qwen-1.5B shape", 28, 1536, 12, 2, 8960, 151936, 131072, 10000.0f, 1e-6f);
}
ModelConfig Qwen7() {
  return Gqa(ArchFamily::kQwen2, "R1-Distill-Qwen-7B shape", 28, 3584, 28, 4, 18944, 152064, 131072, 10000.0f, 1e-6f);
}
ModelConfig Qwen14() {
  return Gqa(ArchFamily::kQwen2, "R1-Distill-Qwen-14B shape", 48, 5120, 40, 8, 13824, 152064, 131072, 1e6f, 1e-5f);
}
ModelConfig Qwen32() {
  return Gqa(ArchFamily::kQwen2, "R1-Distill-Qwen-32B shape", 64, 5120, 40, 8, 27648, 152064, 131072, 1e6f, 1e-5f);
}

constexpr SynthConfig kConfigs[] = {
    {"tiny", "V3's shape at 9M weights: 4 layers, 16 experts, 4096 tokens", Tiny},
    {"deepseek-v2-lite", "16B, 2.7B active: 27 layers, 64 experts, no q_lora", DeepseekV2Lite},
    {"deepseek-v2", "236B, 21B active: 60 layers, 160 experts in 8 groups", DeepseekV2},
    {"moe-17b-fine", "17B, 1.2B active: 27 layers, 256 small experts, top 8; nobody's, as newer models divide them", Fine},
    {"moe-120b", "120B, 11B active: 49 layers, 128 experts, V3's gate; nobody's, to fill a disk with", Middle},
    {"deepseek-v3", "671B, 37B active (V3, R1, V3.1): 61 layers, 256 experts", DeepseekV3},
    {"r2", "1.2T, 78B active: this project's proposal, 64 layers, 256 experts, top 12", R2},
    {"kimi-k2", "1T, 32B active: 61 layers, 384 experts, 64 heads", KimiK2},
    {"moonlight", "16B, 2.8B active: V2-Lite with a sigmoid gate", Moonlight},
    {"glm-4.7-flash", "30B, 3.6B active: 47 layers, heads of 192 + 64 and 256", GlmFlash},
    {"smollm2-135m", "Llama family, tied embeddings, 30 layers", SmolLm2Small},
    {"smollm2-360m", "Llama family, tied embeddings, 32 layers", SmolLm2Medium},
    {"smollm2-1.7b", "Llama family, tied embeddings, 24 layers", SmolLm2Large},
    {"r1-distill-llama-8b", "Llama 3.1 shape, 32 layers", Llama8},
    {"r1-distill-llama-70b", "Llama 3.3 shape, 80 layers", Llama70},
    {"r1-distill-qwen-1.5b", "Qwen2 shape with biases, 28 layers", Qwen1},
    {"r1-distill-qwen-7b", "Qwen2 shape with biases, 28 layers", Qwen7},
    {"r1-distill-qwen-14b", "Qwen2 shape with biases, 48 layers", Qwen14},
    {"r1-distill-qwen-32b", "Qwen2 shape with biases, 64 layers", Qwen32},
};

}  // namespace

std::span<const SynthConfig> SynthConfigs() { return kConfigs; }

Result<ModelConfig> FindSynthConfig(std::string_view name) {
  const auto same = [](char a, char b) {
    return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b));
  };
  std::string names;
  for (const auto& config : kConfigs) {
    if (std::ranges::equal(config.name, name, same)) return config.make();
    names += (names.empty() ? "" : ", ") + std::string(config.name);
  }
  return Fail(ErrorCode::kInvalidArgument,
              "configuration '{}' is not known; there are {}, or give the path of a config.json", name, names);
}

}  // namespace fathom
