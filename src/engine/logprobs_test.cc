#include "engine/logprobs.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace fathom {
namespace {

TEST(Logprobs, AreALogSoftmax) {
  const std::vector<float> logits = {1.0f, 2.0f, 0.5f, 2.0f};
  const double sum = std::exp(1.0) + 2 * std::exp(2.0) + std::exp(0.5);
  const double total = LogSumExp(logits);
  EXPECT_NEAR(total, std::log(sum), 1e-12);
  const auto top = TopLogprobs(logits, 3, total);
  ASSERT_EQ(top.size(), 3u);
  EXPECT_EQ(top[0].token, 1);  // of two equal ones the lower id
  EXPECT_EQ(top[1].token, 3);
  EXPECT_EQ(top[2].token, 0);
  EXPECT_NEAR(top[2].logprob, 1.0 - std::log(sum), 1e-6);
}

TEST(Logprobs, HugeLogitsAndWhatIsNoNumber) {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_NEAR(LogSumExp(std::vector<float>{1e30f, 1e30f}), 1e30, 1e24);
  EXPECT_NEAR(LogSumExp(std::vector<float>{nan, 3.0f, -infinity}), 3.0, 1e-12);
  EXPECT_EQ(LogSumExp(std::vector<float>{-infinity, -infinity}), -infinity);
  EXPECT_TRUE(TopLogprobs(std::vector<float>{nan, nan}, 2, 0).empty());
  EXPECT_EQ(TopLogprobs(std::vector<float>{nan, 3.0f}, 5, 3.0).size(), 1u);
  EXPECT_TRUE(TopLogprobs(std::vector<float>{1.0f}, 0, 1.0).empty());
}

}  // namespace
}  // namespace fathom
