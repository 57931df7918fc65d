#include "format/hf_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace fathom {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

Json V3() {
  return Json::parse(R"({"architectures":["DeepseekV3ForCausalLM"],"model_type":"deepseek_v3","vocab_size":129280,
    "hidden_size":7168,"intermediate_size":18432,"moe_intermediate_size":2048,"num_hidden_layers":61,
    "num_attention_heads":128,"num_key_value_heads":128,"n_shared_experts":1,"n_routed_experts":256,
    "num_experts_per_tok":8,"moe_layer_freq":1,"first_k_dense_replace":3,"norm_topk_prob":true,"scoring_func":"sigmoid",
    "topk_method":"noaux_tc","n_group":8,"topk_group":4,"routed_scaling_factor":2.5,"q_lora_rank":1536,
    "kv_lora_rank":512,"qk_nope_head_dim":128,"qk_rope_head_dim":64,"v_head_dim":128,"hidden_act":"silu",
    "max_position_embeddings":163840,"num_nextn_predict_layers":1,"rms_norm_eps":1e-06,"rope_theta":10000,
    "rope_scaling":{"beta_fast":32,"beta_slow":1,"factor":40,"mscale":1.0,"mscale_all_dim":1.0,
    "original_max_position_embeddings":4096,"type":"yarn"},"tie_word_embeddings":false,"attention_bias":false,
    "quantization_config":{"activation_scheme":"dynamic","fmt":"e4m3","quant_method":"fp8","weight_block_size":[128,128]}})");
}

Json V2Lite() {
  return Json::parse(R"({"architectures":["DeepseekV2ForCausalLM"],"vocab_size":102400,"hidden_size":2048,
    "intermediate_size":10944,"moe_intermediate_size":1408,"num_hidden_layers":27,"num_attention_heads":16,
    "n_shared_experts":2,"n_routed_experts":64,"num_experts_per_tok":6,"first_k_dense_replace":1,"norm_topk_prob":false,
    "scoring_func":"softmax","topk_method":"greedy","n_group":1,"topk_group":1,"routed_scaling_factor":1.0,
    "q_lora_rank":null,"kv_lora_rank":512,"qk_nope_head_dim":128,"qk_rope_head_dim":64,"v_head_dim":128,
    "max_position_embeddings":163840,"rms_norm_eps":1e-06,"rope_theta":10000,"rope_scaling":{"beta_fast":32,
    "beta_slow":1,"factor":40,"mscale":0.707,"mscale_all_dim":0.707,"original_max_position_embeddings":4096,"type":"yarn"}})");
}

Json Llama() {
  return Json::parse(R"({"architectures":["LlamaForCausalLM"],"vocab_size":128256,"hidden_size":4096,
    "intermediate_size":14336,"num_hidden_layers":32,"num_attention_heads":32,"num_key_value_heads":8,
    "max_position_embeddings":131072,"rms_norm_eps":1e-05,"rope_theta":500000.0,"rope_scaling":{"factor":8.0,
    "low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192,"rope_type":"llama3"}})");
}

Result<ModelConfig> Read(const Json& json) { return ConfigFromHuggingFace(json.dump(), "name"); }
Result<ModelConfig> With(Json json, const char* change) {
  json.merge_patch(Json::parse(change));
  return Read(json);
}

TEST(HfConfig, DeepseekV3) {
  auto config = Read(V3());
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->family, ArchFamily::kDeepseek2);
  EXPECT_EQ(config->name, "name");
  EXPECT_EQ(config->num_hidden_layers, 61);
  EXPECT_EQ(config->num_nextn_predict_layers, 1);
  EXPECT_EQ(config->mla.q_lora_rank, 1536);
  EXPECT_EQ(config->rope.layout, RopeLayout::kInterleaved);
  EXPECT_EQ(config->rope.dim, 64);
  EXPECT_EQ(config->rope.scaling, RopeScaling::kYarn);
  EXPECT_EQ(config->rope.attention_factor, 1.0f);
  EXPECT_EQ(config->rope.mscale_all_dim, 1.0f);
  EXPECT_EQ(config->moe.scoring_func, GatingFunction::kSigmoid);
  EXPECT_TRUE(config->moe.norm_topk_prob);
  EXPECT_TRUE(config->moe.group_score_top2);
  EXPECT_TRUE(config->moe.has_correction_bias);
  EXPECT_EQ(config->moe.n_group, 8);
  EXPECT_EQ(config->moe.topk_group, 4);
  EXPECT_EQ(config->moe.routed_scaling_factor, 2.5f);
}

