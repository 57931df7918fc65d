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

TEST(Routing, TiesGoToTheLowestId) {
  EXPECT_THAT(RouteOne({.experts = 4, .top_k = 3}, {1, 1, 1, 1}).ids, ElementsAre(0, 1, 2));
}

}  // namespace
}  // namespace fathom
