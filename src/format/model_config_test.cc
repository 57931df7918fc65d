#include "format/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace fathom {
namespace {

using ::testing::HasSubstr;

ModelConfig V3() {
  ModelConfig config;
  config.family = ArchFamily::kDeepseek2;
  config.architecture = "deepseek2";
  config.vocab_size = 129280;
  config.hidden_size = 7168;
  config.intermediate_size = 18432;
  config.num_hidden_layers = 61;
  config.num_attention_heads = 128;
  config.max_position_embeddings = 163840;
  config.rope = {.dim = 64, .layout = RopeLayout::kInterleaved, .freq_factors = {}};
  config.mla = {1536, 512, 128, 64, 128};
  config.moe = {256, 8, 1, 2048, 3, 8, 4, GatingFunction::kSigmoid, true, 2.5f, true, true};
  return config;
}

ModelConfig V2Lite() {
  ModelConfig config = V3();
  config.vocab_size = 102400;
  config.hidden_size = 2048;
  config.intermediate_size = 10944;
  config.num_hidden_layers = 27;
  config.num_attention_heads = 16;
  config.mla.q_lora_rank = 0;
  config.moe = {64, 6, 2, 1408, 1, 1, 1, GatingFunction::kSoftmax, false, 1.0f, false, false};
  return config;
}

// The published sizes: DeepSeek-V2-Lite 15.7B / 2.4B, DeepSeek-V3 671B / 37B. The exact numbers are those of
// layer-by-layer addition by hand from the papers' dimensions.
TEST(CountParameters, KnownModels) {
  const ParameterCount lite = CountParameters(V2Lite());
  EXPECT_EQ(lite.total, 15706484224);  // the sum that transformers reports for the published weights
  EXPECT_NEAR(static_cast<double>(lite.active), 2.45e9, 0.05e9);

  const ParameterCount v3 = CountParameters(V3());
  EXPECT_NEAR(static_cast<double>(v3.total), 671.0e9, 0.05e9);
  EXPECT_NEAR(static_cast<double>(v3.active), 36.6e9, 0.05e9);
}

TEST(CountParameters, TheR2Proposal) {
  ModelConfig config = V3();
  config.hidden_size = 8192;
  config.intermediate_size = 27648;
  config.num_hidden_layers = 64;
  config.mla.q_lora_rank = 2048;
  config.moe.num_experts_per_tok = 12;
  config.moe.moe_intermediate_size = 3072;
  ASSERT_TRUE(ValidateConfig(config));
  const ParameterCount count = CountParameters(config);
  EXPECT_NEAR(static_cast<double>(count.total), 1202.1e9, 0.05e9);
  EXPECT_NEAR(static_cast<double>(count.active), 77.4e9, 0.06e9);
}

TEST(CountParameters, DenseFamilies) {
  ModelConfig config;  // SmolLM2-135M: 134,515,008 parameters
  config.vocab_size = 49152;
  config.hidden_size = 576;
  config.intermediate_size = 1536;
  config.num_hidden_layers = 30;
  config.num_attention_heads = 9;
  config.num_key_value_heads = 3;
  config.head_dim = 64;
  config.tie_word_embeddings = true;
  EXPECT_EQ(CountParameters(config).total, 134515008);
  EXPECT_EQ(CountParameters(config).active, 134515008);  // the one table is the head

  ModelConfig qwen;  // Qwen2.5-0.5B: 494,032,768
  qwen.family = ArchFamily::kQwen2;
  qwen.vocab_size = 151936;
  qwen.hidden_size = 896;
  qwen.intermediate_size = 4864;
  qwen.num_hidden_layers = 24;
  qwen.num_attention_heads = 14;
  qwen.num_key_value_heads = 2;
  qwen.head_dim = 64;
  qwen.tie_word_embeddings = true;
  qwen.attention_bias = true;
  EXPECT_EQ(CountParameters(qwen).total, 494032768);
}

TEST(ValidateConfig, AcceptsTheKnownAndNamesTheField) {
  EXPECT_TRUE(ValidateConfig(V3())) << ValidateConfig(V3()).error().message;
  EXPECT_TRUE(ValidateConfig(V2Lite()));
  const auto broken = [](auto change) -> std::string {
    ModelConfig config = V3();
    change(config);
    const Status status = ValidateConfig(config);
    return status ? "no error" : status.error().message;
  };
  constexpr int32_t kMost = std::numeric_limits<int32_t>::max();
  for (int32_t bad : {0, -1, kMost, std::numeric_limits<int32_t>::min()}) {
    EXPECT_THAT(broken([&](ModelConfig& c) { c.vocab_size = bad; }), HasSubstr("vocab_size"));
    EXPECT_THAT(broken([&](ModelConfig& c) { c.hidden_size = bad; }), HasSubstr("hidden_size"));
    EXPECT_THAT(broken([&](ModelConfig& c) { c.num_hidden_layers = bad; }), HasSubstr("num_hidden_layers"));
    EXPECT_THAT(broken([&](ModelConfig& c) { c.num_attention_heads = bad; }), HasSubstr("num_attention_heads"));
    EXPECT_THAT(broken([&](ModelConfig& c) { c.intermediate_size = bad; }), HasSubstr("intermediate_size"));
    EXPECT_THAT(broken([&](ModelConfig& c) { c.max_position_embeddings = bad; }), HasSubstr("max_position_embeddings"));
    EXPECT_THAT(broken([&](ModelConfig& c) { c.mla.kv_lora_rank = bad; }), HasSubstr("kv_lora_rank"));
    EXPECT_THAT(broken([&](ModelConfig& c) { c.mla.qk_nope_head_dim = bad; }), HasSubstr("qk_nope_head_dim"));
    EXPECT_THAT(broken([&](ModelConfig& c) { c.mla.v_head_dim = bad; }), HasSubstr("v_head_dim"));
    EXPECT_THAT(broken([&](ModelConfig& c) { c.moe.num_experts_per_tok = bad; }), HasSubstr("num_experts_per_tok"));
    EXPECT_THAT(broken([&](ModelConfig& c) { c.moe.moe_intermediate_size = bad; }), HasSubstr("moe_intermediate_size"));
    EXPECT_THAT(broken([&](ModelConfig& c) { c.moe.n_group = bad; }), HasSubstr("n_group"));
    EXPECT_THAT(broken([&](ModelConfig& c) { c.moe.topk_group = bad; }), HasSubstr("topk_group"));
  }
  EXPECT_THAT(broken([](ModelConfig& c) { c.moe.n_shared_experts = kMost; }), HasSubstr("n_shared_experts"));
  EXPECT_THAT(broken([](ModelConfig& c) { c.moe.n_shared_experts = 65536; }), HasSubstr("n_shared_experts ×"));
  EXPECT_THAT(broken([](ModelConfig& c) {
                c.num_attention_heads = 16384;
                c.mla.v_head_dim = 16384;
              }),
              HasSubstr("head width"));
  EXPECT_THAT(broken([](ModelConfig& c) { c.rope.dim = 32; }), HasSubstr("rope.dim"));
  EXPECT_THAT(broken([](ModelConfig& c) { c.rope.theta = std::nanf(""); }), HasSubstr("rope_theta"));
  EXPECT_THAT(broken([](ModelConfig& c) { c.rms_norm_eps = INFINITY; }), HasSubstr("rms_norm_eps"));
  EXPECT_THAT(broken([](ModelConfig& c) { c.moe.routed_scaling_factor = 0; }), HasSubstr("routed_scaling_factor"));
  EXPECT_THAT(broken([](ModelConfig& c) { c.rope.freq_factors = {1.0f}; }), HasSubstr("rope_freqs"));
  EXPECT_THAT(broken([](ModelConfig& c) { c.rope.freq_factors.assign(32, 0.0f); }), HasSubstr("rope_freqs"));
  EXPECT_THAT(broken([](ModelConfig& c) { c.family = ArchFamily::kLlama; }), HasSubstr("mixture of experts"));
  EXPECT_THAT(broken([](ModelConfig& c) { c.rope.scaling = RopeScaling::kYarn; }), HasSubstr("original_max"));
  EXPECT_EQ(broken([](ModelConfig& c) {
              c.moe.first_k_dense_replace = 0;
              c.intermediate_size = 0;
            }),
            "no error");
}

}  // namespace
}  // namespace fathom
