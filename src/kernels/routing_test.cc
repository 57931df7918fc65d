#include "kernels/routing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

namespace fathom {
namespace {

using testing::ElementsAre;

float Logit(float p) { return std::log(p / (1 - p)); }

struct Routed {
  std::vector<int32_t> ids;
  std::vector<float> weights;
};
Routed RouteOne(const RoutingParams& params, std::vector<float> logits, const std::vector<float>& bias = {}) {
  Routed out{std::vector<int32_t>(params.top_k), std::vector<float>(params.top_k)};
  RouteToken(params, logits.data(), bias.empty() ? nullptr : bias.data(), out.ids.data(), out.weights.data());
  return out;
}

TEST(Routing, SoftmaxGreedyIsNotRenormalised) {
  const auto out = RouteOne({.experts = 4, .top_k = 2, .routed_scaling_factor = 2.0f}, {0, std::log(2.f), 0, std::log(4.f)});
  EXPECT_THAT(out.ids, ElementsAre(3, 1));
  EXPECT_NEAR(out.weights[0], 2.0f * 4 / 8, 1e-6);
  EXPECT_NEAR(out.weights[1], 2.0f * 2 / 8, 1e-6);
}

TEST(Routing, BiasMovesTheChoiceButNotTheWeight) {
  const RoutingParams params{.experts = 3, .top_k = 1, .sigmoid = true};
  const auto out = RouteOne(params, {Logit(0.9f), Logit(0.5f), Logit(0.1f)}, {0, 0.6f, 0});
  EXPECT_THAT(out.ids, ElementsAre(1));
  EXPECT_NEAR(out.weights[0], 0.5f, 1e-6);
}

TEST(Routing, RenormalisesAndScales) {
  const RoutingParams params{
      .experts = 4, .top_k = 2, .sigmoid = true, .norm_topk_prob = true, .routed_scaling_factor = 2.5f};
  const auto out = RouteOne(params, {Logit(0.8f), Logit(0.2f), Logit(0.1f), Logit(0.1f)});
  EXPECT_NEAR(out.weights[0], 2.5f * 0.8f, 1e-5);
  EXPECT_NEAR(out.weights[1], 2.5f * 0.2f, 1e-5);
}

TEST(Routing, GroupScoreIsTheBestOrTheSumOfTwo) {
  // Group 0 has the single best expert, group 1 the better pair.
  const std::vector<float> logits = {Logit(0.9f), Logit(0.1f), Logit(0.7f), Logit(0.6f)};
  RoutingParams params{.experts = 4, .top_k = 2, .n_group = 2, .topk_group = 1, .sigmoid = true};
  EXPECT_THAT(RouteOne(params, logits).ids, ElementsAre(0, 1));
  params.group_score_top2 = true;
  EXPECT_THAT(RouteOne(params, logits).ids, ElementsAre(2, 3));
}

TEST(Routing, ExcludedGroupsStayOutWhenAllScoresAreNegative) {
  // Masking with 0.0 instead of -inf would choose the excluded group (see architecture notes on transformers).
  const RoutingParams params{
      .experts = 4, .top_k = 2, .n_group = 2, .topk_group = 1, .sigmoid = true, .group_score_top2 = true};
  const auto out = RouteOne(params, {Logit(0.3f), Logit(0.2f), Logit(0.6f), Logit(0.5f)}, {-2, -2, -2, -2});
  EXPECT_THAT(out.ids, ElementsAre(2, 3));
}

TEST(Routing, NanLogitsStillGiveDistinctValidExperts) {
  const auto out = RouteOne({.experts = 5, .top_k = 3}, std::vector<float>(5, NAN));
  const std::set<int32_t> distinct(out.ids.begin(), out.ids.end());
  EXPECT_EQ(distinct.size(), 3u);
  EXPECT_LT(*distinct.rbegin(), 5);
}

Routed RoutePreferring(const RoutingParams& params, std::vector<float> logits, const std::vector<uint8_t>& preferred,
                       float strength, const std::vector<float>& bias = {}) {
  Routed out{std::vector<int32_t>(params.top_k), std::vector<float>(params.top_k)};
  RouteToken(params, logits.data(), bias.empty() ? nullptr : bias.data(), out.ids.data(), out.weights.data(),
             {.preferred = preferred.data(), .strength = strength});
  return out;
}

TEST(Routing, PreferenceMovesTheChoiceByItsShareOfTheRangeAndNotTheWeights) {
  // Range 4: expert 1 lies 1 behind expert 0, a quarter of it.
  const std::vector<float> logits = {3, 2, 0, -1};
  const std::vector<uint8_t> preferred = {0, 1, 0, 1};
  for (const bool sigmoid : {false, true}) {
    const RoutingParams params{.experts = 4, .top_k = 2, .sigmoid = sigmoid, .routed_scaling_factor = 2};
    const auto plain = RouteOne(params, logits);
    EXPECT_THAT(plain.ids, ElementsAre(0, 1));
    EXPECT_THAT(RoutePreferring(params, logits, preferred, 0.24f).ids, ElementsAre(0, 1));
    const auto moved = RoutePreferring(params, logits, preferred, 0.26f);
    EXPECT_THAT(moved.ids, ElementsAre(1, 0));
    EXPECT_EQ(moved.weights[0], plain.weights[1]);
    EXPECT_EQ(moved.weights[1], plain.weights[0]);
    EXPECT_THAT(RoutePreferring(params, logits, preferred, 0.74f).ids, ElementsAre(1, 0));
    EXPECT_THAT(RoutePreferring(params, logits, preferred, 1.01f).ids, ElementsAre(1, 3));
  }
}

TEST(Routing, PreferenceIsOneOfSeveralVoices) {
  // The gate's own bias counts on top of it, and groups are chosen by what both make of the scores.
  const RoutingParams one{.experts = 3, .top_k = 1, .sigmoid = true};
  const std::vector<float> logits = {Logit(0.9f), Logit(0.5f), Logit(0.1f)};
  EXPECT_THAT(RoutePreferring(one, logits, {0, 0, 1}, 0.3f, {0, 0.6f, 0}).ids, ElementsAre(1));
  EXPECT_THAT(RoutePreferring(one, logits, {0, 0, 1}, 1.5f, {0, 0.6f, 0.5f}).ids, ElementsAre(2));
  const RoutingParams groups{.experts = 4, .top_k = 2, .n_group = 2, .topk_group = 1};
  EXPECT_THAT(RoutePreferring(groups, {2, 1, 1.5f, 0}, {0, 0, 0, 0}, 0.5f).ids, ElementsAre(0, 1));
  EXPECT_THAT(RoutePreferring(groups, {2, 1, 1.5f, 0}, {0, 0, 1, 0}, 0.5f).ids, ElementsAre(2, 3));
}

TEST(Routing, NoPreferenceIsTheSameToTheBit) {
  std::vector<float> logits(64);
  for (int t = 0; t < 50; ++t) {
    for (int e = 0; e < 64; ++e) logits[e] = std::sin(static_cast<float>(t * 64 + e)) * 3;
    for (const bool sigmoid : {false, true}) {
      const RoutingParams params{.experts = 64, .top_k = 6, .n_group = 8, .topk_group = 3, .sigmoid = sigmoid,
                                 .norm_topk_prob = sigmoid};
      const auto plain = RouteOne(params, logits);
      for (const auto& same : {RoutePreferring(params, logits, std::vector<uint8_t>(64, 1), 0),
                               RoutePreferring(params, logits, std::vector<uint8_t>(64, 0), 0.5f)}) {
        EXPECT_EQ(same.ids, plain.ids);
        EXPECT_EQ(same.weights, plain.weights);
      }
    }
  }
  const auto endless = RoutePreferring({.experts = 3, .top_k = 1}, {INFINITY, 0, 1}, {0, 1, 0}, 0.5f);
  EXPECT_LT(endless.ids[0], 3);  // prefers nobody, and stays in range
}

TEST(Routing, TokensThatUseSoManyExperts) {
  EXPECT_EQ(TokensThatUse(0.9, 64, 6), 24);
  EXPECT_EQ(TokensThatUse(0.9, 256, 8), 73);
  EXPECT_EQ(TokensThatUse(0.5, 4, 2), 1);
  EXPECT_EQ(TokensThatUse(0.9, 4, 4), 1);
}

TEST(Routing, TiesGoToTheLowestId) {
  EXPECT_THAT(RouteOne({.experts = 4, .top_k = 3}, {1, 1, 1, 1}).ids, ElementsAre(0, 1, 2));
}

}  // namespace
}  // namespace fathom