TEST(HfConfig, DeepseekV2AndItsGroups) {
  auto config = Read(V2Lite());
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->mla.q_lora_rank, 0);
  EXPECT_EQ(config->moe.scoring_func, GatingFunction::kSoftmax);
  EXPECT_FALSE(config->moe.has_correction_bias);
  EXPECT_NEAR(config->rope.mscale_all_dim, 0.707f, 1e-6);
  EXPECT_EQ(config->rope.attention_factor, 1.0f);
  config = With(V2Lite(), R"({"n_group":8,"topk_group":3})");  // greedy ignores groups
  EXPECT_EQ(config->moe.n_group, 1);
  config = With(V2Lite(), R"({"n_group":8,"topk_group":3,"topk_method":"group_limited_greedy"})");
  ASSERT_TRUE(config);
  EXPECT_EQ(config->moe.n_group, 8);
  EXPECT_EQ(config->moe.topk_group, 3);
  EXPECT_FALSE(config->moe.group_score_top2);
}

TEST(HfConfig, AbsentFieldsHaveTheClassesDefaults) {
  Json json = V3();
  for (const char* key :
       {"q_lora_rank", "scoring_func", "topk_method", "n_group", "topk_group", "norm_topk_prob",
        "routed_scaling_factor", "first_k_dense_replace", "rope_scaling", "num_nextn_predict_layers"}) {
    json.erase(key);
  }
  auto config = Read(json);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->mla.q_lora_rank, 1536);
  EXPECT_EQ(config->moe.n_group, 8);
  EXPECT_EQ(config->moe.first_k_dense_replace, 3);
  EXPECT_EQ(config->moe.routed_scaling_factor, 2.5f);
  EXPECT_EQ(config->rope.scaling, RopeScaling::kNone);
  json["q_lora_rank"] = nullptr;  // present but null: no low rank (Moonlight)
  EXPECT_EQ(Read(json)->mla.q_lora_rank, 0);
}

TEST(HfConfig, RelativesOfV3) {
  auto kimi =
      With(V3(), R"({"model_type":"kimi_k2","n_routed_experts":384,"n_group":1,"topk_group":1,"vocab_size":163840,
                             "rope_theta":50000.0,"routed_scaling_factor":2.827,"num_attention_heads":64})");
  ASSERT_TRUE(kimi) << kimi.error().message;
  EXPECT_EQ(kimi->moe.n_routed_experts, 384);
  EXPECT_EQ(kimi->rope.theta, 50000.0f);
  auto by_type = V3();
  by_type.erase("architectures");
  by_type["model_type"] = "kimi_k2";
  EXPECT_TRUE(Read(by_type));
  auto glm =
      With(V3(), R"({"architectures":["Glm4MoeLiteForCausalLM"],"model_type":"glm4_moe_lite","num_hidden_layers":3,
      "first_k_dense_replace":null,"mlp_layer_types":["dense","sparse","sparse"],"qk_nope_head_dim":192,"v_head_dim":256,
      "rope_scaling":null,"n_group":1,"topk_group":1,"rope_theta":null,
      "rope_parameters":{"rope_type":"default","rope_theta":1000000.0,"partial_rotary_factor":1.0}})");
  ASSERT_TRUE(glm) << glm.error().message;
  EXPECT_EQ(glm->moe.first_k_dense_replace, 1);
  EXPECT_EQ(glm->rope.theta, 1e6f);
  EXPECT_EQ(glm->rope.scaling, RopeScaling::kNone);
  EXPECT_EQ(glm->mla.v_head_dim, 256);
}

TEST(HfConfig, DenseEverywhereIsADenseModel) {
  auto dense = With(V3(), R"({"first_k_dense_replace":62})");  // 61 layers and an MTP layer
  ASSERT_TRUE(dense) << dense.error().message;
  EXPECT_EQ(dense->moe.n_routed_experts, 0);
  EXPECT_FALSE(dense->is_moe_layer(61));
  auto mtp_has_experts = With(V3(), R"({"first_k_dense_replace":61})");
  ASSERT_TRUE(mtp_has_experts) << mtp_has_experts.error().message;
  EXPECT_EQ(mtp_has_experts->moe.n_routed_experts, 256);
}

TEST(HfConfig, MlaNormsKeepTheirOwnEpsilon) {
  auto config = With(V3(), R"({"rms_norm_eps":1e-5})");
  ASSERT_TRUE(config);
  EXPECT_EQ(config->rms_norm_eps, 1e-5f);
  EXPECT_EQ(config->mla_norm_eps, 1e-6f);
}

