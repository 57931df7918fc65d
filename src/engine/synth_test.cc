#include "engine/synth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include "base/source_dir_for_test.h"
#include "engine/engine.h"
#include "engine/synth_configs.h"
#include "format/model_file.h"
#include "io/fault_env.h"
#include "kernels/dequant.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;

class SynthTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = fs::path(testing::TempDir()) /
                 ("synth_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()) + "_" +
                  std::to_string(::getpid()));
    fs::create_directories(directory_);
  }
  void TearDown() override { fs::remove_all(directory_); }

  std::string Path(const std::string& name) const { return (directory_ / name).string(); }
  SynthOptions Options(const std::string& type, const std::string& config = "tiny") const {
    SynthOptions options;
    options.config = config;
    options.type = type;
    options.output = Path(config + "-" + type + ".gguf");
    options.threads = 2;
    return options;
  }
  static std::string Bytes(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  int FilesLeft() const {
    return static_cast<int>(std::distance(fs::directory_iterator(directory_), fs::directory_iterator()));
  }

  fs::path directory_;
};

void ExpectSameConfig(const ModelConfig& a, const ModelConfig& b) {
  EXPECT_EQ(a.family, b.family);
  EXPECT_EQ(a.architecture, b.architecture);
  EXPECT_EQ(a.name, b.name);
  EXPECT_EQ(a.vocab_size, b.vocab_size);
  EXPECT_EQ(a.hidden_size, b.hidden_size);
  EXPECT_EQ(a.intermediate_size, b.intermediate_size);
  EXPECT_EQ(a.num_hidden_layers, b.num_hidden_layers);
  EXPECT_EQ(a.num_attention_heads, b.num_attention_heads);
  EXPECT_EQ(a.rms_norm_eps, b.rms_norm_eps);
  EXPECT_EQ(a.max_position_embeddings, b.max_position_embeddings);
  EXPECT_EQ(a.tie_word_embeddings, b.tie_word_embeddings);
  EXPECT_EQ(a.attention_bias, b.attention_bias);
  EXPECT_EQ(a.rope.theta, b.rope.theta);
  EXPECT_EQ(a.rope.dim, b.rope.dim);
  EXPECT_EQ(a.rope.layout, b.rope.layout);
  if (b.rope.scaling == RopeScaling::kYarn) {
    EXPECT_EQ(a.rope.scaling, b.rope.scaling);
    EXPECT_EQ(a.rope.factor, b.rope.factor);
    EXPECT_EQ(a.rope.original_max_position_embeddings, b.rope.original_max_position_embeddings);
    EXPECT_EQ(a.rope.beta_fast, b.rope.beta_fast);
    EXPECT_EQ(a.rope.beta_slow, b.rope.beta_slow);
    EXPECT_FLOAT_EQ(a.rope.mscale_all_dim, b.rope.mscale_all_dim);
  }
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
  EXPECT_FLOAT_EQ(a.moe.routed_scaling_factor, b.moe.routed_scaling_factor);
  EXPECT_EQ(a.moe.group_score_top2, b.moe.group_score_top2);
  EXPECT_EQ(a.moe.has_correction_bias, b.moe.has_correction_bias);
}

// One layer of each kind and a small vocabulary.
TEST_F(SynthTest, EveryConfigurationIsReadBackAsItWas) {
  for (const auto& entry : SynthConfigs()) {
    auto options = Options("q2_k", std::string(entry.name));
    options.layers = entry.make().moe.first_k_dense_replace + 1;
    options.vocab_size = 512;
    if (PlanSynth(options)->tensor_bytes > 300'000'000) continue;  // the giants: the rules are the same
    SCOPED_TRACE(entry.name);
    const auto written = WriteSynth(options);
    ASSERT_TRUE(written) << written.error().message;
    EXPECT_EQ(static_cast<int64_t>(fs::file_size(options.output)), written->file_bytes);
    const auto file = ModelFile::Open(options.output);
    ASSERT_TRUE(file) << file.error().message;
    ExpectSameConfig((*file)->config(), written->config);
    EXPECT_EQ((*file)->tensor_bytes(), written->tensor_bytes);
    fs::remove(options.output);
  }
}

