// A real model against llama.cpp: SmolLM2-135M-Instruct in Q4_1, which `fathom pull smollm2-135m` brings. Skipped, and
// said so, where the file is not there (FATHOM_SMOLLM2 names another place).
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/engine.h"

namespace fathom {
namespace {

std::string FindModel() {
  if (const char* path = std::getenv("FATHOM_SMOLLM2")) return path;
  std::string data;
  if (const char* xdg = std::getenv("XDG_DATA_HOME")) {
    data = xdg;
  } else if (const char* home = std::getenv("HOME")) {
    data = std::string(home) + "/.local/share";
  }
  const std::filesystem::path folder = data + "/fathom/models";
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    if (entry.path().filename().string().starts_with("smollm2-135m") && entry.path().extension() == ".gguf")
      return entry.path();
  return "";
}

class SmolLm2 : public testing::Test {
 protected:
  void SetUp() override {
    const std::string path = FindModel();
    if (path.empty()) GTEST_SKIP() << "smollm2-135m is not here: run `fathom pull smollm2-135m` first";
    auto engine = Engine::Load(path, {.threads = 2, .context_length = 2048, .kv_type = KvType::kF32});
    ASSERT_TRUE(engine) << engine.error().message;
    engine_ = std::move(*engine);
    std::ifstream file(FATHOM_SOURCE_DIR "/tests/golden/smollm2/expected.json");
    expected_ = nlohmann::json::parse(file);
  }
  std::unique_ptr<Engine> engine_;
  nlohmann::json expected_;
};

TEST_F(SmolLm2, GreedyTokensEqualLlamaCpp) {
  ASSERT_NE(engine_->tokenizer(), nullptr) << engine_->tokenizer_error();
  ASSERT_GE(expected_["cases"].size(), 5u);
  for (const auto& golden : expected_["cases"]) {
    const std::string prompt = golden["prompt"];
    const auto ids = EncodePrompt(*engine_->tokenizer(), prompt);
    EXPECT_EQ(ids, golden["prompt_ids"].get<std::vector<TokenId>>()) << prompt;
    GenerationParams params;
    params.sampling.temperature = 0;
    params.max_tokens = expected_["steps"];
    params.ignore_eos = true;
    auto session = std::move(*engine_->NewSession());
    auto result = session->Generate(ids, params, {});
    ASSERT_TRUE(result);
    EXPECT_EQ(result->tokens, golden["output_ids"].get<std::vector<TokenId>>()) << prompt;
    EXPECT_EQ(result->content, golden["output"].get<std::string>());
  }
}

// The same weights in f32 (transformers): our int8 activations must stay closer than llama.cpp's own do at worst.
TEST_F(SmolLm2, LogProbabilitiesStayCloseToF32) {
  double worst = 0;
  for (const auto& golden : expected_["cases"]) {
    auto session = std::move(*engine_->NewSession());
    ASSERT_TRUE(session->Eval(golden["prompt_ids"].get<std::vector<TokenId>>()));
    size_t step = 0;
    for (const TokenId token : golden["output_ids"].get<std::vector<TokenId>>()) {
      double sum = 0;
      for (float logit : session->logits()) sum += std::exp(double{logit});
      const auto& best = golden["f32_top5"][step++][0];
      const double log_probability = session->logits()[best[0].get<size_t>()] - std::log(sum);
      worst = std::max(worst, std::abs(log_probability - best[1].get<double>()));
      ASSERT_TRUE(session->Eval({&token, 1}));
    }
  }
  EXPECT_LT(worst, 0.31);
}

}  // namespace
}  // namespace fathom
