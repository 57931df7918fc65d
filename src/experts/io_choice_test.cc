#include "experts/io_choice.h"

#include <gtest/gtest.h>

#include <limits>

namespace fathom {
namespace {

using Why = IoChoice::Why;
constexpr int64_t kGiB = int64_t{1} << 30;

/// 10 GiB of experts, 2 of them in slots; a disk of 2.5 GB/s.
IoMeasured With(int64_t cache_bytes) {
  return {.direct_rate = 2.5e9,
          .cold_rate = 1.25e9,
          .warm_rate = 6e9,
          .expert_bytes = 10 * kGiB,
          .slot_bytes = 2 * kGiB,
          .cache_bytes = cache_bytes};
}

TEST(IoChoice, WhereMemoryIsLeftThePageCacheWins) {
  const IoChoice choice = ChooseIo(With(20 * kGiB));
  EXPECT_FALSE(choice.direct);
  EXPECT_EQ(choice.why, Why::kMeasured);
  EXPECT_EQ(choice.held_share, 1);
  EXPECT_DOUBLE_EQ(choice.buffered_rate, 6e9);
}

TEST(IoChoice, WhereNoneIsLeftDirectReadsWin) {
  for (const int64_t bytes : {int64_t{0}, int64_t{-5}, 1 * kGiB, 2 * kGiB, std::numeric_limits<int64_t>::min()}) {
    const IoChoice choice = ChooseIo(With(bytes));
    EXPECT_TRUE(choice.direct) << bytes;
    EXPECT_EQ(choice.held_share, 0) << bytes;
    EXPECT_DOUBLE_EQ(choice.buffered_rate, 1.25e9) << bytes;
  }
}

TEST(IoChoice, CopiesOfWhatSlotsHoldAreNotCounted) {
  // 6 GiB, of which 2 hold again what slots hold: half of the missing 8.
  const IoChoice choice = ChooseIo(With(6 * kGiB));
  EXPECT_DOUBLE_EQ(choice.held_share, 0.5);
  EXPECT_DOUBLE_EQ(choice.buffered_rate, 1 / (0.5 / 6e9 + 0.5 / 1.25e9));
  EXPECT_TRUE(choice.direct);  // 2.07 GB/s
}

TEST(IoChoice, OnlyWhenClearlySooner) {
  IoMeasured measured = With(20 * kGiB);
  measured.warm_rate = 1.09 * measured.direct_rate;
  EXPECT_TRUE(ChooseIo(measured).direct);
  measured.warm_rate = 1.11 * measured.direct_rate;
  EXPECT_FALSE(ChooseIo(measured).direct);
}

// A device that is as fast through the page cache as past it, and little memory: the margin keeps it direct.
TEST(IoChoice, AlikeIsDirect) {
  IoMeasured measured = With(0);
  measured.cold_rate = measured.direct_rate;
  EXPECT_TRUE(ChooseIo(measured).direct);
}

TEST(IoChoice, WithoutAColdFigureHalfTheDirectOneStandsForIt) {
  IoMeasured measured = With(6 * kGiB);
  measured.cold_rate = 0;
  const IoChoice choice = ChooseIo(measured);
  EXPECT_EQ(choice.why, Why::kMeasured);
  EXPECT_DOUBLE_EQ(choice.buffered_rate, 1 / (0.5 / 6e9 + 0.5 / 1.25e9));
  EXPECT_NE(IoLine(choice).find("1.25 GB/s cold (taken as half)"), std::string::npos) << IoLine(choice);
}

TEST(IoChoice, WithoutRatesDirect) {
  for (auto rate : {&IoMeasured::direct_rate, &IoMeasured::warm_rate}) {
    for (const double value : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN()}) {
      IoMeasured measured = With(20 * kGiB);
      measured.*rate = value;
      const IoChoice choice = ChooseIo(measured);
      EXPECT_TRUE(choice.direct);
      EXPECT_EQ(choice.why, Why::kNotMeasured);
      EXPECT_EQ(IoLine(choice), "experts are read past the page cache: too little could be read to compare");
    }
  }
}

TEST(IoChoice, SlotsForAllNeedNoPageCache) {
  IoMeasured measured = With(100 * kGiB);
  measured.slot_bytes = measured.expert_bytes;
  EXPECT_TRUE(ChooseIo(measured).direct);
  EXPECT_EQ(ChooseIo(measured).why, Why::kAllFit);
  measured.slot_bytes += 4096;  // slots are rounded up
  EXPECT_EQ(ChooseIo(measured).why, Why::kAllFit);
}

TEST(IoChoice, AFileSystemThatCannot) {
  IoMeasured measured = With(0);
  measured.can_direct = false;
  EXPECT_FALSE(ChooseIo(measured).direct);
  EXPECT_EQ(ChooseIo(measured).why, Why::kNotDirect);
  for (const IoChoice& choice : {IoChoice{.asked = ExpertIo::kDirect, .direct = false},
                                 IoChoice{.direct = false, .why = Why::kPromise}, ChooseIo(measured)})
    EXPECT_EQ(IoLine(choice), "experts are read through the page cache: the file system cannot read past it");
}

TEST(IoChoice, InWords) {
  EXPECT_EQ(IoLine(ChooseIo(With(6 * kGiB))),
            "experts are read past the page cache: 2.50 GB/s past it; through it 1.25 GB/s cold, 6.00 GB/s held already, and it "
            "can hold 50 % of what has no slot: 2.07 GB/s");
  EXPECT_EQ(IoLine({.asked = ExpertIo::kBuffered, .direct = false}), "experts are read through the page cache: --io buffered");
  EXPECT_EQ(IoLine({.asked = ExpertIo::kDirect}), "experts are read past the page cache: --io direct");
  EXPECT_EQ(IoLine({.why = Why::kPromise}), "experts are read past the page cache: --memory counts it");
}

TEST(IoChoice, Names) {
  for (const ExpertIo io : {ExpertIo::kAuto, ExpertIo::kDirect, ExpertIo::kBuffered}) EXPECT_EQ(ParseExpertIo(ExpertIoName(io)), io);
  EXPECT_FALSE(ParseExpertIo("mmap"));
  EXPECT_FALSE(ParseExpertIo(""));
}

}  // namespace
}  // namespace fathom
