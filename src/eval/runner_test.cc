// The runner on a tiny golden model with suites of our own: sampling, scoring, sums, errors, interruption, reports.
#include "eval/runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "base/source_dir_for_test.h"
#include "eval/report.h"

namespace fathom {
namespace {

using testing::HasSubstr;

TEST(SampleIndices, AreChosenBySeedWithoutRepetition) {
  const auto a = SampleIndices(100, 10, 7);
  EXPECT_EQ(a, SampleIndices(100, 10, 7));
  EXPECT_NE(a, SampleIndices(100, 10, 8));
  EXPECT_EQ(std::set<size_t>(a.begin(), a.end()).size(), 10u);
  EXPECT_TRUE(std::is_sorted(a.begin(), a.end()));
  EXPECT_LT(a.back(), 100u);
  EXPECT_EQ(SampleIndices(5, 0, 1), (std::vector<size_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(SampleIndices(5, 9, 1), (std::vector<size_t>{0, 1, 2, 3, 4}));
  EXPECT_TRUE(SampleIndices(0, 3, 1).empty());
  // Every index is chosen about equally often.
  std::vector<int> count(10);
  for (uint64_t seed = 0; seed < 2000; ++seed)
    for (const size_t i : SampleIndices(10, 3, seed)) ++count[i];
  for (const int c : count) EXPECT_NEAR(c, 600, 100);
}

Result<LoadedSuite> LoadToy(const SuiteContext& context) {
  LoadedSuite loaded;
  loaded.families = {{.name = "even"}, {.name = "odd", .chance = 0.25}, {.name = "empty"}};
  loaded.notes = {"a task that nobody can score"};
  loaded.prompt = context.chat ? "chat" : "text";
  for (const int parity : {0, 1}) {
    for (int i = parity; i < 12; i += 2) {
      EvalItem item{.id = fmt::format("toy/{}", i),
                    .family = parity == 0 ? "even" : "odd",
                    .prompt = i == 3 ? std::string(5000, 'x') : fmt::format("number {} ", i),
                    .gold = i < 4 ? "a" : "b"};
      item.max_tokens = 5;
      item.score = [i](std::string_view output) {
        return ItemScore{.value = i % 4 == 0 ? 1.0 : 0.0, .extra = {}, .parsed = std::string(output)};
      };
      loaded.items.push_back(item);
    }
  }
  return loaded;
}
constexpr Suite kToy = {.name = "toy", .load = LoadToy};
constexpr Suite kToyMean = {.name = "toy", .mean_of_families = true, .load = LoadToy};

class RunnerTest : public testing::Test {
 protected:
  void SetUp() override {
    auto engine = Engine::Load(SourceDirForTest() + "/tests/golden/gguf/v3-mainline.gguf",
                               {.threads = 1, .context_length = 200, .kv_type = KvType::kF32});
    ASSERT_TRUE(engine) << engine.error().message;
    engine_ = std::move(*engine);
    if (engine_->tokenizer() == nullptr) GTEST_SKIP() << engine_->tokenizer_error();
    options_.batch.max_sequences = 4;
  }
  std::unique_ptr<Engine> engine_;
  EvalOptions options_;
};

TEST_F(RunnerTest, CountsRightAnswersByFamily) {
  const auto result = RunSuite(*engine_, kToy, options_);
  ASSERT_TRUE(result) << result.error().message;
  ASSERT_EQ(result->samples.size(), 12u);
  EXPECT_EQ(result->samples[1].item->id, "toy/2");
  EXPECT_FALSE(result->partial);
  ASSERT_EQ(result->families.size(), 3u);
  EXPECT_DOUBLE_EQ(result->families[0].score.value, 0.5);  // 0, 4, 8 of 0 … 10
  EXPECT_DOUBLE_EQ(result->families[1].score.value, 0);
  EXPECT_EQ(result->families[2].score.n, 0);
  EXPECT_DOUBLE_EQ(*result->families[0].chance, 4.0 / 6);  // "b" is right for 4, 6, 8, 10
  EXPECT_DOUBLE_EQ(*result->families[1].chance, 0.25);
  EXPECT_DOUBLE_EQ(result->score.value, 0.25);
  EXPECT_EQ(result->errors, 1);  // toy/3 does not fit the context
  EXPECT_THAT(result->samples[7].error, HasSubstr("tokens"));
  EXPECT_EQ(result->samples[7].item->id, "toy/3");
  EXPECT_EQ(result->cut_off, 11);  // five tokens and no end
  const auto mean = RunSuite(*engine_, kToyMean, options_);
  ASSERT_TRUE(mean);
  EXPECT_DOUBLE_EQ(mean->score.value, 0.25);  // of (0.5, 0): the empty family does not count
}

TEST_F(RunnerTest, SamplesAndReports) {
  options_.context.n = 6;
  std::vector<std::string> lines;
  const auto result = RunSuite(*engine_, kToy, options_, [&](const Sample& sample) {
    lines.push_back(SampleJson("toy", sample));
    return Status();
  });
  ASSERT_TRUE(result);
  ASSERT_EQ(lines.size(), 6u);
  for (const std::string& line : lines) {
    const auto json = nlohmann::json::parse(line, nullptr, false);
    ASSERT_TRUE(json.is_object()) << line;
    EXPECT_TRUE(json["prompt"].is_string());
    EXPECT_EQ(json["suite"], "toy");
  }
  const std::string table = ResultTable(*result);
  EXPECT_THAT(table, HasSubstr("even"));
  EXPECT_THAT(table, HasSubstr("6 of 6 items"));
  EXPECT_THAT(table, HasSubstr("not scored: a task that nobody can score"));
  const auto json = nlohmann::json::parse(ResultJson({&*result, 1}, {.model = "m.gguf", .seed = 3}), nullptr, false);
  ASSERT_TRUE(json.is_object());
  EXPECT_EQ(json["model"], "m.gguf");
  EXPECT_EQ(json["seed"], 3);
  EXPECT_EQ(json["n"], 6);
  EXPECT_DOUBLE_EQ(json["accuracy"].get<double>(), result->score.value);
  for (const char* key : {"accuracy", "n", "ci_low", "ci_high", "chance"}) {
    EXPECT_TRUE(json["families"]["odd"].contains(key)) << key;
    EXPECT_TRUE(json["suites"]["toy"]["families"]["odd"].contains(key)) << key;
  }
  EXPECT_TRUE(json["families"]["empty"]["accuracy"].is_null());
}

TEST_F(RunnerTest, StoppingKeepsWhatWasFinished) {
  options_.batch.max_sequences = 2;
  const auto result = RunSuite(*engine_, kToy, options_, {},
                               [](const BatchProgress& progress, double) { return progress.finished < 4; });
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_TRUE(result->partial);
  EXPECT_EQ(result->samples.size(), 4u);
  EXPECT_EQ(result->score.n, 4);
  EXPECT_THAT(ResultTable(*result), HasSubstr("interrupted"));
}

TEST_F(RunnerTest, AFailedSampleFileEndsTheRun) {
  const auto result =
      RunSuite(*engine_, kToy, options_, [](const Sample&) -> Status { return Fail(ErrorCode::kIo, "disk full"); });
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message, "disk full");
}

TEST(Summarize, BalancedAccuracyWeighsClassesEqually) {
  static constexpr Suite kSuite = {.name = "s", .mean_of_families = true, .load = LoadToy};
  SuiteResult result;
  result.suite = &kSuite;
  result.loaded.families = {{.name = "f", .metric = Metric::kBalancedAccuracy}};
  for (int i = 0; i < 10; ++i) result.loaded.items.push_back({.id = "", .family = "f", .gold = i < 9 ? "no" : "yes"});
  for (int i = 0; i < 10; ++i) {  // "no" always
    Sample sample;
    sample.item = &result.loaded.items[static_cast<size_t>(i)];
    sample.score.value = i < 9 ? 1 : 0;
    result.samples.push_back(sample);
  }
  Summarize(result);
  EXPECT_DOUBLE_EQ(result.families[0].score.value, 0.5);
  EXPECT_DOUBLE_EQ(*result.families[0].chance, 0.5);
  EXPECT_DOUBLE_EQ(result.score.value, 0.5);
}

}  // namespace
}  // namespace fathom