TEST_F(SynthTest, EveryTypeIsReadBackInBothLayouts) {
  for (const auto& recipe : QuantRecipes()) {
    for (const auto layout : {GgufLayout::kMainline, GgufLayout::kLegacy}) {
      auto options = Options(std::string(recipe.name));
      options.layout = layout;
      options.overwrite = true;
      SCOPED_TRACE(options.output);
      const auto written = WriteSynth(options);
      ASSERT_TRUE(written) << written.error().message;
      const auto file = ModelFile::Open(options.output);
      ASSERT_TRUE(file) << file.error().message;
      ExpectSameConfig((*file)->config(), written->config);
      const auto* head = (*file)->Find("output.weight");
      ASSERT_NE(head, nullptr);
      std::vector<float> row(256);
      DequantizeRow(head->dtype, head->data, 256, row.data());
      double squares = 0;
      for (const float v : row) squares += static_cast<double>(v) * v;
      EXPECT_NEAR(std::sqrt(squares / 256), 3.0 / 16, 0.25 * 3 / 16);  // logits of standard deviation 3
    }
  }
}

TEST_F(SynthTest, BytesDoNotDependOnThreads) {
  auto options = Options("q4_k_m");
  options.threads = 1;
  ASSERT_TRUE(WriteSynth(options));
  const std::string one = Bytes(options.output);
  options.output = Path("three.gguf");
  options.threads = 3;
  ASSERT_TRUE(WriteSynth(options));
  EXPECT_TRUE(one == Bytes(options.output));
  options.output = Path("other.gguf");
  options.seed = 2;
  ASSERT_TRUE(WriteSynth(options));
  EXPECT_FALSE(one == Bytes(options.output));
}

TEST_F(SynthTest, CancellingLeavesNothing) {
  auto options = Options("f32");
  int64_t total_seen = 0;
  options.progress = [&](int64_t done, int64_t total) {
    EXPECT_LE(done, total);
    total_seen = total;
    return false;
  };
  const auto result = WriteSynth(options);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(total_seen, PlanSynth(options)->tensor_bytes);
  EXPECT_EQ(FilesLeft(), 0);
}

TEST_F(SynthTest, AFullDiskLeavesNothing) {
  const auto options = Options("f16");
  for (const int64_t after : {int64_t{0}, int64_t{1000}, int64_t{9'000'000}}) {
    FaultEnv env;
    env.faults.fail_write_after = after;
    const auto result = WriteSynth(options, env);
    ASSERT_FALSE(result) << after;
    EXPECT_EQ(result.error().code, ErrorCode::kResource);
    EXPECT_EQ(FilesLeft(), 0);
  }
  FaultEnv env;
  env.faults.fail_sync = true;
  EXPECT_FALSE(WriteSynth(options, env));
  EXPECT_EQ(FilesLeft(), 0);
}

TEST_F(SynthTest, RefusesBeforeWriting) {
  auto expect = [&](SynthOptions options, ErrorCode code, const char* words) {
    const auto result = WriteSynth(options);
    ASSERT_FALSE(result) << words;
    EXPECT_EQ(result.error().code, code) << result.error().message;
    EXPECT_THAT(result.error().message, testing::HasSubstr(words));
    EXPECT_EQ(FilesLeft(), 0);
  };
  auto options = Options("q8_0");
  options.reserve_bytes = int64_t{1} << 60;
  expect(options, ErrorCode::kResource, "are free");
  expect(Options("q9_0"), ErrorCode::kInvalidArgument, "q9_0");
  expect(Options("q8_0", "nonesuch"), ErrorCode::kInvalidArgument, "nonesuch");
  options = Options("q8_0");
  options.layers = -1;
  expect(options, ErrorCode::kInvalidArgument, "layers");
  options = Options("q8_0");
  options.vocab_size = 100;
  expect(options, ErrorCode::kInvalidArgument, "vocabulary");
  options = Options("q8_0", "smollm2-135m");
  options.q_lora_rank = 64;
  expect(options, ErrorCode::kInvalidArgument, "q_lora");
  options = Options("q8_0");
  options.output = Path("no/such/directory/x.gguf");
  EXPECT_FALSE(WriteSynth(options));
}

