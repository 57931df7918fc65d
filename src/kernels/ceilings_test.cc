#include "kernels/ceilings.h"

#include <gtest/gtest.h>

#include "kernels/cpu/kernel_table.h"

namespace fathom {
namespace {

// Only bounds that every machine keeps: the numbers themselves are the machine's.
TEST(Ceilings, AreOfThisCentury) {
  ThreadPool pool(2);
  const auto bandwidth = MeasureReadBandwidth(pool, int64_t{64} << 20);
  ASSERT_TRUE(bandwidth);
  EXPECT_GT(*bandwidth, 1e7);
  EXPECT_LT(*bandwidth, 1e13);
  for (double peak : {MeasureInt8Peak(pool), MeasureF32Peak(pool)}) {
    EXPECT_GT(peak, 1e7);
    EXPECT_LT(peak, 1e14);
  }
  EXPECT_EQ(MeasureBf16Peak(pool) > 0, ActiveKernels().bf16_peak != nullptr);
}

TEST(Ceilings, RefuseAnEmptyBuffer) {
  ThreadPool pool(2);
  EXPECT_FALSE(MeasureReadBandwidth(pool, 100));
}

TEST(Ceilings, SlicesGoRoundTheBuffer) {
  ThreadPool pool(2);
  auto probe = ReadBandwidthProbe::Create(pool, int64_t{16} << 20);
  ASSERT_TRUE(probe);
  for (int i = 0; i < 20; ++i) {
    const double rate = i % 7 == 6 ? probe->Whole() : probe->Slice();
    EXPECT_GT(rate, 1e7);
    EXPECT_LT(rate, 1e13);
  }
}

}  // namespace
}  // namespace fathom