TEST(HfConfig, YarnFactorsAreResolvedAsInTransformers) {
  const double log40 = std::log(40.0);
  auto none = V3();
  none["rope_scaling"].erase("mscale");
  none["rope_scaling"].erase("mscale_all_dim");
  EXPECT_NEAR(Read(none)->rope.attention_factor, 0.1 * log40 + 1, 1e-6);
  EXPECT_EQ(Read(none)->rope.mscale_all_dim, 0.0f);
  EXPECT_NEAR(With(V3(), R"({"rope_scaling":{"mscale":1.5}})")->rope.attention_factor,
              (0.15 * log40 + 1) / (0.1 * log40 + 1), 1e-6);
  EXPECT_NEAR(With(V3(), R"({"rope_scaling":{"mscale":null}})")->rope.attention_factor, 0.1 * log40 + 1, 1e-6);
  EXPECT_EQ(With(V3(), R"({"rope_scaling":{"attention_factor":1.25}})")->rope.attention_factor, 1.25f);
  EXPECT_EQ(With(V3(), R"({"rope_scaling":{"factor":null}})")->rope.factor, 40.0f);  // 163840 / 4096
  EXPECT_EQ(With(V3(), R"({"rope_scaling":{"original_max_position_embeddings":null}})")
                ->rope.original_max_position_embeddings,
            163840);
  auto renamed = With(V3(), R"({"rope_scaling":{"type":null,"rope_type":"yarn"}})");
  EXPECT_EQ(renamed->rope.scaling, RopeScaling::kYarn);
  auto moved = V3();
  moved["rope_parameters"] = moved["rope_scaling"];
  moved["rope_parameters"]["rope_theta"] = 12345.0;
  moved.erase("rope_scaling");
  EXPECT_EQ(Read(moved)->rope.scaling, RopeScaling::kYarn);
  EXPECT_EQ(Read(moved)->rope.theta, 12345.0f);
}

TEST(HfConfig, LlamaAndQwen2) {
  auto llama = Read(Llama());
  ASSERT_TRUE(llama) << llama.error().message;
  EXPECT_EQ(llama->family, ArchFamily::kLlama);
  EXPECT_EQ(llama->head_dim, 128);
  EXPECT_EQ(llama->rope.layout, RopeLayout::kHalfSplit);
  EXPECT_EQ(llama->rope.scaling, RopeScaling::kLlama3);
  EXPECT_EQ(llama->rope.original_max_position_embeddings, 8192);
  EXPECT_FALSE(llama->attention_bias);
  EXPECT_EQ(With(Llama(), R"({"head_dim":64})")->head_dim, 64);
  EXPECT_EQ(With(Llama(), R"({"num_key_value_heads":null})")->num_key_value_heads, 32);
  EXPECT_TRUE(With(Llama(), R"({"tie_word_embeddings":true})")->tie_word_embeddings);
  auto linear = With(Llama(), R"({"rope_scaling":{"type":"linear","rope_type":null,"factor":2}})");
  EXPECT_EQ(linear->rope.scaling, RopeScaling::kLinear);
  auto qwen = With(Llama(), R"({"architectures":["Qwen2ForCausalLM"],"rope_scaling":null,"use_sliding_window":false,
                                "sliding_window":131072})");
  ASSERT_TRUE(qwen) << qwen.error().message;
  EXPECT_EQ(qwen->family, ArchFamily::kQwen2);
  EXPECT_TRUE(qwen->attention_bias);
}

TEST(HfConfig, WhatFathomLacksIsNamed) {
  const std::tuple<Json, const char*, const char*> cases[] = {
      {V3(), R"({"architectures":["DeepseekV32ForCausalLM"]})", "DeepseekV32ForCausalLM"},
      {V3(), R"({"architectures":null,"model_type":"mamba"})", "mamba"},
      {V3(), R"({"rope_scaling":{"type":"dynamic"}})", "dynamic"},
      {V3(), R"({"rope_scaling":{"truncate":false}})", "truncate"},
      {V3(), R"({"partial_rotary_factor":0.5})", "partial_rotary_factor"},
      {V3(), R"({"scoring_func":"softmax"})", "scoring_func is softmax"},
      {V3(), R"({"topk_method":"greedy"})", "topk_method is greedy"},
      {V3(), R"({"moe_layer_freq":2})", "moe_layer_freq is 2"},
      {V3(), R"({"attention_bias":true})", "attention_bias is true"},
      {V3(), R"({"hidden_act":"gelu"})", "hidden_act is gelu"},
      {V3(), R"({"quantization_config":{"quant_method":"awq"}})", "quant_method is awq"},
      {V3(), R"({"quantization_config":{"quant_method":"gptq"}})", "gptq"},
      {V3(), R"({"quantization_config":{"quant_method":"bitsandbytes"}})", "bitsandbytes"},
      {V3(), R"({"quantization_config":{"quant_method":"compressed-tensors"}})", "compressed-tensors"},
      {V3(), R"({"quantization_config":{"fmt":"e5m2"}})", "fmt is e5m2"},
      {V3(), R"({"quantization_config":{"weight_block_size":[64,128]}})", "weight_block_size is [64,128]"},
      {V3(), R"({"quantization_config":{"weight_block_size":null}})", "weight_block_size is absent"},
      {V2Lite(), R"({"norm_topk_prob":true})", "norm_topk_prob is true"},
      {V2Lite(), R"({"topk_method":"noaux_tc"})", "topk_method is noaux_tc"},
      {V2Lite(), R"({"mlp_layer_types":null,"scoring_func":"sigmoid"})", "scoring_func is sigmoid"},
      {Llama(), R"({"attention_bias":true})", "attention_bias is true"},
      {Llama(), R"({"mlp_bias":true})", "mlp_bias is true"},
      {Llama(), R"({"use_sliding_window":true})", "use_sliding_window is true"},
      {Llama(), R"({"layer_types":["full_attention","sliding_attention"]})", "sliding_attention"},
  };
  for (const auto& [base, change, message] : cases) {
    auto config = With(base, change);
    ASSERT_FALSE(config) << change;
    EXPECT_EQ(config.error().code, ErrorCode::kUnsupported) << change;
    EXPECT_THAT(config.error().message, HasSubstr(message));
  }
}

