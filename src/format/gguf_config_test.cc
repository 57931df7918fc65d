#include "format/gguf_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "format/gguf_builder_for_test.h"

namespace fathom {
namespace {

using testing::GgufBytes;
using ::testing::HasSubstr;

GgufBytes Common(const std::string& arch, uint32_t layers = 27) {
  GgufBytes bytes;
  bytes.Text("general.architecture", arch).Text("general.name", "test");
  bytes.U32(arch + ".block_count", layers).U32(arch + ".context_length", 163840).U32(arch + ".embedding_length", 2048);
  bytes.U32(arch + ".feed_forward_length", 10944).U32(arch + ".attention.head_count", 16);
  bytes.F32(arch + ".attention.layer_norm_rms_epsilon", 1e-6f).U32(arch + ".vocab_size", 102400);
  return bytes;
}

// DeepSeek-V2-Lite as today's converter writes it; `mla` false gives the older layout.
GgufBytes V2Lite(bool mla = true, uint32_t layers = 27) {
  GgufBytes bytes = Common("deepseek2", layers);
  bytes.U32("deepseek2.attention.head_count_kv", mla ? 1 : 16).U32("deepseek2.attention.kv_lora_rank", 512);
  bytes.U32("deepseek2.attention.key_length", mla ? 576 : 192).U32("deepseek2.attention.value_length", mla ? 512 : 128);
  if (mla) bytes.U32("deepseek2.attention.key_length_mla", 192).U32("deepseek2.attention.value_length_mla", 128);
  bytes.U32("deepseek2.rope.dimension_count", 64).F32("deepseek2.rope.freq_base", 10000.0f);
  bytes.U32("deepseek2.leading_dense_block_count", 1).U32("deepseek2.expert_count", 64);
  bytes.U32("deepseek2.expert_used_count", 6).U32("deepseek2.expert_shared_count", 2);
  bytes.U32("deepseek2.expert_feed_forward_length", 1408).F32("deepseek2.expert_weights_scale", 1.0f);
  return bytes;
}

GgufBytes& WithYarn(GgufBytes& bytes) {
  return bytes.Text("deepseek2.rope.scaling.type", "yarn")
      .F32("deepseek2.rope.scaling.factor", 40.0f)
      .U32("deepseek2.rope.scaling.original_context_length", 4096);
}

Result<ModelConfig> Read(const GgufBytes& builder, const GgufTensorFacts& facts = {.has_output = true}) {
  const auto bytes = builder.Build();
  auto file = GgufFile::Parse(bytes);
  if (!file) return std::unexpected(file.error());
  return ConfigFromGguf(*file, facts);
}

TEST(GgufConfig, V2LiteInBothLayouts) {
  for (bool mla : {true, false}) {
    auto builder = V2Lite(mla);
    WithYarn(builder).F32("deepseek2.rope.scaling.yarn_log_multiplier", 0.0707f);
    auto config = Read(builder);
    ASSERT_TRUE(config) << config.error().message;
    EXPECT_EQ(config->family, ArchFamily::kDeepseek2);
    EXPECT_EQ(config->mla.kv_lora_rank, 512);
    EXPECT_EQ(config->mla.q_lora_rank, 0);
    EXPECT_EQ(config->mla.qk_nope_head_dim, 128);
    EXPECT_EQ(config->mla.qk_rope_head_dim, 64);
    EXPECT_EQ(config->mla.v_head_dim, 128);
    EXPECT_EQ(config->kv_values_per_token_layer(), 576);
    EXPECT_EQ(config->rope.layout, RopeLayout::kInterleaved);
    EXPECT_EQ(config->rope.scaling, RopeScaling::kYarn);
    EXPECT_NEAR(config->rope.mscale_all_dim, 0.707f, 1e-6);
    EXPECT_NEAR(config->rope.mscale, 0.707f, 1e-6);
    EXPECT_EQ(config->rope.attention_factor, 1.0f);  // cos and sin unscaled: mscale = mscale_all_dim
    EXPECT_EQ(config->rope.original_max_position_embeddings, 4096);
    EXPECT_EQ(config->moe.n_routed_experts, 64);
    EXPECT_EQ(config->moe.num_experts_per_tok, 6);
    EXPECT_EQ(config->moe.scoring_func, GatingFunction::kSoftmax);  // key absent in V2 files
    EXPECT_FALSE(config->moe.norm_topk_prob);
    EXPECT_FALSE(config->moe.group_score_top2);
    EXPECT_EQ(config->moe.n_group, 1);
    EXPECT_FALSE(config->is_moe_layer(0));
    EXPECT_TRUE(config->is_moe_layer(1));
    EXPECT_EQ(config->vocab_size, 102400);
    EXPECT_FALSE(config->tie_word_embeddings);
  }
}

TEST(GgufConfig, V3GateGroupsAndBias) {
  auto builder = V2Lite(true, 61);
  builder.U32("deepseek2.attention.q_lora_rank", 1536).U32("deepseek2.expert_group_count", 8);
  builder.U32("deepseek2.expert_group_used_count", 4).U32("deepseek2.expert_gating_func", 2);
  builder.Bool("deepseek2.expert_weights_norm", 1);
  auto config = Read(builder, {.has_output = true, .has_correction_bias = true});
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->mla.q_lora_rank, 1536);
  EXPECT_EQ(config->moe.scoring_func, GatingFunction::kSigmoid);
  EXPECT_TRUE(config->moe.norm_topk_prob);
  EXPECT_TRUE(config->moe.group_score_top2);
  EXPECT_TRUE(config->moe.has_correction_bias);
  EXPECT_EQ(config->moe.n_group, 8);
  EXPECT_EQ(config->moe.topk_group, 4);
}

TEST(GgufConfig, V2WithGroupsScoresThemByTheirMaximum) {
  auto builder = V2Lite(true, 60);
  builder.U32("deepseek2.expert_group_count", 8).U32("deepseek2.expert_group_used_count", 3);
  auto config = Read(builder);
  ASSERT_TRUE(config);
  EXPECT_FALSE(config->moe.group_score_top2);
  EXPECT_EQ(config->moe.n_group, 8);
}

TEST(GgufConfig, OldFilesOfV2AndV3RouteByGroupsAllTheSame) {
  const auto read = [](uint32_t layers, uint32_t hidden, uint32_t experts, int64_t vocabulary, int32_t heads = 128) {
    GgufBytes bytes;
    bytes.Text("general.architecture", "deepseek2").U32("deepseek2.block_count", layers);
    bytes.U32("deepseek2.context_length", 4096).U32("deepseek2.embedding_length", hidden);
    bytes.U32("deepseek2.feed_forward_length", 64).U32("deepseek2.attention.head_count", static_cast<uint32_t>(heads));
    bytes.F32("deepseek2.attention.layer_norm_rms_epsilon", 1e-6f).U32("deepseek2.attention.kv_lora_rank", 512);
    bytes.U32("deepseek2.attention.key_length", 192).U32("deepseek2.attention.value_length", 128);
    bytes.U32("deepseek2.rope.dimension_count", 64).U32("deepseek2.expert_count", experts);
    bytes.U32("deepseek2.expert_used_count", 6).U32("deepseek2.expert_feed_forward_length", 64);
    auto config = Read(bytes, {.has_output = true, .embedding_rows = vocabulary});
    EXPECT_TRUE(config) << config.error().message;
    return std::pair(config->moe.n_group, config->moe.topk_group);
  };
  EXPECT_EQ(read(61, 7168, 256, 129280), std::pair(8, 4));
  EXPECT_EQ(read(60, 5120, 160, 102400), std::pair(8, 3));
  EXPECT_EQ(read(61, 7168, 384, 163840, 64), std::pair(1, 1));  // Kimi K2 has one group
  EXPECT_EQ(read(61, 7168, 256, 128000), std::pair(1, 1));
}

TEST(GgufConfig, GlmWithoutGatingKeyIsSigmoid) {
  for (uint32_t layers : {46u, 47u, 48u}) {
    auto config = Read(V2Lite(true, layers), {.has_output = true, .embedding_rows = 0});
    ASSERT_TRUE(config);
    EXPECT_EQ(config->moe.scoring_func, GatingFunction::kSoftmax) << "another vocabulary";
  }
  GgufBytes builder;
  builder.Text("general.architecture", "deepseek2").U32("deepseek2.block_count", 48);
  builder.U32("deepseek2.nextn_predict_layers", 1).U32("deepseek2.context_length", 202752);
  builder.U32("deepseek2.embedding_length", 2048).U32("deepseek2.feed_forward_length", 10240);
  builder.U32("deepseek2.attention.head_count", 20).U32("deepseek2.attention.head_count_kv", 1);
  builder.F32("deepseek2.attention.layer_norm_rms_epsilon", 1e-5f).U32("deepseek2.attention.q_lora_rank", 768);
  builder.U32("deepseek2.attention.kv_lora_rank", 512).U32("deepseek2.attention.key_length", 576);
  builder.U32("deepseek2.attention.value_length", 512).U32("deepseek2.attention.key_length_mla", 256);
  builder.U32("deepseek2.attention.value_length_mla", 256).U32("deepseek2.rope.dimension_count", 64);
  builder.U32("deepseek2.leading_dense_block_count", 1).U32("deepseek2.expert_count", 64);
  builder.U32("deepseek2.expert_used_count", 4).U32("deepseek2.expert_shared_count", 1);
  builder.U32("deepseek2.expert_feed_forward_length", 1536).F32("deepseek2.rope.freq_base", 1e6f);
  auto config = Read(builder, {.has_output = true, .has_correction_bias = true, .embedding_rows = 154880});
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->num_hidden_layers, 47);  // block_count includes the MTP block
  EXPECT_EQ(config->num_nextn_predict_layers, 1);
  EXPECT_EQ(config->moe.scoring_func, GatingFunction::kSigmoid);
  EXPECT_EQ(config->mla.qk_nope_head_dim, 192);
  EXPECT_EQ(config->mla.v_head_dim, 256);
  EXPECT_EQ(config->rope.scaling, RopeScaling::kNone);
  EXPECT_EQ(config->rms_norm_eps, 1e-5f);
  EXPECT_EQ(config->mla_norm_eps, 1e-6f);
}

