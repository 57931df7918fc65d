#include "format/hf_config_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/source_dir_for_test.h"
#include "format/hf_config.h"

namespace fathom {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

// Every field; `architecture` and `name` are the file's own.
void ExpectSame(const ModelConfig& a, const ModelConfig& b) {
  EXPECT_EQ(a.family, b.family);
  EXPECT_EQ(a.vocab_size, b.vocab_size);
  EXPECT_EQ(a.hidden_size, b.hidden_size);
  EXPECT_EQ(a.intermediate_size, b.intermediate_size);
  EXPECT_EQ(a.num_hidden_layers, b.num_hidden_layers);
  EXPECT_EQ(a.num_nextn_predict_layers, b.num_nextn_predict_layers);
  EXPECT_EQ(a.num_attention_heads, b.num_attention_heads);
  EXPECT_EQ(a.num_key_value_heads, b.num_key_value_heads);
  EXPECT_EQ(a.head_dim, b.head_dim);
  EXPECT_EQ(a.rms_norm_eps, b.rms_norm_eps);
  EXPECT_EQ(a.mla_norm_eps, b.mla_norm_eps);
  EXPECT_EQ(a.max_position_embeddings, b.max_position_embeddings);
  EXPECT_EQ(a.tie_word_embeddings, b.tie_word_embeddings);
  EXPECT_EQ(a.attention_bias, b.attention_bias);
  EXPECT_EQ(a.rope.theta, b.rope.theta);
  EXPECT_EQ(a.rope.dim, b.rope.dim);
  EXPECT_EQ(a.rope.layout, b.rope.layout);
  EXPECT_EQ(a.rope.scaling, b.rope.scaling);
  EXPECT_EQ(a.rope.factor, b.rope.factor);
  EXPECT_EQ(a.rope.original_max_position_embeddings, b.rope.original_max_position_embeddings);
  EXPECT_EQ(a.rope.beta_fast, b.rope.beta_fast);
  EXPECT_EQ(a.rope.beta_slow, b.rope.beta_slow);
  EXPECT_EQ(a.rope.mscale, b.rope.mscale);
  EXPECT_EQ(a.rope.mscale_all_dim, b.rope.mscale_all_dim);
  EXPECT_EQ(a.rope.attention_factor, b.rope.attention_factor);
  EXPECT_EQ(a.rope.low_freq_factor, b.rope.low_freq_factor);
  EXPECT_EQ(a.rope.high_freq_factor, b.rope.high_freq_factor);
  EXPECT_EQ(a.mla.q_lora_rank, b.mla.q_lora_rank);
  EXPECT_EQ(a.mla.kv_lora_rank, b.mla.kv_lora_rank);
  EXPECT_EQ(a.mla.qk_nope_head_dim, b.mla.qk_nope_head_dim);
  EXPECT_EQ(a.mla.qk_rope_head_dim, b.mla.qk_rope_head_dim);
  EXPECT_EQ(a.mla.v_head_dim, b.mla.v_head_dim);
  EXPECT_EQ(a.moe.n_routed_experts, b.moe.n_routed_experts);
  EXPECT_EQ(a.moe.num_experts_per_tok, b.moe.num_experts_per_tok);
  EXPECT_EQ(a.moe.n_shared_experts, b.moe.n_shared_experts);
  EXPECT_EQ(a.moe.moe_intermediate_size, b.moe.moe_intermediate_size);
  EXPECT_EQ(a.moe.first_k_dense_replace, b.moe.first_k_dense_replace);
  EXPECT_EQ(a.moe.n_group, b.moe.n_group);
  EXPECT_EQ(a.moe.topk_group, b.moe.topk_group);
  EXPECT_EQ(a.moe.scoring_func, b.moe.scoring_func);
  EXPECT_EQ(a.moe.norm_topk_prob, b.moe.norm_topk_prob);
  EXPECT_EQ(a.moe.routed_scaling_factor, b.moe.routed_scaling_factor);
  EXPECT_EQ(a.moe.group_score_top2, b.moe.group_score_top2);
  EXPECT_EQ(a.moe.has_correction_bias, b.moe.has_correction_bias);
}

void ExpectRoundTrip(const ModelConfig& config) {
  auto text = HfConfigJson(config, DType::kF32);
  ASSERT_TRUE(text) << text.error().message;
  auto again = ConfigFromHuggingFace(*text, "name");
  ASSERT_TRUE(again) << again.error().message;
  ExpectSame(config, *again);
}

ModelConfig V3() {
  ModelConfig c;
  c.family = ArchFamily::kDeepseek2;
  c.vocab_size = 1000;
  c.hidden_size = 64;
  c.intermediate_size = 160;
  c.num_hidden_layers = 5;
  c.num_nextn_predict_layers = 1;
  c.num_attention_heads = 4;
  c.max_position_embeddings = 2048;
  c.rope.dim = 16;
  c.rope.layout = RopeLayout::kInterleaved;
  c.mla = {.q_lora_rank = 48, .kv_lora_rank = 32, .qk_nope_head_dim = 24, .qk_rope_head_dim = 16, .v_head_dim = 20};
  c.moe = {.n_routed_experts = 16, .num_experts_per_tok = 3, .n_shared_experts = 1, .moe_intermediate_size = 40,
           .first_k_dense_replace = 2, .n_group = 4, .topk_group = 2, .scoring_func = GatingFunction::kSigmoid,
           .norm_topk_prob = true, .routed_scaling_factor = 2.446f, .group_score_top2 = true,
           .has_correction_bias = true};
  return c;
}

TEST(HfConfigWriter, EveryGoldenConfigComesBack) {
  int configs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(SourceDirForTest() + "/tests/golden/hf")) {
    if (!entry.is_directory()) continue;
    SCOPED_TRACE(entry.path().filename().string());
    std::ifstream in(entry.path() / "config.json");
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    if (text.empty()) continue;
    auto config = ConfigFromHuggingFace(text, "name");
    ASSERT_TRUE(config) << config.error().message;
    ExpectRoundTrip(*config);
    ++configs;
  }
  EXPECT_GE(configs, 12);
}

