// Measuring on files: what is read, what does not count, what is left behind. Rates themselves are the machine's.
#include "experts/io_measure.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <vector>

#include "experts/model_for_test.h"
#include "io/fault_env.h"
#include "io/page_cache.h"
#include "io/temp_folder_for_test.h"

namespace fathom {
namespace {

using Kind = ExpertModelForTest::Kind;

class IoMeasureTest : public testing::Test {
 protected:
  /// 8 layers of 64 experts of 90 KiB: 45 MiB, on the device and not in the page cache (false where it lives there).
  bool Make() {
    model_ = std::make_unique<ExpertModelForTest>(path_, Kind::kPerExpert, 8, 64);
    ::sync();
    return DropCached(path_, 0, model_->bytes()) && CachedBytes(path_).value_or(-1) == 0;
  }
  Result<IoMeasured> Measure() {
    FATHOM_TRY(const ExpertLayout layout, ExpertLayout::Create(*model_));
    return MeasureIo(layout, fault_);
  }

  const TempFolderForTest folder_;
  const std::string path_ = folder_ / "model";
  FaultEnv fault_;
  std::unique_ptr<ExpertModelForTest> model_;
};

TEST_F(IoMeasureTest, BothWaysAndThePageCacheLeftAsItWas) {
  if (!Make()) GTEST_SKIP() << "this file system lives in the page cache";
  const auto measured = Measure();
  ASSERT_TRUE(measured) << measured.error().message;
  EXPECT_EQ(measured->expert_bytes, int64_t{512} * 3 * 96 * 160 * 2);
  if (!measured->can_direct) GTEST_SKIP() << "this file system cannot read past the page cache";
  EXPECT_GT(measured->direct_rate, 0);
  EXPECT_GT(measured->cold_rate, 0);
  EXPECT_GT(measured->warm_rate, 0);
  EXPECT_LE(CachedBytes(path_).value_or(INT64_MAX), 16 * 4096);  // nothing but the last page and what lies around it
}

TEST_F(IoMeasureTest, WhatThePageCacheHoldsIsNotCold) {
  if (!Make()) GTEST_SKIP() << "this file system lives in the page cache";
  const auto file = fault_.OpenForReading(path_);
  ASSERT_TRUE(file);
  std::vector<std::byte> all(static_cast<size_t>(model_->bytes()));
  ASSERT_TRUE(ReadExactly(**file, path_, 0, all));
  const int64_t before = CachedBytes(path_).value_or(-1);
  const auto measured = Measure();
  ASSERT_TRUE(measured) << measured.error().message;
  if (!measured->can_direct) GTEST_SKIP() << "this file system cannot read past the page cache";
  EXPECT_GT(measured->direct_rate, 0);
  EXPECT_EQ(measured->cold_rate, 0);
  EXPECT_GT(measured->warm_rate, 0);
  // Somebody else's, and still there but for what the kernel itself took back meanwhile.
  EXPECT_GE(CachedBytes(path_).value_or(-1), before - 64 * 4096);
}

TEST_F(IoMeasureTest, TooLittleGivesNoRates) {
  model_ = std::make_unique<ExpertModelForTest>(path_, Kind::kStacks);
  ::sync();
  const auto measured = Measure();
  ASSERT_TRUE(measured) << measured.error().message;
  EXPECT_EQ(measured->direct_rate, 0);
  EXPECT_EQ(measured->cold_rate, 0);
  EXPECT_EQ(measured->warm_rate, 0);
  EXPECT_EQ(ChooseIo(*measured).why, measured->can_direct ? IoChoice::Why::kNotMeasured : IoChoice::Why::kNotDirect);
}

TEST_F(IoMeasureTest, ErrorsAreTold) {
  (void)Make();
  fault_.ChangeDirect([](DirectFaults& faults) { faults.reads_left = 3; });
  const auto failed = Measure();
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::kIo);
  EXPECT_NE(failed.error().message.find(path_), std::string::npos) << failed.error().message;
  fault_.faults.fail_open = true;
  EXPECT_EQ(Measure().error().code, ErrorCode::kIo);
}

// However slow: what had been begun is waited for, and nothing more is begun.
TEST_F(IoMeasureTest, ASlowDiskDoesNotMakeItLong) {
  (void)Make();
  fault_.ChangeDirect([](DirectFaults& faults) { faults.delay = std::chrono::milliseconds(40); });
  ASSERT_TRUE(Measure());
  EXPECT_LE(fault_.direct_counts().reads, 5 * 8 * 2);
}

}  // namespace
}  // namespace fathom
