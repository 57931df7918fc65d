#include "model/rope.h"

#include <gtest/gtest.h>

#include <cmath>

namespace fathom {
namespace {

RopeConfig Yarn(float mscale, float mscale_all_dim) {
  return {.theta = 10000, .dim = 64, .scaling = RopeScaling::kYarn, .factor = 40,
          .original_max_position_embeddings = 4096, .mscale = mscale, .mscale_all_dim = mscale_all_dim};
}

// DeepSeek-V3's published model.py: 192^-0.5 * (0.1 * mscale * ln 40 + 1)^2; V2 and V2-Lite have mscale 0.707.
TEST(Rope, DeepseekSoftmaxScale) {
  EXPECT_NEAR(RopeTable(Yarn(1.0f, 1.0f), true).softmax_factor(), std::pow(0.1 * std::log(40.0) + 1, 2), 1e-5);
  EXPECT_NEAR(RopeTable(Yarn(0.707f, 0.707f), true).softmax_factor(), std::pow(0.0707 * std::log(40.0) + 1, 2), 1e-5);
}

TEST(Rope, MagnitudeCancelsWhenBothMscalesAreEqual) {
  EXPECT_FLOAT_EQ(RopeTable(Yarn(0.707f, 0.707f), true).magnitude(), 1.0f);
  // Configs without mscale_all_dim scale cos and sin instead (yarn_get_mscale(factor, 0) is 1).
  const RopeTable old_style(Yarn(1.0f, 0.0f), true);
  EXPECT_NEAR(old_style.magnitude(), 0.1 * std::log(40.0) + 1, 1e-5);
  EXPECT_FLOAT_EQ(old_style.softmax_factor(), 1.0f);
}

TEST(Rope, YarnKeepsHighFrequenciesAndDividesLowOnes) {
  const RopeTable table(Yarn(1, 1), true);
  EXPECT_FLOAT_EQ(table.frequencies()[0], 1.0f);
  EXPECT_NEAR(table.frequencies()[31], std::pow(10000.0, -62.0 / 64) / 40, 1e-9);
  // The blend is part of the table, so position 1 of a short prompt feels it too.
  EXPECT_LT(table.frequencies()[16], std::pow(10000.0, -32.0 / 64));
}

TEST(Rope, Llama3AndFileFactors) {
  const RopeConfig config{.theta = 500000, .dim = 128, .scaling = RopeScaling::kLlama3, .factor = 8,
                          .original_max_position_embeddings = 8192, .low_freq_factor = 1, .high_freq_factor = 4};
  const RopeTable table(config, false);
  EXPECT_FLOAT_EQ(table.frequencies()[0], 1.0f);
  EXPECT_NEAR(table.frequencies()[63], std::pow(500000.0, -126.0 / 128) / 8, 1e-10);
  RopeConfig with_factors{.theta = 10000, .dim = 4, .freq_factors = {1, 8}};
  EXPECT_NEAR(RopeTable(with_factors, false).frequencies()[1], 0.01 / 8, 1e-8);
}

TEST(Rope, FillGivesUnitVectorsTimesMagnitude) {
  const RopeTable table({.theta = 10000, .dim = 8}, false);
  float cos[4], sin[4];
  table.Fill(123, cos, sin);
  EXPECT_NEAR(cos[1], std::cos(12.3), 1e-5);
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(cos[i] * cos[i] + sin[i] * sin[i], 1, 1e-5);
}

}  // namespace
}  // namespace fathom
