#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

namespace fathom {
namespace {

TokenId Draw(const SamplingParams& params, std::vector<float> logits, std::vector<TokenId> history = {}) {
  Sampler sampler(params);
  return sampler.Sample(logits, history);
}

std::map<TokenId, int> Histogram(SamplingParams params, const std::vector<float>& logits, int draws) {
  params.seed = 42;
  Sampler sampler(params);
  std::map<TokenId, int> counts;
  for (int i = 0; i < draws; ++i) {
    auto copy = logits;
    ++counts[sampler.Sample(copy, {})];
  }
  return counts;
}

const SamplingParams kPlain{.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0};

TEST(Sampler, GreedyTakesTheBestAndTheLowestOnTies) {
  EXPECT_EQ(Draw({.temperature = 0}, {1, 3, 3, 2}), 1);
  EXPECT_EQ(Draw({.temperature = 0}, {NAN, 3, 4, 2}), 2);
}

TEST(Sampler, DrawsInProportion) {
  const auto counts = Histogram(kPlain, {std::log(0.5f), std::log(0.3f), std::log(0.2f)}, 20000);
  EXPECT_NEAR(counts.at(0) / 20000.0, 0.5, 0.02);
  EXPECT_NEAR(counts.at(1) / 20000.0, 0.3, 0.02);
  EXPECT_NEAR(counts.at(2) / 20000.0, 0.2, 0.02);
}

TEST(Sampler, TemperatureSharpens) {
  SamplingParams params = kPlain;
  params.temperature = 0.5f;
  const auto counts = Histogram(params, {std::log(0.6f), std::log(0.4f)}, 20000);
  EXPECT_NEAR(counts.at(0) / 20000.0, 0.36 / (0.36 + 0.16), 0.02);
}

TEST(Sampler, TopKTopPMinPKeepTheRightOnes) {
  const std::vector<float> logits = {std::log(0.05f), std::log(0.5f), std::log(0.25f), std::log(0.2f)};
  SamplingParams params = kPlain;
  params.top_k = 2;
  auto counts = Histogram(params, logits, 2000);
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_TRUE(counts.contains(1) && counts.contains(2));
  params = kPlain;
  params.top_p = 0.6f;  // 0.5 is not enough, 0.75 is
  counts = Histogram(params, logits, 2000);
  EXPECT_EQ(counts.size(), 2u);
  params = kPlain;
  params.min_p = 0.3f;  // 0.15 of probability: 0.05 goes
  counts = Histogram(params, logits, 2000);
  EXPECT_EQ(counts.size(), 3u);
  EXPECT_FALSE(counts.contains(0));
}

TEST(Sampler, SameSeedSameTokens) {
  std::vector<float> logits(1000);
  for (int i = 0; i < 1000; ++i) logits[i] = std::sin(static_cast<float>(i));
  SamplingParams params{.seed = 7};
  Sampler a(params), b(params);
  params.seed = 8;
  Sampler c(params);
  int different = 0;
  for (int i = 0; i < 50; ++i) {
    auto la = logits, lb = logits, lc = logits;
    const TokenId ta = a.Sample(la, {});
    EXPECT_EQ(ta, b.Sample(lb, {}));
    different += ta != c.Sample(lc, {});
  }
  EXPECT_GT(different, 0);
  EXPECT_NE(Sampler({.seed = 0}).seed(), 0u);  // a seed that can be told to the user
}

TEST(Sampler, PenaltiesAndBias) {
  SamplingParams greedy{.temperature = 0};
  greedy.repetition_penalty = 2;
  EXPECT_EQ(Draw(greedy, {4, 3, 1}, {0}), 1);    // 4 / 2 < 3
  EXPECT_EQ(Draw(greedy, {-1, -1.5, -9}, {0}), 1);  // -1 * 2 < -1.5
  SamplingParams presence{.temperature = 0, .presence_penalty = 1.5f};
  EXPECT_EQ(Draw(presence, {4, 3, 1}, {0, 0}), 1);
  SamplingParams frequency{.temperature = 0, .frequency_penalty = 0.6f};
  EXPECT_EQ(Draw(frequency, {4, 3, 1}, {0}), 0);
  EXPECT_EQ(Draw(frequency, {4, 3, 1}, {0, 0}), 1);
  frequency.penalty_last_n = 1;  // only the last token counts
  EXPECT_EQ(Draw(frequency, {4, 3, 1}, {0, 0}), 0);
  SamplingParams bias{.temperature = 0, .logit_bias = {{2, 10.0f}}};
  EXPECT_EQ(Draw(bias, {4, 3, 1}), 2);
}

TEST(Sampler, ValidationNamesTheField) {
  const auto message = [](SamplingParams params) {
    auto status = ValidateSampling(params, 100);
    return status ? std::string() : status.error().message;
  };
  EXPECT_EQ(message({}), "");
  EXPECT_NE(message({.temperature = -1}).find("temperature"), std::string::npos);
  EXPECT_NE(message({.temperature = NAN}).find("temperature"), std::string::npos);
  EXPECT_NE(message({.top_p = 0}).find("top_p"), std::string::npos);
  EXPECT_NE(message({.logit_bias = {{100, 1.0f}}}).find("logit_bias"), std::string::npos);
}

}  // namespace
}  // namespace fathom
