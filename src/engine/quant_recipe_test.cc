#include "engine/quant_recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "engine/synth_configs.h"
#include "engine/synth_tensors.h"

namespace fathom {
namespace {

std::map<std::string, SynthTensor> TensorsOf(std::string_view config, std::string_view type,
                                             GgufLayout layout = GgufLayout::kMainline) {
  std::map<std::string, SynthTensor> tensors;
  const auto model = FindSynthConfig(config).value();
  for (auto& tensor : ListSynthTensors(model, FindQuantRecipe(type).value(), layout)) {
    EXPECT_FALSE(tensors.contains(tensor.name)) << tensor.name;
    tensors.emplace(tensor.name, std::move(tensor));
  }
  return tensors;
}

int64_t Bytes(const std::map<std::string, SynthTensor>& tensors) {
  int64_t bytes = 0;
  for (const auto& [name, tensor] : tensors) bytes += tensor.bytes();
  return bytes;
}

int64_t Elements(const std::map<std::string, SynthTensor>& tensors) {
  int64_t elements = 0;
  for (const auto& [name, tensor] : tensors) elements += tensor.rows() * tensor.cols();
  return elements;
}

TEST(QuantRecipe, Names) {
  EXPECT_EQ(FindQuantRecipe("Q4_K_M")->name, "q4_k_m");
  EXPECT_EQ(FindQuantRecipe("q4_k")->name, "q4_k_m");
  EXPECT_EQ(FindQuantRecipe("q3_k")->name, "q3_k_m");
  EXPECT_TRUE(FindQuantRecipe("pure-iq4_xs")->pure);
  for (const char* wrong : {"", "q4", "pure-", "pure-q9_9", "q4_k_m "}) {
    const auto result = FindQuantRecipe(wrong);
    ASSERT_FALSE(result) << wrong;
    EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(result.error().message, testing::HasSubstr("q4_k_m"));
  }
  for (const char* fp8 : {"fp8", "FP8", "f8_e4m3", "fp8_e5m2", "float8_e4m3fn", "pure-fp8", "pure-f8_e4m3"}) {
    const auto result = FindQuantRecipe(fp8);
    ASSERT_FALSE(result) << fp8;
    EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(result.error().message, testing::HasSubstr("GGUF has no FP8"));
    EXPECT_THAT(result.error().message, testing::HasSubstr("q8_0"));
  }
}

// DeepSeek-V2-Lite in Q4_K_M as llama.cpp's quantiser makes it: 10.37 GB (facts of the peers' measurements).
TEST(QuantRecipe, V2LiteQ4KMIsTheFileThatPeersMeasured) {
  const auto tensors = TensorsOf("deepseek-v2-lite", "q4_k_m");
  EXPECT_NEAR(static_cast<double>(Bytes(tensors)), 10.36e9, 0.01e9);
  const auto type = [&](const std::string& name) { return tensors.at(name).dtype; };
  EXPECT_EQ(type("token_embd.weight"), DType::kQ4_K);
  EXPECT_EQ(type("output.weight"), DType::kQ6_K);
  EXPECT_EQ(type("output_norm.weight"), DType::kF32);
  EXPECT_EQ(type("blk.5.attn_q.weight"), DType::kQ4_K);
  EXPECT_EQ(type("blk.5.attn_kv_a_mqa.weight"), DType::kQ4_K);
  EXPECT_EQ(type("blk.5.attn_k_b.weight"), DType::kQ5_0);  // rows of 128
  EXPECT_EQ(type("blk.5.attn_v_b.weight"), DType::kQ4_K);
  EXPECT_EQ(type("blk.0.ffn_down.weight"), DType::kQ8_0);       // rows of 10944, more bits
  EXPECT_EQ(type("blk.3.ffn_down_exps.weight"), DType::kQ5_0);  // rows of 1408
  EXPECT_EQ(type("blk.5.ffn_down_exps.weight"), DType::kQ8_0);  // every third layer has more bits
  EXPECT_EQ(type("blk.3.ffn_down_shexp.weight"), DType::kQ4_K);
  EXPECT_EQ(type("blk.5.ffn_down_shexp.weight"), DType::kQ6_K);
  EXPECT_EQ(type("blk.26.ffn_down_shexp.weight"), DType::kQ6_K);
  EXPECT_EQ(type("blk.5.ffn_gate_inp.weight"), DType::kF32);
  EXPECT_EQ(type("blk.5.ffn_gate_exps.weight"), DType::kQ4_K);
}

TEST(QuantRecipe, LegacyKvbHasMoreBitsWhereQuantiserGivesThem) {
  const auto tensors = TensorsOf("deepseek-v2-lite", "q4_k_m", GgufLayout::kLegacy);
  EXPECT_EQ(tensors.at("blk.0.attn_kv_b.weight").dtype, DType::kQ6_K);
  EXPECT_EQ(tensors.at("blk.3.attn_kv_b.weight").dtype, DType::kQ4_K);
  EXPECT_EQ(tensors.at("blk.5.attn_kv_b.weight").dtype, DType::kQ6_K);
  EXPECT_FALSE(tensors.contains("blk.0.attn_k_b.weight"));
  EXPECT_THAT(tensors.at("blk.0.attn_kv_b.weight").shape, testing::ElementsAre(16 * 256, 512));
}

TEST(QuantRecipe, OtherMixtures) {
  const auto mx = TensorsOf("deepseek-v2-lite", "mxfp4");
  EXPECT_EQ(mx.at("blk.5.ffn_up_exps.weight").dtype, DType::kMXFP4);
  EXPECT_EQ(mx.at("blk.5.ffn_up_shexp.weight").dtype, DType::kQ8_0);
  EXPECT_EQ(mx.at("output.weight").dtype, DType::kQ8_0);
  const auto q2 = TensorsOf("r1-distill-llama-8b", "q2_k");
  EXPECT_EQ(q2.at("blk.5.attn_v.weight").dtype, DType::kQ4_K);
  EXPECT_EQ(q2.at("blk.5.attn_output.weight").dtype, DType::kQ3_K);
  EXPECT_EQ(q2.at("blk.5.ffn_down.weight").dtype, DType::kQ3_K);
  EXPECT_EQ(q2.at("blk.5.ffn_up.weight").dtype, DType::kQ2_K);
  const auto tied = TensorsOf("smollm2-1.7b", "q4_0");
  EXPECT_EQ(tied.at("token_embd.weight").dtype, DType::kQ6_K);
  EXPECT_FALSE(tied.contains("output.weight"));
  const auto narrow = TensorsOf("smollm2-135m", "q4_k_m");  // rows of 576
  EXPECT_EQ(narrow.at("token_embd.weight").dtype, DType::kQ8_0);
  EXPECT_EQ(narrow.at("blk.3.ffn_up.weight").dtype, DType::kQ5_0);
  EXPECT_EQ(narrow.at("blk.5.ffn_down.weight").dtype, DType::kQ6_K);  // rows of 1536
  const auto xs = TensorsOf("deepseek-v2-lite", "iq4_xs");
  EXPECT_EQ(xs.at("blk.5.ffn_down_exps.weight").dtype, DType::kIQ4_NL);
  EXPECT_EQ(xs.at("blk.1.ffn_down_shexp.weight").dtype, DType::kQ5_K);
  const auto pure = TensorsOf("deepseek-v2-lite", "pure-q5_k");
  EXPECT_EQ(pure.at("output.weight").dtype, DType::kQ5_K);
  EXPECT_EQ(pure.at("blk.3.ffn_down_exps.weight").dtype, DType::kQ5_1);
  for (const auto& [name, tensor] : TensorsOf("tiny", "f16"))
    EXPECT_EQ(tensor.dtype, tensor.shape.size() < 2 || name.find("ffn_gate_inp") != std::string::npos ? DType::kF32
                                                                                                       : DType::kF16)
        << name;
}

// Published sizes in billions, all and active (docs of the models; architecture of the proposal).
TEST(SynthConfigs, HaveTheParametersThatTheirModelsHave) {
  const std::tuple<const char*, double, double> expected[] = {
      {"deepseek-v2-lite", 15.7, 2.45}, {"deepseek-v2", 235.7, 20.9}, {"deepseek-v3", 671.0, 36.6},
      {"r2", 1202.1, 77.4},             {"kimi-k2", 1026.4, 31.7},    {"moonlight", 15.96, 2.57},
      {"glm-4.7-flash", 29.9, 3.6},     {"smollm2-135m", 0.1345, 0.1345},
      {"r1-distill-llama-8b", 8.03, 7.5},
  };
  for (const auto& [name, total, active] : expected) {
    const auto config = FindSynthConfig(name).value();
    const auto count = CountParameters(config);
    EXPECT_NEAR(static_cast<double>(count.total) / 1e9, total, 0.005 * total) << name;
    EXPECT_NEAR(static_cast<double>(count.active) / 1e9, active, 0.03 * active) << name;
  }
}

// Two independent counts: by formula, and by the tensors that are written.
TEST(SynthConfigs, TensorsAddUpToTheParameterCount) {
  for (const auto& entry : SynthConfigs()) {
    const auto config = entry.make();
    ASSERT_TRUE(ValidateConfig(config)) << entry.name << ": " << ValidateConfig(config).error().message;
    int64_t elements = Elements(TensorsOf(entry.name, "q8_0"));
    if (config.rope.scaling == RopeScaling::kLlama3) elements -= config.rope.dim / 2;  // not a weight
    EXPECT_EQ(elements, CountParameters(config).total) << entry.name;
    EXPECT_EQ(Elements(TensorsOf(entry.name, "q8_0", GgufLayout::kLegacy)), Elements(TensorsOf(entry.name, "q8_0")));
  }
  EXPECT_EQ(FindSynthConfig("DeepSeek-V2-Lite")->num_hidden_layers, 27);
  const auto wrong = FindSynthConfig("gpt-5");
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().message, testing::HasSubstr("deepseek-v2-lite"));
}

}  // namespace
}  // namespace fathom
