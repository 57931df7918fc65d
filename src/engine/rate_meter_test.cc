#include "engine/rate_meter.h"

#include <gtest/gtest.h>

#include <random>

namespace fathom {
namespace {

StepSample PromptStep(int64_t rows, int64_t begin, double seconds) {
  return {0, rows, static_cast<double>(rows) * (static_cast<double>(begin) + static_cast<double>(rows - 1) / 2), seconds};
}

TEST(RateMeter, NothingIsKnownAtFirst) {
  RateMeter meter;
  EXPECT_EQ(meter.prefill().seconds_per_token, 0);
  EXPECT_EQ(meter.decode_seconds(4), 0);
  EXPECT_EQ(meter.prefill_row_seconds(), 0);
  EXPECT_EQ(meter.prefill_rate(), 0);
  EXPECT_EQ(meter.decode_rate(), 0);
  meter.Add({0, 0, 0, 0});
  meter.Add({1, 0, 0, -5});
  EXPECT_EQ(meter.decode_seconds(1), 0);
}

TEST(RateMeter, FindsBothCoefficientsThroughNoise) {
  const double a = 2e-3, b = 3e-7;
  std::mt19937 random(5);
  std::uniform_real_distribution<double> noise(0.95, 1.05);
  RateMeter meter;
  for (int i = 0; i < 200; ++i) {
    const int64_t rows = 64 + static_cast<int64_t>(random() % 448), begin = static_cast<int64_t>(random() % 16000);
    ComputeRates truth{a, b};
    meter.Add(PromptStep(rows, begin, truth.Seconds(begin, begin + rows) * noise(random)));
  }
  EXPECT_NEAR(meter.prefill().seconds_per_token, a, 0.1 * a);
  EXPECT_NEAR(meter.prefill().seconds_per_token_position, b, 0.1 * b);
  EXPECT_NEAR(meter.prefill().Seconds(0, 16384), ComputeRates({a, b}).Seconds(0, 16384), 0.05 * 73);
}

TEST(RateMeter, OnePositionIsNotMistakenForASlope) {
  RateMeter meter;
  for (int i = 0; i < 10; ++i) meter.Add(PromptStep(100, 0, 0.2));
  EXPECT_NEAR(meter.prefill().Seconds(0, 100), 0.2, 1e-6);
  EXPECT_GE(meter.prefill().seconds_per_token, 0);
  EXPECT_GE(meter.prefill().seconds_per_token_position, 0);
}

TEST(RateMeter, CoefficientsAreNeverNegative) {
  RateMeter meter;
  for (int i = 0; i < 20; ++i) {  // later positions cheaper: nonsense, as a warming machine gives it
    meter.Add(PromptStep(100, i * 100, 0.5 / (1 + i)));
    EXPECT_GE(meter.prefill().seconds_per_token, 0);
    EXPECT_GE(meter.prefill().seconds_per_token_position, 0);
  }
}

TEST(RateMeter, SmallStepsSayNothingAboutPrompts) {
  RateMeter meter;
  meter.Add(PromptStep(3, 0, 1.0));
  EXPECT_EQ(meter.prefill().seconds_per_token, 0);
}

TEST(RateMeter, DecodeStepsByTheirSize) {
  RateMeter meter;
  for (int i = 0; i < 30; ++i) {
    meter.Add({1, 0, 0, 0.010});
    meter.Add({8, 0, 0, 0.030});
  }
  EXPECT_NEAR(meter.decode_seconds(1), 0.010, 1e-6);
  EXPECT_NEAR(meter.decode_seconds(9), 0.030, 1e-6);
  EXPECT_NEAR(meter.decode_seconds(100), 0.030, 1e-6);  // the nearest known
  EXPECT_NEAR(meter.decode_seconds(2), 0.010, 1e-6);
  meter.Add({1, 0, 0, 5.0});  // the machine slept: one outlier counts for little
  EXPECT_LT(meter.decode_seconds(1), 0.016);
}

TEST(RateMeter, AsksForStepsOfAnswersAlone) {
  RateMeter meter;
  EXPECT_FALSE(meter.WantsDecodeStep(0));
  EXPECT_TRUE(meter.WantsDecodeStep(4));
  meter.Add({4, 0, 0, 0.02});
  EXPECT_FALSE(meter.WantsDecodeStep(4));
  EXPECT_TRUE(meter.WantsDecodeStep(1));  // another size
  for (int i = 0; i < 8; ++i) meter.Add({4, 16, 800, 0.04});
  EXPECT_TRUE(meter.WantsDecodeStep(4));
  for (int i = 0; i < 100; ++i) meter.Add({4, 0, 0, 0.02});
  for (int i = 0; i < 255; ++i) meter.Add({4, 16, 800, 0.04});
  EXPECT_FALSE(meter.WantsDecodeStep(4));
  meter.Add({4, 16, 800, 0.04});
  EXPECT_TRUE(meter.WantsDecodeStep(4));
}

TEST(RateMeter, WhatAPromptAddsToAStepOfAnswers) {
  RateMeter meter;
  for (int i = 0; i < 30; ++i) meter.Add({4, 0, 0, 0.020});
  for (int i = 0; i < 30; ++i) meter.Add({4, 16, 800, 0.020 + 16 * 0.003});
  EXPECT_NEAR(meter.prefill_row_seconds(), 0.003, 1e-5);
  EXPECT_NEAR(meter.prefill().Seconds(0, 10), 0.03, 1e-4);  // better than nothing
  for (int i = 0; i < 30; ++i) meter.Add({4, 16, 800, 0.015});  // faster than without: noise, but never nothing
  EXPECT_GT(meter.prefill_row_seconds(), 0);
}

TEST(RateMeter, ManyRowsCostLessEachThanFew) {
  RateMeter meter;
  for (int i = 0; i < 30; ++i) meter.Add({8, 0, 0, 0.2});
  for (int i = 0; i < 30; ++i) meter.Add({8, 4, 800, 0.2 + 4 * 0.030});
  EXPECT_NEAR(meter.prefill_row_seconds(), 0.030, 1e-4);
  EXPECT_EQ(meter.many_rows_seconds(), 0);
  for (int i = 0; i < 30; ++i) meter.Add({8, 32, 800, 0.2 + 32 * 0.015});
  EXPECT_NEAR(meter.prefill_row_seconds(), 0.030, 1e-4);
  EXPECT_NEAR(meter.many_rows_seconds(), 0.015, 1e-4);
}

TEST(RateMeter, APromptBesideAnswersTakesLonger) {
  RateMeter meter;
  for (int i = 0; i < 30; ++i) meter.Add(PromptStep(512, 0, 512 * 0.008));
  for (int i = 0; i < 30; ++i) meter.Add({8, 0, 0, 0.2});
  for (int i = 0; i < 30; ++i) meter.Add({8, 4, 800, 0.2 + 4 * 0.030});  // 0.32 s for 4 rows
  EXPECT_NEAR(meter.prefill_beside(0).seconds_per_token, 0.008, 1e-4);
  EXPECT_NEAR(meter.prefill_beside(8).seconds_per_token, 0.32 / 4, 1e-3);
}

}  // namespace
}  // namespace fathom