TEST(HfConfigWriter, ConfigsMadeByHandComeBack) {
  ExpectRoundTrip(V3());
  ModelConfig c = V3();
  c.mla.q_lora_rank = 0;
  c.tie_word_embeddings = true;
  c.rms_norm_eps = 1e-5f;
  c.rope.theta = 50000.0f;
  c.rope.layout = RopeLayout::kHalfSplit;
  c.num_nextn_predict_layers = 0;
  c.moe.norm_topk_prob = false;
  c.moe.n_shared_experts = 0;
  ExpectRoundTrip(c);
  c = V3();
  c.rope.scaling = RopeScaling::kYarn;
  c.rope.factor = 40;
  c.rope.original_max_position_embeddings = 64;
  for (const float mscale : {0.0f, 0.707f, 1.0f}) {
    for (const float factor : {1.0f, 1.3688879f, 0.25f}) {
      c.rope.mscale_all_dim = mscale;
      c.rope.attention_factor = factor;
      ExpectRoundTrip(c);
    }
  }
}

TEST(HfConfigWriter, ADenseModelComesBackDense) {
  for (const int32_t mtp : {0, 1}) {
    ModelConfig c = V3();
    c.moe = {};
    c.num_nextn_predict_layers = mtp;
    ExpectRoundTrip(c);
    const Json json = Json::parse(*HfConfigJson(c, DType::kBF16));
    EXPECT_EQ(json["first_k_dense_replace"], 5 + mtp);  // transformers builds experts from there on
    EXPECT_GT(json["n_routed_experts"], 0);
  }
}

TEST(HfConfigWriter, KeysThatTransformersReads) {
  const Json json = Json::parse(*HfConfigJson(V3(), DType::kBF16, {.bos = 0, .eos = 2}));
  EXPECT_EQ(json["architectures"], Json::array({"DeepseekV3ForCausalLM"}));
  EXPECT_EQ(json["model_type"], "deepseek_v3");
  EXPECT_EQ(json["torch_dtype"], "bfloat16");
  EXPECT_EQ(json["bos_token_id"], 0);
  EXPECT_EQ(json["eos_token_id"], 2);
  EXPECT_TRUE(json["pad_token_id"].is_null());
  EXPECT_EQ(json["num_key_value_heads"], 4);
  EXPECT_EQ(json["rope_interleave"], true);
  EXPECT_EQ(json["rms_norm_eps"].dump(), "1e-06");
  EXPECT_EQ(json["routed_scaling_factor"].dump(), "2.446");
}

TEST(HfConfigWriter, WhatTheClassHasNoKeyForIsRefused) {
  const auto refusal = [](const ModelConfig& config) {
    auto text = HfConfigJson(config, DType::kF32);
    return text ? std::string("written") : text.error().message;
  };
  ModelConfig c = V3();
  c.mla_norm_eps = 1e-5f;
  EXPECT_THAT(refusal(c), HasSubstr("MLA norms"));
  c = V3();
  c.moe.has_correction_bias = false;
  EXPECT_THAT(refusal(c), HasSubstr("correction bias"));
  c = V3();
  c.moe.group_score_top2 = false;
  EXPECT_THAT(refusal(c), HasSubstr("best expert"));
  c = V3();
  c.moe.scoring_func = GatingFunction::kSoftmax;
  EXPECT_THAT(refusal(c), HasSubstr("DeepseekV2ForCausalLM"));
  c = V3();
  c.rope.freq_factors.assign(8, 2.0f);
  EXPECT_THAT(refusal(c), HasSubstr("frequency factors"));
  c = V3();
  c.hidden_size = 0;
  EXPECT_THAT(refusal(c), HasSubstr("hidden_size"));
  auto text = HfConfigJson(V3(), DType::kQ8_0);
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace fathom