TEST_F(SynthTest, KeepsAnExistingFileUnlessTold) {
  auto options = Options("q8_0");
  std::ofstream(options.output) << "precious";
  const auto result = WriteSynth(options);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(Bytes(options.output), "precious");
  options.overwrite = true;
  ASSERT_TRUE(WriteSynth(options));
  EXPECT_TRUE(ModelFile::Open(options.output));
  // Its own files and empty ones (mktemp) are nobody's loss.
  options.overwrite = false;
  EXPECT_TRUE(WriteSynth(options));
  std::ofstream(options.output, std::ios::trunc).close();
  EXPECT_TRUE(WriteSynth(options));
}

TEST_F(SynthTest, ReadsAConfigJson) {
  for (const std::string& path : {SourceDirForTest() + "/tests/golden/hf/v3", SourceDirForTest() + "/tests/golden/hf/v3/config.json"}) {
    auto options = Options("q8_0");
    options.config = path;
    options.overwrite = true;
    options.vocab_size = 300;  // the golden's 288 would do as well
    const auto written = WriteSynth(options);
    ASSERT_TRUE(written) << written.error().message;
    EXPECT_EQ(written->config.architecture, "deepseek2");
    const auto file = ModelFile::Open(options.output);
    ASSERT_TRUE(file) << file.error().message;
    ExpectSameConfig((*file)->config(), written->config);
  }
  auto options = Options("q8_0");
  options.config = Path("config.json");
  EXPECT_EQ(WriteSynth(options).error().code, ErrorCode::kNotFound);
  std::ofstream(options.config) << "{\"architectures\": [";
  const auto broken = WriteSynth(options);
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(broken.error().message, testing::HasSubstr("config.json"));
}

TEST_F(SynthTest, OverridesChangeWhatTheySay) {
  auto options = Options("q8_0", "deepseek-v2-lite");
  options.layers = 4;
  options.q_lora_rank = 1024;
  const auto config = ResolveSynthConfig(options);
  ASSERT_TRUE(config);
  EXPECT_EQ(config->num_hidden_layers, 4);
  EXPECT_EQ(config->mla.q_lora_rank, 1024);
  EXPECT_EQ(config->hidden_size, 2048);
}

// A network that is fit to measure with: finite, spread logits, and routing that uses all experts.
TEST_F(SynthTest, TheTinyModelGenerates) {
  const auto options = Options("q4_k_m");
  ASSERT_TRUE(WriteSynth(options));
  EngineOptions engine_options;
  engine_options.threads = 2;
  const auto engine = Engine::Load(options.output, engine_options);
  ASSERT_TRUE(engine) << engine.error().message;
  ASSERT_NE((*engine)->tokenizer(), nullptr) << (*engine)->tokenizer_error();
  const auto session = (*engine)->NewSession();
  ASSERT_TRUE(session) << session.error().message;
  const auto prompt = EncodePrompt(*(*engine)->tokenizer(), "What is the meaning of this?");
  ASSERT_EQ(prompt.front(), (*engine)->tokenizer()->bos_id());
  GenerationParams params;
  params.sampling.temperature = 0;
  params.max_tokens = 64;
  params.ignore_eos = true;
  const auto result = (*session)->Generate(prompt, params, [](const Emission&) { return true; });
  ASSERT_TRUE(result) << result.error().message;
  ASSERT_EQ(result->tokens.size(), 64u);
  // Greedy noise wanders: it neither repeats one token nor falls into a short loop.
  EXPECT_GT(std::set<TokenId>(result->tokens.begin(), result->tokens.end()).size(), 32u);
  double sum = 0, squares = 0;
  for (const float logit : (*session)->logits()) {
    ASSERT_TRUE(std::isfinite(logit));
    sum += logit;
    squares += static_cast<double>(logit) * logit;
  }
  const double count = static_cast<double>((*session)->logits().size());
  EXPECT_NEAR(std::sqrt(squares / count - sum * sum / count / count), 3.0, 0.6);
}

}  // namespace
}  // namespace fathom