TEST(HfConfig, WrongValuesAreNamed) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"hidden_size":null})", "hidden_size is missing"},
      {R"({"hidden_size":"7168"})", "hidden_size is \"7168\""},
      {R"({"hidden_size":-1})", "hidden_size is -1"},
      {R"({"hidden_size":1.5})", "hidden_size is 1.5"},
      {R"({"hidden_size":0})", "hidden_size is 0"},
      {R"({"hidden_size":99999999999})", "hidden_size is 99999999999"},
      {R"({"hidden_size":2000000000})", "hidden_size is 2000000000"},
      {R"({"num_hidden_layers":100000})", "num_hidden_layers"},
      {R"({"n_routed_experts":255})", "multiple of n_group"},
      {R"({"n_routed_experts":0})", "n_routed_experts is 0: a model of this class has at least 1"},
      {R"({"n_routed_experts":-2})", "n_routed_experts is -2"},
      {R"({"n_routed_experts":null})", "n_routed_experts is missing"},
      {R"({"topk_group":9})", "topk_group"},
      {R"({"num_experts_per_tok":257})", "num_experts_per_tok"},
      {R"({"num_experts_per_tok":129})", "num_experts_per_tok"},
      {R"({"first_k_dense_replace":63})", "first_k_dense_replace"},
      {R"({"qk_rope_head_dim":63})", "must be even"},
      {R"({"rms_norm_eps":"small"})", "rms_norm_eps"},
      {R"({"rope_theta":0})", "rope_theta"},
      {R"({"rope_scaling":"yarn"})", "rope_scaling is not an object"},
      {R"({"rope_scaling":{"factor":1e300}})", "rope_scaling.factor"},
      {R"({"rope_scaling":{"factor":0}})", "rope factor"},
      {R"({"rope_scaling":{"beta_fast":0.5}})", "beta_fast"},
      {R"({"architectures":[]})", "architectures"},
      {R"({"architectures":"DeepseekV3ForCausalLM"})", "architectures"},
      {R"({"mlp_layer_types":["dense"]})", "mlp_layer_types"},
      {R"({"norm_topk_prob":1})", "norm_topk_prob"},
      {R"({"quantization_config":[]})", "quantization_config"},
  };
  for (const auto& [change, message] : cases) {
    auto config = With(V3(), change);
    ASSERT_FALSE(config) << change;
    EXPECT_EQ(config.error().code, ErrorCode::kCorrupt) << change << config.error().message;
    EXPECT_THAT(config.error().message, HasSubstr(message)) << change;
  }
  EXPECT_FALSE(ConfigFromHuggingFace("", ""));
  EXPECT_FALSE(ConfigFromHuggingFace("[1]", ""));
  EXPECT_THAT(ConfigFromHuggingFace(std::string(100000, '[') + std::string(100000, ']'), "").error().message,
              HasSubstr("nested"));
}

TEST(HfConfig, EveryByteOfAConfigDamaged) {
  const std::string text = V3().dump();
  int errors = 0;
  for (size_t at = 0; at < text.size(); ++at) {
    for (char c : {'\0', '"', '{', '9', '-', '\xff'}) {
      std::string copy = text;
      copy[at] = c;
      if (!ConfigFromHuggingFace(copy, "")) ++errors;
    }
    EXPECT_FALSE(ConfigFromHuggingFace(text.substr(0, at), ""));
  }
  EXPECT_GT(errors, 1000);
}

}  // namespace
}  // namespace fathom
