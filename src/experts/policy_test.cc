// The policies by themselves and in the simulator.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "base/source_dir_for_test.h"
#include "experts/simulator.h"

namespace fathom {
namespace {

bool Always(ExpertId) { return true; }

RoutingTrace TraceOf(const ExpertGeometry& geometry, const std::vector<std::vector<uint16_t>>& tokens) {
  RoutingTrace trace{.geometry = geometry};
  for (const auto& token : tokens) {
    trace.ids.insert(trace.ids.end(), token.begin(), token.end());
    trace.passes.push_back(1);
  }
  return trace;
}

/// Choices with Zipf-like popularity, or uniform ones (skew 0).
RoutingTrace RandomTrace(const ExpertGeometry& geometry, int tokens, double skew, uint64_t seed) {
  RoutingTrace trace{.geometry = geometry};
  std::mt19937_64 random(seed);
  std::vector<double> weights;
  for (int e = 0; e < geometry.experts; ++e) weights.push_back(std::pow(e + 1.0, -skew));
  for (int t = 0; t < tokens; ++t) {
    for (int l = 0; l < geometry.layers; ++l) {
      auto left = weights;
      for (int k = 0; k < geometry.top_k; ++k) {
        const auto e = std::discrete_distribution<int>(left.begin(), left.end())(random);
        left[e] = 0;
        trace.ids.push_back(static_cast<uint16_t>((e * 7 + l * 3) % geometry.experts));
      }
    }
    trace.passes.push_back(1);
  }
  return trace;
}

class EveryExpertPolicy : public testing::TestWithParam<ExpertPolicyKind> {};
INSTANTIATE_TEST_SUITE_P(Experts, EveryExpertPolicy, testing::ValuesIn(kExpertPolicies), [](const auto& info) {
  std::string name(ExpertPolicyName(info.param));
  std::erase(name, '-');
  return name;
});

TEST_P(EveryExpertPolicy, OffersOnlyResidentsThatMayGo) {
  const ExpertGeometry geometry{2, 4, 2};
  auto policy = MakeExpertPolicy(GetParam(), geometry, 4);
  EXPECT_EQ(policy->Victim(Always), std::nullopt);
  policy->AtLayer(0);
  for (const ExpertId id : {0, 3, 5}) policy->Use(id), policy->Insert(id);
  policy->Use(7);  // not resident
  EXPECT_EQ(policy->Victim([](ExpertId id) { return id == 3; }), 3);
  EXPECT_EQ(policy->Victim([](ExpertId) { return false; }), std::nullopt);
  for (int left = 3; left > 0; --left) {
    const auto victim = policy->Victim(Always);
    ASSERT_TRUE(victim);
    EXPECT_TRUE(*victim == 0 || *victim == 3 || *victim == 5);
    policy->Remove(*victim);
  }
  EXPECT_EQ(policy->Victim(Always), std::nullopt);
}

// Whatever the policy: as many residents as slots, no more hits than Belady has, all hits when everything fits, and on
// uniform routing the hits that chance gives.
TEST_P(EveryExpertPolicy, StaysBelowBelady) {
  const ExpertGeometry geometry{4, 16, 3};
  for (const double skew : {0.0, 1.0}) {
    const RoutingTrace trace = RandomTrace(geometry, 400, skew, 5);
    for (const int64_t slots : {3, 12, 32, 63, 64}) {
      const auto report = SimulateExperts(trace, {.policy = GetParam(), .slots = slots});
      ASSERT_TRUE(report);
      const auto best = BeladyExperts(trace, slots);
      EXPECT_EQ(report->uses, 400 * 4 * 3);
      EXPECT_EQ(best.uses, report->uses);
      EXPECT_LE(report->hits, best.hits);
      EXPECT_EQ(best.first_uses, 64);
      if (slots == 64) {
        EXPECT_EQ(report->hits, report->uses - 64);
      }
      if (slots == 32 && skew == 0) {
        EXPECT_NEAR(report->hit_ratio(), 0.5, 0.06);
      }
    }
  }
}

TEST_P(EveryExpertPolicy, TakesPassesOfManyRows) {
  const ExpertGeometry geometry{1, 4, 1};
  auto policy = MakeExpertPolicy(GetParam(), geometry, 4);
  for (int pass = 0; pass < 3; ++pass) {
    policy->ExpectAll(0);
    policy->AtLayer(0);
    policy->UseOfMany(0, std::vector<float>{0.5f, 0.25f, 0.25f, 0}, 40);
    if (pass > 0) continue;
    for (const ExpertId id : {0, 1, 2}) policy->Insert(id);
  }
  for (int left = 3; left > 0; --left) {
    const auto victim = policy->Victim(Always);
    ASSERT_TRUE(victim);
    policy->Remove(*victim);
  }
  EXPECT_EQ(policy->Victim(Always), std::nullopt);
}

TEST_P(EveryExpertPolicy, HasNames) { EXPECT_EQ(ParseExpertPolicy(ExpertPolicyName(GetParam())), GetParam()); }

TEST(ExpertPolicy, RefusesAnUnknownName) { EXPECT_EQ(ParseExpertPolicy("best").error().code, ErrorCode::kInvalidArgument); }

TEST(ExpertPolicy, LruAndLfuDisagreeAsTheyShould) {
  const ExpertGeometry geometry{1, 4, 1};
  auto lru = MakeExpertPolicy(ExpertPolicyKind::kLru, geometry, 2);
  auto lfu = MakeExpertPolicy(ExpertPolicyKind::kLfu, geometry, 2);
  for (ExpertPolicy* policy : {lru.get(), lfu.get()}) {
    for (const ExpertId id : {1, 2}) policy->AtLayer(0), policy->Use(id), policy->Insert(id);
    for (const ExpertId id : {1, 1, 2}) policy->AtLayer(0), policy->Use(id);
  }
  EXPECT_EQ(lru->Victim(Always), 1);
  EXPECT_EQ(lfu->Victim(Always), 2);
}

// After a long prompt, what it used often is kept, whichever layer it is of.
TEST(PredictedPolicy, APassOfManyRowsCountsThem) {
  const ExpertGeometry geometry{3, 4, 1};
  auto policy = MakeExpertPolicy(ExpertPolicyKind::kPredicted, geometry, 6);
  const std::vector<std::vector<float>> shares = {{0.7f, 0.1f, 0.1f, 0.1f}, {0.05f, 0.05f, 0.8f, 0.1f}, {0.2f, 0.5f, 0.3f, 0}};
  policy->ExpectAll(0);
  for (int32_t layer = 0; layer < 3; ++layer) {
    policy->AtLayer(layer);
    policy->UseOfMany(layer, shares[layer], 500);
    for (int32_t e = 0; e < 4; ++e) policy->Insert(geometry.Id(layer, e));
  }
  std::vector<ExpertId> left;
  while (const auto victim = policy->Victim(Always)) {
    left.push_back(*victim);
    policy->Remove(*victim);
  }
  ASSERT_EQ(left.size(), 12u);
  EXPECT_EQ(left.front(), geometry.Id(2, 3));  // nobody chose it
  const std::vector<ExpertId> last(left.end() - 3, left.end());
  for (const ExpertId id : {geometry.Id(0, 0), geometry.Id(1, 2), geometry.Id(2, 1)})
    EXPECT_NE(std::find(last.begin(), last.end(), id), last.end()) << id;
  // One use by an answer weighs less than half of 500 rows.
  for (const ExpertId id : {geometry.Id(2, 0), geometry.Id(2, 1)}) policy->Insert(id);
  policy->AtLayer(0);
  policy->AtLayer(2);
  policy->Use(geometry.Id(2, 0));
  EXPECT_EQ(policy->Victim(Always), geometry.Id(2, 0));
}

TEST(PredictedPolicy, APassOfAllKeepsWhatIsStillToCome) {
  const ExpertGeometry geometry{4, 2, 1};
  std::vector<float> heat(8, 0.0f);
  heat[geometry.Id(0, 0)] = 0.9f;  // used in earlier runs
  auto policy = MakeExpertPolicy(ExpertPolicyKind::kPredicted, geometry, 6, heat);
  for (int32_t layer = 0; layer < 4; ++layer) policy->AtLayer(layer);
  policy->ExpectAll(0);  // the next pass
  policy->AtLayer(0);
  for (const ExpertId id : {geometry.Id(0, 0), geometry.Id(0, 1)}) policy->Use(id);
  policy->AtLayer(1);
  for (int32_t layer : {0, 2, 3}) policy->Insert(geometry.Id(layer, 0)), policy->Insert(geometry.Id(layer, 1));
  // First what is over and seldom used, whatever is hot; then what comes last; what comes next stays.
  std::vector<ExpertId> order;
  while (const auto victim = policy->Victim(Always)) {
    order.push_back(*victim);
    policy->Remove(*victim);
  }
  ASSERT_EQ(order.size(), 6u);
  EXPECT_EQ(order[0], geometry.Id(0, 1));
  EXPECT_EQ(geometry.LayerOf(order[4]), 2);
  EXPECT_EQ(geometry.LayerOf(order[5]), 2);
  // In a pass that is not one of all, nothing is known of what has not been used.
  for (const ExpertId id : {geometry.Id(0, 0), geometry.Id(2, 0)}) policy->Insert(id);
  policy->AtLayer(0);
  policy->AtLayer(1);
  EXPECT_EQ(policy->Victim(Always), geometry.Id(2, 0));
}

TEST(PredictedPolicy, KeepsWhatTheRouterNamedAndWhatComesSoon) {
  const ExpertGeometry geometry{4, 8, 1};
  auto policy = MakeExpertPolicy(ExpertPolicyKind::kPredicted, geometry, 4);
  policy->AtLayer(1);
  const ExpertId passed = geometry.Id(0, 3), soon = geometry.Id(2, 3), later = geometry.Id(3, 3);
  for (const ExpertId id : {passed, soon, later}) policy->Use(id), policy->Insert(id);
  EXPECT_EQ(policy->Victim(Always), passed);  // equal frequencies: its layer is farthest away
  policy->Predict(passed, 0.95);              // by the next pass's router
  EXPECT_EQ(policy->Victim(Always), later);
  // In a layer whose router has spoken, those it did not name go first.
  policy->Predict(geometry.Id(2, 5), 0.9);
  EXPECT_EQ(policy->Victim(Always), soon);
}

TEST(PredictedPolicy, LearnsFrequenciesAndForgetsThem) {
  const ExpertGeometry geometry{1, 3, 1};
  auto policy = MakeExpertPolicy(ExpertPolicyKind::kPredicted, geometry, 3);
  for (const ExpertId id : {0, 1}) policy->Insert(id);
  auto passes = [&](ExpertId id, int count) {
    while (count-- > 0) policy->AtLayer(0), policy->Use(id);
  };
  passes(0, 50);
  passes(1, 1);
  EXPECT_EQ(policy->Victim(Always), 1);
  passes(1, 400);
  EXPECT_EQ(policy->Victim(Always), 0);
  passes(1, 20000);  // the sums are scaled meanwhile
  passes(0, 100);
  EXPECT_EQ(policy->Victim(Always), 1);
}

TEST(PredictedPolicy, HeatOfEarlierRunsComesFirst) {
  const ExpertGeometry geometry{1, 4, 1};
  const std::vector<float> heat = {0.1f, 0.5f, 0.05f, 0.35f};
  auto policy = MakeExpertPolicy(ExpertPolicyKind::kPredicted, geometry, 4, heat);
  for (const ExpertId id : {0, 1, 2, 3}) policy->Insert(id);
  for (const ExpertId id : {2, 0, 3, 1}) {
    EXPECT_EQ(policy->Victim(Always), id);
    policy->Remove(id);
  }
}

TEST(ExpertSimulator, CountsByHand) {
  // Two slots, LRU: 0 miss, 1 miss, 0 hit, 2 miss (1 goes), 1 miss, 2 hit. MIN: 1 stays for its use, so 0 goes.
  const RoutingTrace trace = TraceOf({1, 4, 1}, {{0}, {1}, {0}, {2}, {1}, {2}});
  const auto lru = SimulateExperts(trace, {.policy = ExpertPolicyKind::kLru, .slots = 2});
  ASSERT_TRUE(lru);
  EXPECT_EQ(lru->uses, 6);
  EXPECT_EQ(lru->hits, 2);
  EXPECT_EQ(lru->first_uses, 3);
  EXPECT_EQ(BeladyExperts(trace, 2).hits, 3);
  const auto warm = SimulateExperts(trace, {.policy = ExpertPolicyKind::kLru, .slots = 2, .warm_passes = 2});
  EXPECT_EQ(warm->uses, 4);
  EXPECT_EQ(warm->hits, 2);
  EXPECT_EQ(HeatOf(trace, 4), (std::vector<float>{0.5f, 0.25f, 0.25f, 0}));
}

TEST(ExpertSimulator, APassUsesAnExpertOnceForAllItsTokens) {
  RoutingTrace trace = TraceOf({1, 4, 2}, {{0, 1}, {1, 2}, {0, 2}});
  trace.passes = {3};
  EXPECT_EQ(SimulateExperts(trace, {.slots = 3})->uses, 3);
  EXPECT_EQ(SimulateExperts(trace, {.slots = 2}).error().code, ErrorCode::kInvalidArgument);
}

TEST(ExpertSimulator, HeatAndPredictionsHelp) {
  const ExpertGeometry geometry{8, 32, 4};
  const RoutingTrace trace = RandomTrace(geometry, 300, 0.8, 9);
  const auto heat = HeatOf(trace, 300);
  const auto hits = [&](const ExpertSimulatorOptions& options) { return SimulateExperts(trace, options)->hits; };
  const int64_t plain = hits({.slots = 64});
  EXPECT_GT(hits({.slots = 64, .heat = heat}), plain);
  EXPECT_GT(hits({.slots = 64, .prediction = 0.9}), plain);
}

// The recorded traces: the policy that is the default must be worth it.
TEST(ExpertSimulator, RecordedTraces) {
  const char* given = std::getenv("FATHOM_SHARED_DATA");
  const std::filesystem::path folder =
      (given != nullptr ? std::filesystem::path(given) : std::filesystem::path(SourceDirForTest()) / "../shared/data") /
      "trace/moe_routing";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is not there (set FATHOM_SHARED_DATA)";
  for (const char* name : {"trace_olmoe_299.jsonl", "trace_kimi_300.jsonl"}) {
    const auto trace = ReadRoutingTrace(Env::Default(), folder / name);
    ASSERT_TRUE(trace) << trace.error().message;
    EXPECT_EQ(trace->geometry.top_k, 8);
    for (const double share : {0.25, 0.5}) {
      const auto slots = static_cast<int64_t>(share * trace->geometry.count());
      const auto lru = SimulateExperts(*trace, {.policy = ExpertPolicyKind::kLru, .slots = slots, .warm_passes = 100});
      const auto predicted = SimulateExperts(*trace, {.slots = slots, .warm_passes = 100});
      EXPECT_GT(predicted->hits, lru->hits) << name << " " << share;
      EXPECT_LE(predicted->hits, BeladyExperts(*trace, slots, 100).hits);
    }
  }
}

}  // namespace
}  // namespace fathom
