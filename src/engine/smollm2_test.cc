// A real model against llama.cpp: SmolLM2-135M-Instruct in Q4_1, which `fathom pull smollm2-135m` brings. Skipped, and
// said so, where the file is not there (FATHOM_SMOLLM2 names another place).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/source_dir_for_test.h"
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
    std::ifstream file(SourceDirForTest() + "/tests/golden/smollm2/expected.json");
    expected_ = nlohmann::json::parse(file);
  }
  std::unique_ptr<Engine> engine_;
  nlohmann::json expected_;
};

// Both programs round activations to 8 bits, each in its own order of summation, so each is off from f32 by up to 0.3
// or 0.4 in log-probability here. Where the best token leads by little more than two such errors either program may
// take the second; everywhere else, and for at least five prompts to the end, the tokens are the same.
constexpr double kNearTie = 1.0;

TEST_F(SmolLm2, GreedyTokensEqualLlamaCpp) {
  ASSERT_NE(engine_->tokenizer(), nullptr) << engine_->tokenizer_error();
  int equal = 0;
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
    const auto want = golden["output_ids"].get<std::vector<TokenId>>();
    const auto differ = std::mismatch(want.begin(), want.end(), result->tokens.begin()).first;
    if (differ == want.end()) {
      ++equal;
      EXPECT_EQ(result->content, golden["output"].get<std::string>());
    } else {
      const auto& margin = golden["margins_f32"][differ - want.begin()];
      EXPECT_LT(margin.get<double>(), kNearTie) << prompt << " at step " << differ - want.begin();
    }
  }
  EXPECT_GE(equal, 5);
}

// The same weights in f32 (transformers) are what both programs approximate: we may not be further off than llama.cpp.
TEST_F(SmolLm2, AsCloseToF32AsLlamaCppIs) {
  double ours = 0, theirs = 0;
  for (const auto& golden : expected_["cases"]) {
    auto session = std::move(*engine_->NewSession());
    ASSERT_TRUE(session->Eval(golden["prompt_ids"].get<std::vector<TokenId>>()));
    size_t step = 0;
    double worst = 0;
    for (const TokenId token : golden["output_ids"].get<std::vector<TokenId>>()) {
      double sum = 0;
      for (float logit : session->logits()) sum += std::exp(double{logit});
      const auto& best = golden["f32_top5"][step++][0];
      const double log_probability = session->logits()[best[0].get<size_t>()] - std::log(sum);
      worst = std::max(worst, std::abs(log_probability - best[1].get<double>()));
      ASSERT_TRUE(session->Eval({&token, 1}));
    }
    ours += worst;
    theirs += golden["max_logprob_difference"].get<double>();
  }
  RecordProperty("ours", std::to_string(ours));
  std::printf("sum of worst log-probability errors: fathom %.3f, llama.cpp %.3f\n", ours, theirs);
  EXPECT_LT(ours, 1.25 * theirs);
}

}  // namespace
}  // namespace fathom
