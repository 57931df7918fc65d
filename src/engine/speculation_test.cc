#include "engine/speculation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "engine/prompt_lookup.h"
#include "engine/sequence_drafts.h"

namespace fathom {
namespace {

using testing::ElementsAre;

std::vector<TokenId> Guess(const std::vector<TokenId>& tokens, int64_t most, int64_t* matched = nullptr) {
  PromptLookup lookup;
  lookup.Extend(tokens);
  std::vector<TokenId> out;
  const int64_t found = lookup.Propose(tokens, most, out);
  if (matched != nullptr) *matched = found;
  return out;
}

TEST(PromptLookup, WhatFollowedTheLongestMatch) {
  int64_t matched = 0;
  // 2 3 4 stood twice before; the earlier place has 1 before it too.
  EXPECT_THAT(Guess({1, 2, 3, 4, 50, 51, 9, 2, 3, 4, 60, 61, 1, 2, 3, 4}, 2, &matched), ElementsAre(50, 51));
  EXPECT_EQ(matched, 4);
  // Equally long ones: the later.
  EXPECT_THAT(Guess({7, 2, 3, 4, 50, 51, 9, 2, 3, 4, 60, 61, 1, 2, 3, 4}, 2, &matched), ElementsAre(60, 61));
  EXPECT_EQ(matched, 3);
}

TEST(PromptLookup, NothingWithoutThreeTokensInCommon) {
  int64_t matched = 9;
  EXPECT_THAT(Guess({1, 2, 3, 4, 5, 9, 3, 4}, 4, &matched), ElementsAre());
  EXPECT_EQ(matched, 0);
  EXPECT_THAT(Guess({}, 4), ElementsAre());
  EXPECT_THAT(Guess({1}, 4), ElementsAre());
  EXPECT_THAT(Guess({1, 2, 3, 1, 2, 3}, 0), ElementsAre());
}

TEST(PromptLookup, ALoopGoesOnWithItself) {
  EXPECT_THAT(Guess({5, 1, 2, 1, 2, 1, 2, 1}, 5), ElementsAre(2, 1, 2, 1, 2));
  EXPECT_THAT(Guess({3, 3, 3, 3, 3}, 3), ElementsAre(3, 3, 3));
}

TEST(PromptLookup, GrowingGivesWhatStartingAnewGives) {
  std::mt19937 random(3);
  for (int alphabet : {2, 4, 20}) {
    std::vector<TokenId> tokens, grown, fresh;
    PromptLookup lookup;
    for (int i = 0; i < 400; ++i) {
      tokens.push_back(static_cast<TokenId>(random() % static_cast<unsigned>(alphabet)));
      lookup.Extend(tokens);
      const int64_t a = lookup.Propose(tokens, 6, grown);
      int64_t b = 0;
      fresh = Guess(tokens, 6, &b);
      ASSERT_EQ(a, b);
      ASSERT_EQ(grown, fresh);
      // A match is one: the naive search finds it too, unless it is among too many places.
      int64_t longest = 0;
      for (int64_t at = 0; at + 1 < static_cast<int64_t>(tokens.size()); ++at) {
        int64_t n = 0;
        while (n <= at && n < PromptLookup::kMostMatch && tokens[at - n] == tokens[tokens.size() - 1 - n]) ++n;
        longest = std::max(longest, n);
      }
      if (longest < PromptLookup::kLeastMatch) longest = 0;
      if (alphabet == 20) {
        ASSERT_EQ(a, longest) << i;
      }
      ASSERT_LE(a, longest);
    }
  }
}

TEST(Acceptance, FollowsWhatHappensAndStartsFromItsParent) {
  Acceptance all, one(&all);
  const double assumed = one.Probability(Drafter::kLookup, 3);
  for (int i = 0; i < 20; ++i) one.Add(Drafter::kLookup, 3, 4, 4);
  EXPECT_GT(one.Probability(Drafter::kLookup, 3), 0.95);
  EXPECT_EQ(all.Probability(Drafter::kLookup, 3), assumed);
  EXPECT_EQ(one.Probability(Drafter::kLookup, 2), all.Probability(Drafter::kLookup, 2));  // other classes, other drafters
  EXPECT_EQ(one.Probability(Drafter::kMtp, 3), all.Probability(Drafter::kMtp, 3));
  for (int i = 0; i < 60; ++i) one.Add(Drafter::kLookup, 3, 4, 0);
  EXPECT_LT(one.Probability(Drafter::kLookup, 3), 0.1);
  for (int i = 0; i < 60; ++i) all.Add(Drafter::kLookup, 5, 4, 0);
  EXPECT_LT(one.Probability(Drafter::kLookup, 5), 0.1);  // what is known of all counts where nothing is known of one
}

TEST(StepCosts, BetweenAndBeyondWhatWasMeasured) {
  StepCosts costs;
  EXPECT_EQ(costs.Seconds(1), 0);
  costs.Add(1, 0.1);
  EXPECT_DOUBLE_EQ(costs.Seconds(1), 0.1);
  EXPECT_GT(costs.Seconds(3), 0.11);  // assumed
  costs.Add(5, 0.2);
  EXPECT_DOUBLE_EQ(costs.Seconds(3), 0.15);
  EXPECT_DOUBLE_EQ(costs.Seconds(9), 0.3);
  for (int i = 0; i < 50; ++i) costs.Add(1, 0.12);
  EXPECT_NEAR(costs.Seconds(1), 0.12, 1e-3);
  costs.Add(1, 100);  // the machine was asleep
  EXPECT_LT(costs.Seconds(1), 0.15);
  costs.Add(0, 1), costs.Add(1000, 1), costs.Add(3, -1), costs.Add(3, 0);
  EXPECT_DOUBLE_EQ(costs.Seconds(3), (costs.Seconds(1) + 0.2) / 2);
}

// A machine on which a row more costs `slope` of a step of one.
DraftPlanner Measured(double slope) {
  DraftPlanner planner;
  for (int64_t rows = 1; rows <= 64; ++rows) planner.AddStep(rows, rows, 1 + slope * static_cast<double>(rows - 1));
  return planner;
}

DraftOffer Offer(double probability, int64_t most) {
  return {.drafter = Drafter::kLookup, .draft_class = 3, .probability = probability, .most = most};
}

TEST(DraftPlanner, NothingBeforeAPlainStepWasMeasured) {
  DraftPlanner planner;
  const DraftOffer offer = Offer(0.99, 8);
  EXPECT_THAT(planner.Plan({.answers = 1, .most_rows = 8}, {&offer, 1}), ElementsAre(0));
}

TEST(DraftPlanner, MoreRowsTheCheaperAndTheSurerTheyAre) {
  const auto rows = [](double slope, double probability) {
    DraftPlanner planner = Measured(slope);
    const DraftOffer offer = Offer(probability, 16);
    return planner.Plan({.answers = 1, .most_rows = 100}, {&offer, 1}).front();
  };
  EXPECT_EQ(rows(0.01, 0.98), 16);
  EXPECT_EQ(rows(0.9, 0.5), 0);
  EXPECT_GT(rows(0.3, 0.95), rows(0.3, 0.7));
  EXPECT_GT(rows(0.1, 0.7), rows(0.3, 0.7));
  EXPECT_EQ(rows(0.3, 0.3), 0);  // 1.3 tokens for 1.3 times the time
  // By hand: rows k give (1 - p^(k+1)) / (1 - p) tokens for 1 + 0.3 k.
  int64_t best = 0;
  double best_rate = 1, tokens = 1;
  for (int64_t k = 1; k <= 16; ++k) {
    tokens += std::pow(0.8, static_cast<double>(k));
    if (const double rate = tokens / (1 + 0.3 * static_cast<double>(k)); rate > best_rate) best_rate = rate, best = k;
  }
  EXPECT_EQ(rows(0.3, 0.8), best);
}

TEST(DraftPlanner, SharesRowsByProbabilityAndKeepsWithinTheStep) {
  DraftPlanner planner = Measured(0.05);
  const std::vector<DraftOffer> offers = {Offer(0.95, 4), Offer(0.5, 8), Offer(0.01, 8)};
  const auto rows = planner.Plan({.answers = 3, .most_rows = 100}, offers);
  EXPECT_EQ(rows[0], 4);
  EXPECT_GT(rows[1], 0);
  EXPECT_LT(rows[1], 8);
  EXPECT_EQ(rows[2], 0);
  EXPECT_THAT(planner.Plan({.answers = 3, .most_rows = 2}, offers), ElementsAre(2, 0, 0));
}

TEST(DraftPlanner, ReadsFromDiskThatOutweighItTurnItOff) {
  const DraftOffer offer = Offer(0.9, 8);
  DraftState state{.answers = 1, .most_rows = 100, .disk_bytes_per_row = 50e6, .disk_bytes_per_second = 1e9};
  EXPECT_GT(Measured(0.05).Plan(state, {&offer, 1}).front(), 0);  // 0.05 s beside a step of 1 s
  state.disk_bytes_per_row = 2e9;                                 // 2 s
  DraftPlanner planner = Measured(0.05);
  for (int i = 0; i < 3000; ++i) ASSERT_EQ(planner.Plan(state, {&offer, 1}).front(), 0);  // not even to find out
}

TEST(DraftPlanner, GuessingThatTakesLongIsCounted) {
  DraftPlanner planner = Measured(0.05);
  DraftOffer offer = Offer(0.8, 8);
  const int64_t free = planner.Plan({.answers = 1, .most_rows = 100}, {&offer, 1}).front();
  offer.seconds = 0.3;
  const int64_t dear = planner.Plan({.answers = 1, .most_rows = 100}, {&offer, 1}).front();
  EXPECT_GT(dear, 0);
  EXPECT_LT(dear, free);
  offer.seconds = 1;
  EXPECT_EQ(planner.Plan({.answers = 1, .most_rows = 100}, {&offer, 1}).front(), 0);
}

TEST(DraftPlanner, TriesAgainEverMoreSeldom) {
  DraftPlanner planner = Measured(1);
  const DraftOffer offer = Offer(0.5, 8);
  std::vector<int> tried;
  for (int i = 0; i < 4000; ++i) {
    const int64_t rows = planner.Plan({.answers = 1, .most_rows = 100}, {&offer, 1}).front();
    if (rows == 0) continue;
    EXPECT_LE(rows, 2);
    tried.push_back(i);
    planner.AddDraft(offer, rows, 0);
  }
  ASSERT_GE(tried.size(), 5u);
  EXPECT_LE(tried.size(), 14u);  // of 4000: what it may cost is within a hundredth
  EXPECT_GT(tried[4] - tried[3], tried[1] - tried[0]);
}

TEST(DraftPlanner, PlainStepsAreHadNowAndThen) {
  DraftPlanner planner = Measured(0.05);
  const DraftOffer offer = Offer(0.95, 8);
  int plain = 0;
  for (int i = 0; i < 650; ++i) {
    const int64_t rows = planner.Plan({.answers = 1, .most_rows = 100}, {&offer, 1}).front();
    plain += rows == 0;
    planner.AddStep(1, 1 + rows, 1 + 0.05 * static_cast<double>(rows));
  }
  EXPECT_EQ(plain, 10);
}

TEST(SequenceDrafts, CountsAndForgetsTheStep) {
  DraftPlanner planner = Measured(0.05);
  SequenceDrafts drafts(planner, SpeculationMode::kLookup);
  const std::vector<TokenId> tokens = {1, 2, 3, 4, 5, 6, 1, 2, 3};
  const auto offer = drafts.Offer(tokens, 10);
  ASSERT_TRUE(offer);
  std::vector<MtpDrafter::Job> jobs;
  drafts.Plan(3, jobs);
  EXPECT_TRUE(jobs.empty());
  EXPECT_TRUE(drafts.Take());
  EXPECT_THAT(std::vector(drafts.draft().begin(), drafts.draft().end()), ElementsAre(4, 5, 6));
  drafts.Settle(2);
  EXPECT_TRUE(drafts.draft().empty());
  drafts.Settle(2);
  EXPECT_EQ(drafts.drafted(), 3);
  EXPECT_EQ(drafts.accepted(), 2);
  SequenceDrafts off(planner, SpeculationMode::kOff);
  EXPECT_FALSE(off.Offer(tokens, 10));
}

TEST(Speculation, Names) {
  EXPECT_EQ(ParseSpeculationMode("auto"), SpeculationMode::kAuto);
  EXPECT_EQ(ParseSpeculationMode("mtp"), SpeculationMode::kMtp);
  EXPECT_EQ(ParseSpeculationMode("on"), std::nullopt);
  EXPECT_EQ(LookupClass(3), 0);
  EXPECT_EQ(LookupClass(32), kDraftClasses - 1);
}

}  // namespace
}  // namespace fathom