TEST(GgufConfig, YarnWithoutMultiplierFollowsTransformers) {
  auto builder = V2Lite();
  WithYarn(builder);
  auto config = Read(builder);
  ASSERT_TRUE(config);
  EXPECT_EQ(config->rope.mscale_all_dim, 0.0f);
  EXPECT_NEAR(config->rope.attention_factor, 1.0 + 0.1 * std::log(40.0), 1e-6);
}

TEST(GgufConfig, RopeScalingTypes) {
  auto linear = Common("llama");
  linear.Text("llama.rope.scaling.type", "linear").F32("llama.rope.scaling.factor", 4.0f);
  auto config = Read(linear);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->rope.scaling, RopeScaling::kLinear);
  EXPECT_EQ(config->rope.factor, 4.0f);
  auto old = Common("llama");
  old.F32("llama.rope.scale_linear", 2.0f);
  EXPECT_EQ(Read(old)->rope.factor, 2.0f);
  auto none = Common("llama");
  none.Text("llama.rope.scaling.type", "none").F32("llama.rope.scaling.factor", 4.0f);
  EXPECT_EQ(Read(none)->rope.scaling, RopeScaling::kNone);
  auto longrope = Common("llama");
  longrope.Text("llama.rope.scaling.type", "longrope");
  EXPECT_EQ(Read(longrope).error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(Read(longrope).error().message, HasSubstr("longrope"));
}

