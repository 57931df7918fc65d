#include "engine/memory_governor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace fathom {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr GovernorLimits kLimits = {.kv_least = 100 * kMiB, .kv_most = 1000 * kMiB, .kv_begin = 400 * kMiB, .step = 20 * kMiB};

/// Tells and moves as it is told.
int64_t Step(MemoryGovernor& governor, GovernorSample sample) {
  sample.seconds = 1;
  const int64_t bytes = governor.Decide(sample);
  governor.Moved(bytes);
  return bytes;
}

TEST(MemoryGovernor, UnusedMemoryIsLentAndComesBack) {
  MemoryGovernor governor(kLimits);
  for (int i = 0; i < 100; ++i) Step(governor, {.expert_gain = 1e-9, .kv_loss = 1e-9, .kv_used = 150 * kMiB});
  EXPECT_LE(governor.kv_bytes(), 190 * kMiB);
  EXPECT_GE(governor.kv_bytes(), 150 * kMiB);
  // It is used up: back to where it began, though experts would like it too.
  for (int i = 0; i < 100; ++i)
    Step(governor, {.expert_gain = 1e-9, .expert_loss = 1e-9, .kv_loss = 1e-9, .kv_used = governor.kv_bytes(),
                    .kv_let_go = kMiB});
  EXPECT_EQ(governor.kv_bytes(), kLimits.kv_begin);
}

TEST(MemoryGovernor, ExpertsThatDoNotWaitGetNothing) {
  MemoryGovernor governor(kLimits);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(Step(governor, {.kv_used = 10 * kMiB}), 0);
}

TEST(MemoryGovernor, GoesToTheGreaterGain) {
  MemoryGovernor governor(kLimits);
  GovernorSample sample{.expert_gain = 1e-10, .expert_loss = 1e-10, .kv_gain = 4e-10, .kv_loss = 4e-10, .kv_let_go = kMiB};
  for (int i = 0; i < 200; ++i) {
    sample.kv_used = governor.kv_bytes();
    Step(governor, sample);
  }
  EXPECT_EQ(governor.kv_bytes(), kLimits.kv_most);
  // The work changes.
  sample = {.expert_gain = 9e-10, .expert_loss = 9e-10, .kv_gain = 1e-11, .kv_loss = 1e-11};
  for (int i = 0; i < 200; ++i) {
    sample.kv_used = governor.kv_bytes();
    Step(governor, sample);
  }
  EXPECT_EQ(governor.kv_bytes(), kLimits.kv_least);
}

TEST(MemoryGovernor, StaysWhereBothAreWorthTheSame) {
  MemoryGovernor governor(kLimits);
  std::mt19937 random(3);
  std::normal_distribution<double> noise(1, 0.4);
  int moves = 0;
  for (int i = 0; i < 500; ++i) {
    const double expert = 1e-10 * std::abs(noise(random)), kv = 1e-10 * std::abs(noise(random));
    moves += Step(governor, {.expert_gain = expert, .expert_loss = expert, .kv_gain = kv, .kv_loss = kv,
                             .kv_used = governor.kv_bytes(), .kv_let_go = kMiB}) != 0;
  }
  EXPECT_LT(moves, 25);
}

TEST(MemoryGovernor, WaitsAfterATurn) {
  MemoryGovernor governor(kLimits);
  const auto to_kv = [&] {
    return GovernorSample{.kv_gain = 1e-9, .kv_loss = 1e-9, .kv_used = governor.kv_bytes(), .kv_let_go = kMiB};
  };
  const auto to_experts = [&] {
    return GovernorSample{.expert_gain = 1e-6, .expert_loss = 1e-6, .kv_used = governor.kv_bytes()};
  };
  while (Step(governor, to_kv()) == 0) {
  }
  int periods = 0;
  while (Step(governor, to_experts()) == 0) ++periods;
  EXPECT_GE(periods, MemoryGovernor::kPatience - 1);
  periods = 0;
  while (Step(governor, to_experts()) == 0) ++periods;
  EXPECT_GE(periods, MemoryGovernor::kCalm - 1);
}

TEST(MemoryGovernor, WhatCouldNotBeMovedIsNotCounted) {
  MemoryGovernor governor(kLimits);
  for (int i = 0; i < 20; ++i) {
    EXPECT_LE(governor.Decide({.seconds = 1, .expert_gain = 1e-9, .kv_used = 0}), 0);
    governor.Moved(0);
  }
  EXPECT_EQ(governor.kv_bytes(), kLimits.kv_begin);
}

TEST(MemoryGovernor, NeverLeavesItsLimits) {
  std::mt19937_64 random(5);
  std::uniform_real_distribution<double> any(0, 1);
  MemoryGovernor governor(kLimits);
  for (int i = 0; i < 5000; ++i) {
    const auto side = [&] { return any(random) < 0.3 ? 0 : std::pow(10, -12 + 6 * any(random)); };
    Step(governor, {.expert_gain = side(), .expert_loss = side(), .kv_gain = side(), .kv_loss = side(),
                    .kv_used = static_cast<int64_t>(any(random) * 1000) * kMiB,
                    .kv_let_go = any(random) < 0.5 ? kMiB : 0});
    ASSERT_GE(governor.kv_bytes(), kLimits.kv_least);
    ASSERT_LE(governor.kv_bytes(), kLimits.kv_most);
  }
}

}  // namespace
}  // namespace fathom
