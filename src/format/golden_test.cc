// Opens the golden models (tests/golden): files made by transformers, safetensors and the gguf package, not by us.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/source_dir_for_test.h"
#include "format/check.h"
#include "format/model_file.h"
#include "io/fault_env.h"

namespace fathom {
namespace {

const std::string kGolden = std::string(SourceDirForTest()) + "/tests/golden/";

std::unique_ptr<ModelFile> Open(const std::string& path) {
  auto model = ModelFile::Open(kGolden + path);
  EXPECT_TRUE(model) << path << ": " << model.error().message;
  return model ? std::move(*model) : nullptr;
}

TEST(GoldenFiles, EveryHuggingFaceModelOpens) {
  for (const char* name : {"v2lite", "v2", "v3", "v3_negbias", "kimi", "moonlight", "glm_flash", "llama", "llama_tied",
                           "qwen2", "v3_bf16", "v3_fp8"}) {
    auto model = Open(std::string("hf/") + name);
    ASSERT_NE(model, nullptr);
    EXPECT_EQ(model->config().vocab_size, 288) << name;
    EXPECT_EQ(model->Find("logits"), nullptr) << "expected.safetensors is no weight file";
    const TensorInfo* table = model->Find("model.embed_tokens.weight");
    ASSERT_NE(table, nullptr) << name;
    EXPECT_EQ(table->shape, (std::vector<int64_t>{288, model->config().hidden_size}));
  }
}

TEST(GoldenFiles, HuggingFaceConfigs) {
  auto v2lite = Open("hf/v2lite");
  EXPECT_EQ(v2lite->config().mla.q_lora_rank, 0);
  EXPECT_NEAR(v2lite->config().rope.mscale_all_dim, 0.707, 1e-6);
  auto v2 = Open("hf/v2");
  EXPECT_EQ(v2->config().moe.n_group, 4);
  EXPECT_EQ(v2->config().moe.topk_group, 2);
  EXPECT_EQ(v2->config().moe.routed_scaling_factor, 16.0f);
  EXPECT_GT(v2->config().mla.q_lora_rank, 0);
  auto v3 = Open("hf/v3");
  EXPECT_EQ(v3->files().size(), 3u);
  EXPECT_TRUE(v3->config().moe.group_score_top2);
  auto kimi = Open("hf/kimi");
  EXPECT_EQ(kimi->config().rope.beta_fast, 1.0f);
  EXPECT_EQ(kimi->config().moe.n_group, 1);
  auto moonlight = Open("hf/moonlight");
  EXPECT_EQ(moonlight->config().mla.q_lora_rank, 0);
  EXPECT_EQ(moonlight->config().rms_norm_eps, 1e-5f);
  EXPECT_EQ(moonlight->config().mla_norm_eps, 1e-6f);
  auto glm = Open("hf/glm_flash");
  EXPECT_EQ(glm->config().rope.theta, 1e6f);
  EXPECT_EQ(glm->config().moe.scoring_func, GatingFunction::kSigmoid);
  EXPECT_EQ(Open("hf/llama")->config().rope.scaling, RopeScaling::kLlama3);
  EXPECT_TRUE(Open("hf/llama_tied")->config().tie_word_embeddings);
  EXPECT_TRUE(Open("hf/qwen2")->config().attention_bias);
}

TEST(GoldenFiles, Fp8WeightsHaveTheirScalesBeside) {
  auto model = Open("hf/v3_fp8");
  int scales = 0;
  for (const TensorInfo& tensor : model->tensors()) {
    if (tensor.dtype != DType::kF8_E4M3) continue;
    const TensorInfo* scale = model->Find(tensor.name + "_scale_inv");
    ASSERT_NE(scale, nullptr) << tensor.name;
    ASSERT_EQ(scale->dtype, DType::kF32);
    EXPECT_EQ(scale->shape, (std::vector<int64_t>{(tensor.shape[0] + 127) / 128, (tensor.shape[1] + 127) / 128}));
    ++scales;
  }
  EXPECT_GT(scales, 10);
}

void ExpectSameModel(const ModelConfig& gguf, const ModelConfig& hf) {
  EXPECT_EQ(gguf.family, hf.family);
  EXPECT_EQ(gguf.vocab_size, hf.vocab_size);
  EXPECT_EQ(gguf.hidden_size, hf.hidden_size);
  EXPECT_EQ(gguf.intermediate_size, hf.intermediate_size);
  EXPECT_EQ(gguf.num_hidden_layers, hf.num_hidden_layers);
  EXPECT_EQ(gguf.num_attention_heads, hf.num_attention_heads);
  EXPECT_EQ(gguf.rms_norm_eps, hf.rms_norm_eps);
  EXPECT_EQ(gguf.mla_norm_eps, hf.mla_norm_eps);
  EXPECT_EQ(gguf.max_position_embeddings, hf.max_position_embeddings);
  EXPECT_EQ(gguf.tie_word_embeddings, hf.tie_word_embeddings);
  EXPECT_EQ(gguf.attention_bias, hf.attention_bias);
  EXPECT_EQ(gguf.kv_values_per_token_layer(), hf.kv_values_per_token_layer());
  EXPECT_EQ(gguf.rope.theta, hf.rope.theta);
  EXPECT_EQ(gguf.rope.dim, hf.rope.dim);
  EXPECT_EQ(gguf.mla.q_lora_rank, hf.mla.q_lora_rank);
  EXPECT_EQ(gguf.mla.qk_nope_head_dim, hf.mla.qk_nope_head_dim);
  EXPECT_EQ(gguf.mla.v_head_dim, hf.mla.v_head_dim);
  EXPECT_EQ(gguf.moe.n_routed_experts, hf.moe.n_routed_experts);
  EXPECT_EQ(gguf.moe.num_experts_per_tok, hf.moe.num_experts_per_tok);
  EXPECT_EQ(gguf.moe.n_shared_experts, hf.moe.n_shared_experts);
  EXPECT_EQ(gguf.moe.moe_intermediate_size, hf.moe.moe_intermediate_size);
  EXPECT_EQ(gguf.moe.first_k_dense_replace, hf.moe.first_k_dense_replace);
  EXPECT_EQ(gguf.moe.n_group, hf.moe.n_group);
  EXPECT_EQ(gguf.moe.topk_group, hf.moe.topk_group);
  EXPECT_EQ(gguf.moe.scoring_func, hf.moe.scoring_func);
  EXPECT_EQ(gguf.moe.norm_topk_prob, hf.moe.norm_topk_prob);
  EXPECT_EQ(gguf.moe.routed_scaling_factor, hf.moe.routed_scaling_factor);
  EXPECT_EQ(gguf.moe.group_score_top2, hf.moe.group_score_top2);
  EXPECT_EQ(gguf.moe.has_correction_bias, hf.moe.has_correction_bias);
  EXPECT_EQ(CountParameters(gguf).total, CountParameters(hf).total);
}

TEST(GoldenFiles, GgufSaysTheSameAsHuggingFace) {
  const std::pair<const char*, const char*> pairs[] = {{"gguf/v3-mainline.gguf", "hf/v3"},
                                                       {"gguf/v3-legacy.gguf", "hf/v3"},
                                                       {"gguf/v3-split-00002-of-00003.gguf", "hf/v3"},
                                                       {"gguf/v2lite-mainline.gguf", "hf/v2lite"},
                                                       {"gguf/llama.gguf", "hf/llama"},
                                                       {"gguf/qwen2.gguf", "hf/qwen2"},
                                                       {"gguf/qwen2-version2.gguf", "hf/qwen2"}};
  for (const auto& [gguf_path, hf_path] : pairs) {
    SCOPED_TRACE(gguf_path);
    auto gguf = Open(gguf_path);
    auto hf = Open(hf_path);
    ASSERT_NE(gguf, nullptr);
    ExpectSameModel(gguf->config(), hf->config());
    if (gguf->config().is_mla()) {
      EXPECT_EQ(gguf->config().rope.layout, hf->config().rope.layout);
      EXPECT_EQ(gguf->config().rope.scaling, hf->config().rope.scaling);
      EXPECT_NEAR(gguf->config().rope.mscale_all_dim, hf->config().rope.mscale_all_dim, 1e-6);
      EXPECT_NEAR(gguf->config().rope.attention_factor, hf->config().rope.attention_factor, 1e-6);
    }
    // The embeddings are the same numbers in both.
    const TensorInfo* a = gguf->Find("token_embd.weight");
    const TensorInfo* b = hf->Find("model.embed_tokens.weight");
    ASSERT_EQ(a->bytes, b->bytes);
    EXPECT_EQ(std::memcmp(a->data, b->data, static_cast<size_t>(a->bytes)), 0);
  }
  EXPECT_EQ(Open("gguf/llama.gguf")->config().rope.freq_factors.size(), 16u);
}

// Damage anywhere in the header of a real file, through the whole of Open(): an error that names the file, or a model
// whose configuration is still sound. Never a crash, which the sanitizers watch for.
TEST(GoldenFiles, DamagedHeadersAreErrorsOrSoundModels) {
  for (const char* name : {"gguf/v3-mainline.gguf", "gguf/qwen2.gguf"}) {
    const std::string path = kGolden + name;
    int64_t header = 0;
    {
      auto model = ModelFile::Open(path);
      ASSERT_TRUE(model);
      header = (*model)->Find("token_embd.weight")->offset;
      for (const TensorInfo& tensor : (*model)->tensors()) header = std::min(header, tensor.offset);
    }
    FaultEnv env;
    int errors = 0, sound = 0;
    for (int64_t at = 0; at < header; at += 13) {
      env.faults.map_xor = {{at, static_cast<uint8_t>(1 << (at % 8))}, {at + 5, 0x80}};
      auto model = ModelFile::Open(path, env);
      if (!model) {
        EXPECT_NE(model.error().message.find(name), std::string::npos) << model.error().message;
        ++errors;
        continue;
      }
      EXPECT_TRUE(ValidateConfig((*model)->config()));
      (void)CheckModel(**model);
      (void)(*model)->Metadata();
      ++sound;
    }
    EXPECT_GT(errors, 100) << name;
    EXPECT_GT(sound, 10) << name;  // letters of a token, and the like
    env.faults.map_xor.clear();
    for (int64_t length = 0; length < header; length += 61) {
      env.faults.map_truncate = length;
      EXPECT_FALSE(ModelFile::Open(path, env)) << name << " cut at " << length;
    }
  }
}

}  // namespace
}  // namespace fathom
