#include "train/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "io/fault_env.h"

namespace fathom {
namespace {

using ::testing::HasSubstr;

class MetricsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "fathom_metrics_XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    path_ = dir_ + "/metrics.jsonl";
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  std::string Contents() const {
    std::ifstream in(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  // Steps first … last with a validation at every even one.
  void Write(int64_t after, int64_t first, int64_t last, double offset = 0) {
    auto log = MetricsLog::Open(path_, after);
    ASSERT_TRUE(log) << log.error().message;
    for (int64_t step = first; step <= last; ++step) {
      ASSERT_TRUE((*log)->Step({.step = step, .tokens = step * 100, .loss = 5.0 / static_cast<double>(step) + offset}));
      if (step % 2 == 0) {
        ASSERT_TRUE((*log)->Event("validation", step, {{"loss", 1.0}}));
      }
    }
  }
  std::vector<int64_t> Steps() const {
    std::vector<int64_t> steps;
    const auto read = ReadMetrics(path_);
    EXPECT_TRUE(read);
    for (const auto& step : read->steps) steps.push_back(step.step);
    return steps;
  }
  std::string dir_, path_;
};

TEST_F(MetricsTest, WhatIsWrittenIsRead) {
  auto log = std::move(*MetricsLog::Open(path_, 0));
  ASSERT_TRUE(log->Event("start", 0, {{"run", ToJson({.name = "nano", .config = {{"layers", "8"}}})}}));
  const StepMetrics m{.step = 7, .tokens = 229376, .stage = "prose", .loss = 3.25, .mtp_loss = 3.5,
                      .balance_loss = 1e-4, .gradient_norm = 0.75, .learning_rate = 2e-2, .tokens_per_second = 1234.5,
                      .flops_per_second = 1.5e11, .peak_share = 0.625, .seconds = 99.5, .cost = 0.0125,
                      .expert_load = {{0.25f, 0.75f}, {0.5f, 0.5f}}};
  ASSERT_TRUE(log->Step(m));
  ASSERT_TRUE(log->Step({.step = 8, .tokens = 262144, .loss = 3.125}));
  const auto read = ReadMetrics(path_);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->skipped_lines, 0);
  ASSERT_EQ(read->steps.size(), 2u);
  const StepMetrics& r = read->steps[0];
  EXPECT_EQ(r.step, 7);
  EXPECT_EQ(r.tokens, 229376);
  EXPECT_EQ(r.stage, "prose");
  EXPECT_EQ(r.loss, 3.25);
  EXPECT_EQ(r.mtp_loss, 3.5);
  EXPECT_EQ(r.balance_loss, 1e-4);
  EXPECT_EQ(r.gradient_norm, 0.75);
  EXPECT_EQ(r.learning_rate, 2e-2);
  EXPECT_EQ(r.tokens_per_second, 1234.5);
  EXPECT_EQ(r.flops_per_second, 1.5e11);
  EXPECT_EQ(r.peak_share, 0.625);
  EXPECT_EQ(r.seconds, 99.5);
  EXPECT_EQ(r.cost, 0.0125);
  EXPECT_EQ(r.expert_load, m.expert_load);
  EXPECT_TRUE(std::isnan(read->steps[1].mtp_loss));
  EXPECT_THAT(Contents(), ::testing::Not(HasSubstr("null")));
  ASSERT_EQ(read->events.size(), 1u);
  const ReportInfo info = ReportInfoFromJson(read->events[0].fields["run"]);
  EXPECT_EQ(info.name, "nano");
  EXPECT_EQ(info.config, (std::vector<std::pair<std::string, std::string>>{{"layers", "8"}}));
}

TEST_F(MetricsTest, ResumingDropsWhatCameAfterTheCheckpoint) {
  Write(0, 1, 10);
  Write(6, 7, 12, 100.0);
  EXPECT_EQ(Steps(), (std::vector<int64_t>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}));
  const auto read = ReadMetrics(path_);
  EXPECT_EQ(read->events.size(), 6u);  // 2, 4, 6 kept; 8 and 10 written again; 12
  EXPECT_LT(read->steps[5].loss, 10);
  EXPECT_GT(read->steps[6].loss, 100);
  Write(0, 1, 3);  // a new run
  EXPECT_EQ(Steps(), (std::vector<int64_t>{1, 2, 3}));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir_), {}), 1);
}

TEST_F(MetricsTest, ATornLineIsDropped) {
  Write(0, 1, 5);
  const std::string whole = Contents();
  for (size_t cut = 1; cut < 40; ++cut) {
    std::ofstream(path_, std::ios::binary) << whole.substr(0, whole.size() - cut);
    ASSERT_TRUE(ReadMetrics(path_));
    ASSERT_TRUE(MetricsLog::Open(path_, 5));
    const std::string kept = Contents();
    EXPECT_TRUE(kept.ends_with("\n"));
    EXPECT_TRUE(whole.starts_with(kept)) << kept;
  }
}

TEST_F(MetricsTest, OtherLinesAreCountedAndSkipped) {
  std::ofstream(path_) << "not json\n[1]\n{\"loss\":1}\n{\"step\":\"x\"}\n{\"step\":1}\n{\"step\":1e30,\"tokens\":1}\n\n"
                          "{\"step\":2,\"tokens\":5,\"loss\":\"high\",\"expert_load\":[[1,\"a\"]]}\n"
                       << std::string(100000, '[') << "\n";
  const auto read = ReadMetrics(path_);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->skipped_lines, 7);
  ASSERT_EQ(read->steps.size(), 1u);
  EXPECT_TRUE(std::isnan(read->steps[0].loss));
  EXPECT_TRUE(read->steps[0].expert_load.empty());
  EXPECT_EQ(ReadMetrics(dir_ + "/none").error().code, ErrorCode::kNotFound);
}

TEST_F(MetricsTest, AFullDiskIsAnErrorAndKeepsTheOldLines) {
  Write(0, 1, 10);
  const std::string before = Contents();
  FaultEnv env;
  env.faults.fail_write_after = 50;
  EXPECT_EQ(MetricsLog::Open(path_, 8, env).error().code, ErrorCode::kResource);
  EXPECT_EQ(Contents(), before);
  env.faults.fail_write_after = 1 << 20;
  auto log = std::move(*MetricsLog::Open(path_, 8, env));
  env.faults.fail_write_after = env.bytes_appended + 10;
  EXPECT_FALSE(log->Step({.step = 9, .tokens = 900}));
}

}  // namespace
}  // namespace fathom