TEST(GgufConfig, LlamaAndQwen2) {
  auto llama = Common("llama");
  llama.U32("llama.attention.head_count_kv", 4).U32("llama.rope.dimension_count", 128);
  std::vector<float> freqs(64, 1.0f);
  freqs.back() = 8.0f;
  auto config = Read(llama, {.has_output = false, .embedding_rows = 102400, .rope_freqs = freqs});
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->family, ArchFamily::kLlama);
  EXPECT_EQ(config->rope.layout, RopeLayout::kInterleaved);
  EXPECT_EQ(config->rope.freq_factors, freqs);
  EXPECT_EQ(config->head_dim, 128);
  EXPECT_EQ(config->num_key_value_heads, 4);
  EXPECT_TRUE(config->tie_word_embeddings);
  EXPECT_FALSE(config->attention_bias);
  EXPECT_EQ(config->kv_values_per_token_layer(), 2 * 4 * 128);

  auto qwen = Read(Common("qwen2"));
  ASSERT_TRUE(qwen) << qwen.error().message;
  EXPECT_EQ(qwen->rope.layout, RopeLayout::kHalfSplit);
  EXPECT_TRUE(qwen->attention_bias);
  EXPECT_EQ(qwen->num_key_value_heads, 16);

  freqs.pop_back();
  EXPECT_THAT(Read(llama, {.has_output = true, .rope_freqs = freqs}).error().message, HasSubstr("rope_freqs"));
}

