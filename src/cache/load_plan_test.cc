#include "cache/load_plan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace fathom {
namespace {

constexpr double kFast = 2e9;

struct Case {
  const char* name;
  std::vector<KnownRun> runs;
  int64_t prompt;
  double seconds_per_token, bytes_per_second;
  int64_t take, tier;
  const char* reason;  // a part of it
};

// 70 KB a token, 0.01 s to compute one: at 2 GB/s loading is 300 times sooner, at 1 MB/s 7 times later.
const Case kCases[] = {
    {"nothing known", {}, 1000, 0.01, kFast, 0, 0, "nothing of it is known"},
    {"all in memory", {{640, true}}, 1000, 0.01, kFast, 640, 0, "640 tokens taken from memory"},
    {"all on a fast disk", {{640, false}}, 1000, 0.01, kFast, 640, 640, "640 tokens loaded"},
    {"memory, then a fast disk", {{128, true}, {512, false}}, 1000, 0.01, kFast, 640, 512,
     "128 tokens taken from memory and 512 loaded"},
    {"memory, then a hopeless disk", {{128, true}, {512, false}}, 1000, 0.01, 2e5, 128, 0,
     "512 more known tokens are computed again"},
    {"a hopeless disk", {{640, false}}, 1000, 0.01, 2e5, 0, 0, "nothing taken; 640 more known"},
    {"a hopeless disk before much memory", {{64, false}, {9000, true}}, 10000, 0.01, 1e6, 9064, 64, "64 loaded"},
    {"compute rate unknown", {{128, true}, {512, false}}, 1000, 0, 1e6, 640, 512, "not known yet"},
    {"disk rate unknown: 100 MB/s assumed", {{6400, false}}, 10000, 0.01, 0, 6400, 6400, "6400 tokens loaded"},
    {"ends inside a block", {{100, true}, {50, false}}, 1000, 0.01, kFast, 150, 50, "100 tokens taken"},
    {"more known than asked", {{5000, true}}, 1000, 0.01, kFast, 1000, 0, "1000 tokens taken"},
};

LoadRequest Of(const Case& c) {
  return {.runs = c.runs,
          .prompt_tokens = c.prompt,
          .bytes_per_token = 70272,
          .layers = 61,
          .compute = {.seconds_per_token = c.seconds_per_token},
          .tier = {.bytes_per_second = c.bytes_per_second, .latency_seconds = 1e-4}};
}

TEST(LoadPlan, Table) {
  for (const Case& c : kCases) {
    const LoadPlan plan = PlanLoad(Of(c));
    EXPECT_EQ(plan.take_tokens, c.take) << c.name;
    EXPECT_EQ(plan.tier_tokens, c.tier) << c.name;
    EXPECT_EQ(plan.memory_tokens, c.take - c.tier) << c.name;
    EXPECT_NE(plan.reason.find(c.reason), std::string::npos) << c.name << ": " << plan.reason;
  }
}

TEST(LoadPlan, KnownLogitsAreWorthTheLastBlocks) {
  // The last blocks could be computed while the first are loaded, which would save a moment, and cost the first token.
  const std::vector<KnownRun> runs = {{4096, false}};
  LoadRequest request{.runs = runs,
                      .prompt_tokens = 4096,
                      .bytes_per_token = 31104,
                      .layers = 27,
                      .compute = {.seconds_per_token = 0.0026},
                      .tier = {.bytes_per_second = 1e8, .latency_seconds = 0.01}};
  EXPECT_LT(PlanLoad(request).take_tokens, 4096);
  request.logits_known = true;
  EXPECT_EQ(PlanLoad(request).take_tokens, 4096);
  request.tier.bytes_per_second = 2e5;  // computing all of it is far sooner
  EXPECT_EQ(PlanLoad(request).take_tokens, 0);
}

TEST(LoadPlan, AWholeLoadCostsWhatTheFormulaSays) {
  const std::vector<KnownRun> runs = {{1000, false}};
  LoadRequest request{.runs = runs,
                      .prompt_tokens = 3000,
                      .bytes_per_token = 1000,
                      .layers = 10,
                      .chunk_tokens = 500,
                      .compute = {.seconds_per_token = 0.01},
                      .tier = {.bytes_per_second = 1e6, .latency_seconds = 0.25, .queued_bytes = 5e5}};
  const LoadPlan plan = PlanLoad(request);
  EXPECT_EQ(plan.take_tokens, 1000);
  // wait 0.25 + 0.55; load 1.1; first 5: max(0.11 + 5, 1.1 + 0.5) = 5.11; rest 15.
  EXPECT_NEAR(plan.seconds, 0.8 + 5.11 + 15, 1e-9);
  EXPECT_NEAR(plan.recompute_seconds, 30, 1e-9);
  request.chunk_tokens = 0;
  EXPECT_NEAR(PlanLoad(request).seconds, 0.8 + 1.1 + 20, 1e-9);
}

// Attention makes late tokens dear. A disk slower than computing early tokens and with overlap to hide a part of the
// load is used for a part of what it holds.
TEST(LoadPlan, ASlowDiskIsUsedInPart) {
  const std::vector<KnownRun> runs = {{512, false}};
  LoadRequest request{.runs = runs,
                      .prompt_tokens = 600,
                      .bytes_per_token = 1000,
                      .layers = 30,
                      .chunk_tokens = 1 << 20,
                      .compute = {.seconds_per_token = 0.01},
                      .tier = {.bytes_per_second = 1.1e5}};  // 0.01 s a token
  const LoadPlan plan = PlanLoad(request);
  EXPECT_GT(plan.take_tokens, 64);
  EXPECT_LT(plan.take_tokens, 512);
  EXPECT_LT(plan.seconds, 0.6 * plan.recompute_seconds);
  EXPECT_NE(plan.reason.find("more known tokens are computed again"), std::string::npos) << plan.reason;
}

TEST(LoadPlan, AnOldVerdictIsProbedWithinATwentieth) {
  const std::vector<KnownRun> runs = {{6400, false}};
  LoadRequest request{.runs = runs,
                      .prompt_tokens = 10000,
                      .bytes_per_token = 70272,
                      .layers = 61,
                      .chunk_tokens = 0,
                      .compute = {.seconds_per_token = 0.01},
                      .tier = {.bytes_per_second = 2e6, .age_seconds = 10}};
  EXPECT_EQ(PlanLoad(request).take_tokens, 0);
  request.tier.age_seconds = 1000;
  const LoadPlan probe = PlanLoad(request);
  EXPECT_EQ(probe.take_tokens, 64);
  EXPECT_LE(probe.seconds, 1.05 * probe.recompute_seconds);
  EXPECT_NE(probe.reason.find("to measure"), std::string::npos) << probe.reason;
  request.prompt_tokens = 70;  // a block would cost three times the prompt
  EXPECT_EQ(PlanLoad(request).take_tokens, 0);
  // Never measured, and computing is sooner than 100 MB/s: likewise.
  request.prompt_tokens = 20000;
  request.compute.seconds_per_token = 1e-4;
  request.tier = {};
  EXPECT_EQ(PlanLoad(request).take_tokens, 64);
}

TEST(LoadPlan, NeverSlowerThanRecomputingNorThanAnySimpleChoice) {
  std::mt19937 random(42);
  auto uniform = [&](double low, double high) { return std::uniform_real_distribution<double>(low, high)(random); };
  auto magnitude = [&](double low, double high) { return std::exp(uniform(std::log(low), std::log(high))); };
  for (int round = 0; round < 5000; ++round) {
    std::vector<KnownRun> runs(random() % 5);
    int64_t known = 0;
    for (KnownRun& run : runs) {
      run = {.tokens = static_cast<int64_t>(random() % 2000), .in_memory = random() % 2 == 0};
      known += run.tokens;
    }
    LoadRequest request{.runs = runs,
                        .prompt_tokens = static_cast<int64_t>(1 + random() % 8000),
                        .bytes_per_token = static_cast<int64_t>(magnitude(100, 1e6)),
                        .layers = static_cast<int64_t>(1 + random() % 80),
                        .chunk_tokens = static_cast<int64_t>(random() % 3 * 512),
                        .compute = {.seconds_per_token = magnitude(1e-5, 1),
                                    .seconds_per_token_position = random() % 2 == 0 ? 0 : magnitude(1e-9, 1e-4)},
                        .tier = {.bytes_per_second = magnitude(1e5, 1e10), .latency_seconds = uniform(0, 0.1)}};
    const LoadPlan plan = PlanLoad(request);
    const int64_t usable = std::min(known, request.prompt_tokens);
    ASSERT_EQ(plan.known_tokens, usable);
    ASSERT_LE(plan.take_tokens, usable);
    ASSERT_EQ(plan.take_tokens, plan.memory_tokens + plan.tier_tokens);
    ASSERT_LE(plan.seconds, plan.recompute_seconds * (1 + 1e-12));
    // What is in memory at the beginning is always taken, and a load that pays is taken with it.
    int64_t leading = runs.empty() || !runs[0].in_memory ? 0 : std::min(runs[0].tokens, usable);
    ASSERT_GE(plan.take_tokens, leading);
    ASSERT_LE(plan.seconds, request.compute.Seconds(leading, request.prompt_tokens) * (1 + 1e-12));
    double bytes = 0;
    for (int64_t at = 0; const KnownRun& run : runs) {
      const int64_t end = std::min(at + run.tokens, usable);
      if (!run.in_memory) bytes += static_cast<double>((end - at) * request.bytes_per_token);
      at = end;
    }
    const double everything = (bytes > 0 ? request.tier.latency_seconds : 0) +
                              1.1 * bytes / request.tier.bytes_per_second +
                              request.compute.Seconds(usable, request.prompt_tokens);
    ASSERT_LE(plan.seconds, everything / 0.95 * (1 + 1e-12));
  }
}

}  // namespace
}  // namespace fathom
