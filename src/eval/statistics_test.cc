#include "eval/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace fathom {
namespace {

TEST(WilsonInterval, TextbookValues) {
  // Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
  const Estimate a = WilsonInterval(81, 263);
  EXPECT_NEAR(a.value, 0.3080, 5e-5);
  EXPECT_NEAR(a.low, 0.2553, 5e-5);
  EXPECT_NEAR(a.high, 0.3662, 5e-5);
  const Estimate b = WilsonInterval(15, 148);
  EXPECT_NEAR(b.low, 0.0624, 5e-5);
  EXPECT_NEAR(b.high, 0.1605, 5e-5);
  const Estimate none = WilsonInterval(0, 20);
  EXPECT_EQ(none.low, 0);
  EXPECT_NEAR(none.high, 0.1611, 5e-5);
  const Estimate all = WilsonInterval(29, 29);
  EXPECT_NEAR(all.low, 0.8830, 5e-5);
  EXPECT_EQ(all.high, 1);
}

TEST(WilsonInterval, NothingKnownIsEverything) {
  const Estimate none = WilsonInterval(0, 0);
  EXPECT_EQ(none.low, 0);
  EXPECT_EQ(none.high, 1);
  EXPECT_EQ(none.n, 0);
}

TEST(MeanOfEstimates, OfOneIsItself) {
  const Estimate one = WilsonInterval(30, 40);
  const Estimate mean = MeanOfEstimates(std::vector{one, WilsonInterval(0, 0)});
  EXPECT_DOUBLE_EQ(mean.value, one.value);
  EXPECT_NEAR(mean.low, one.low, 1e-12);
  EXPECT_NEAR(mean.high, one.high, 1e-12);
  EXPECT_EQ(mean.n, 40);
}

TEST(MeanOfEstimates, ManyAreSurerThanOne) {
  std::vector<Estimate> parts(4, WilsonInterval(30, 60));
  const Estimate mean = MeanOfEstimates(parts);
  EXPECT_DOUBLE_EQ(mean.value, 0.5);
  EXPECT_NEAR(mean.high - mean.value, (parts[0].high - 0.5) / std::sqrt(4.0), 1e-12);
  // Close to the interval of all items together, as it must be for equal parts.
  EXPECT_NEAR(mean.high, WilsonInterval(120, 240).high, 0.002);
  EXPECT_EQ(MeanOfEstimates({}).n, 0);
}

}  // namespace
}  // namespace fathom