TEST(GgufConfig, WhatIsMissingOrWrongIsNamed) {
  EXPECT_THAT(Read(GgufBytes()).error().message, HasSubstr("general.architecture is missing"));
  auto other = Read(Common("gemma3"));
  EXPECT_EQ(other.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(other.error().message, HasSubstr("gemma3"));
  GgufBytes bare;
  bare.Text("general.architecture", "llama");
  EXPECT_THAT(Read(bare).error().message, HasSubstr("llama.block_count is missing"));
  EXPECT_THAT(Read(V2Lite().U32("deepseek2.expert_gating_func", 4)).error().message,
              HasSubstr("expert_gating_func is 4"));
  EXPECT_THAT(Read(V2Lite().U32("deepseek2.nextn_predict_layers", 27)).error().message,
              HasSubstr("nextn_predict_layers"));
  EXPECT_THAT(Read(Common("llama").U32("llama.expert_count", 8)).error().message, HasSubstr("mixture of experts"));
  EXPECT_THAT(Read(Common("llama").U32("llama.attention.key_length", 64).U32("llama.attention.value_length", 32))
                  .error()
                  .message,
              HasSubstr("value_length"));
  EXPECT_EQ(Read(Common("llama"), {.embedding_rows = 102416})->vocab_size, 102416);  // the table decides, not the key
  EXPECT_EQ(Read(V2Lite().F32("deepseek2.attention.temperature_scale", 0.1f)).error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(Read(Common("llama").Texts("tokenizer.ggml.tokens", {"a", "b"}), {.embedding_rows = 1}).error().message,
              HasSubstr("tokenizer.ggml.tokens has 2 entries"));
  EXPECT_THAT(Read(Common("llama").U64("llama.attention.head_count_kv", 1ull << 40)).error().message,
              HasSubstr("head_count_kv"));
  EXPECT_THAT(Read(Common("llama").I32s("llama.attention.head_count_kv", {4, 8})).error().message,
              HasSubstr("differs between layers"));
  EXPECT_EQ(Read(Common("llama").I32s("llama.attention.head_count_kv", {4, 4}))->num_key_value_heads, 4);
  EXPECT_THAT(Read(Common("llama").U32("llama.attention.head_count_kv", 5)).error().message,
              HasSubstr("num_key_value_heads"));
}

TEST(GgufTokenizer, ReadsAndChecks) {
  GgufBytes builder;
  builder.Text("tokenizer.ggml.model", "gpt2").Text("tokenizer.ggml.pre", "deepseek-v3");
  builder.Texts("tokenizer.ggml.tokens", {"a", "b", "ab"}).I32s("tokenizer.ggml.token_type", {1, 3, 1});
  builder.Texts("tokenizer.ggml.merges", {"a b"}).U32("tokenizer.ggml.bos_token_id", 0);
  builder.U32("tokenizer.ggml.eos_token_id", 1).U32("tokenizer.ggml.padding_token_id", 0xffffffff);
  builder.Bool("tokenizer.ggml.add_bos_token", 1).Text("tokenizer.chat_template", "{{x}}");
  const auto bytes = builder.Build();
  auto file = GgufFile::Parse(bytes);
  ASSERT_TRUE(file);
  auto source = TokenizerFromGguf(*file);
  ASSERT_TRUE(source) << source.error().message;
  EXPECT_EQ(source->ggml_pre, "deepseek-v3");
  EXPECT_EQ(source->tokens.size(), 3u);
  EXPECT_EQ(source->merges, (std::vector<std::string>{"a b"}));
  EXPECT_EQ(source->token_types, (std::vector<int32_t>{1, 3, 1}));
  EXPECT_EQ(source->bos_id, 0);
  EXPECT_EQ(source->eos_id, 1);
  EXPECT_EQ(source->pad_id, -1);
  EXPECT_EQ(source->add_bos, 1);
  EXPECT_EQ(source->add_eos, -1);
  EXPECT_EQ(source->chat_template, "{{x}}");

  const auto error = [](GgufBytes wrong) {
    const auto wrong_bytes = wrong.Build();
    return TokenizerFromGguf(*GgufFile::Parse(wrong_bytes)).error().message;
  };
  GgufBytes base;
  base.Text("tokenizer.ggml.model", "gpt2");
  EXPECT_THAT(error(base), HasSubstr("tokens is missing"));
  base.Texts("tokenizer.ggml.tokens", {"a", "b"});
  EXPECT_THAT(error(GgufBytes(base).U32("tokenizer.ggml.eos_token_id", 2)), HasSubstr("outside the vocabulary of 2"));
  EXPECT_THAT(error(GgufBytes(base).I32s("tokenizer.ggml.token_type", {1})), HasSubstr("1 entries for 2 tokens"));
  EXPECT_THAT(error(GgufBytes(base).I32s("tokenizer.ggml.token_type", {1, 9})), HasSubstr("the value 9"));
}

}  // namespace
}  // namespace fathom
