#include "cli/eval_biases.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fathom {
namespace {

using ::testing::HasSubstr;

EvalRun Measured(float bias, double score, double hits, int64_t read) {
  EvalRun run;
  run.setting = {.expert_bias = bias, .expert_hit_ratio = hits};
  run.experts.emplace();
  run.experts->bytes_read = read;
  for (const char* name : {"gsm8k", "svamp"}) {
    SuiteResult& result = run.results.emplace_back();
    result.suite = FindSuite(name);
    result.score = {.value = score, .low = score - 0.1, .high = score + 0.1};
    result.work.prompt_tokens = 300;
    result.work.generated_tokens = 100;
    result.seconds = 4;
    score += 0.2;
  }
  return run;
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines(1);
  for (const char c : text) {
    if (c == '\n') lines.emplace_back();
    else lines.back() += c;
  }
  EXPECT_EQ(lines.back(), "");
  lines.pop_back();
  return lines;
}

TEST(EvalBiases, ALineAStrengthAndSuiteAgainstTheFirst) {
  const std::vector<EvalRun> runs = {Measured(0, 0.5, 0.25, 800 << 20), Measured(0.1f, 0.45, 0.5, 400 << 20)};
  const auto lines = Lines(BiasTable(runs));
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_EQ(lines[0], "  bias  suite                   % right      change    tokens/s  found resident  read/token");
  EXPECT_EQ(lines[1], "     0  gsm8k         50.0 (40.0- 60.0)        +0.0       100.0           25.0%     1.0 MiB");
  EXPECT_EQ(lines[2], "     0  svamp         70.0 (60.0- 80.0)        +0.0       100.0");
  EXPECT_EQ(lines[3], "   0.1  gsm8k         45.0 (35.0- 55.0)        -5.0       100.0           50.0%     512 KiB");
  EXPECT_EQ(lines[4], "   0.1  svamp         65.0 (55.0- 75.0)        -5.0       100.0");
  EXPECT_THAT(lines[5], HasSubstr("against the first strength"));
  for (size_t i = 1; i < 5; i += 2) EXPECT_EQ(lines[i].size(), lines[0].size());
}

TEST(EvalBiases, WhatTookNoTimeAndReadNothing) {
  EvalRun run = Measured(1, 0.5, 0, 0);
  for (SuiteResult& result : run.results) result.seconds = 0, result.work = {};
  EXPECT_THAT(Lines(BiasTable(std::span(&run, 1)))[1], HasSubstr("       0.0            0.0%         0 B"));
}

}  // namespace
}  // namespace fathom
