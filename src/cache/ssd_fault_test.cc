// The SSD tier on a device that fails, tears, loses, slows down and hangs. Blocks read right or not at all.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "cache/byte_rate_meter.h"
#include "cache/ssd_tier_for_test.h"
#include "io/fault_env.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;

class SsdFaultTest : public ::testing::TestWithParam<bool> {  // encrypted?
 protected:
  SsdFaultTest() : tier_(env_, *io_, SpaceForTest()) {
    options_.directory = folder_ / "cache";
    options_.segment_bytes = 4096 + 8 * slot_bytes();
    options_.capacity_bytes = options_.segment_bytes;
    std::ofstream(folder_ / "key") << std::string(32, 'k');
    if (GetParam()) options_.key_file = folder_ / "key";
  }
  ~SsdFaultTest() override {
    Faults([](DirectFaults& faults) { faults = {}; });
  }
  static int64_t slot_bytes() { return 4096 + SpaceForTest().layout.block_bytes(); }
  void Faults(const std::function<void(DirectFaults&)>& change) { env_.ChangeDirect(change); }
  // Opens again on a device that is well and reads everything: seeds that are whole; a wrong block fails the test.
  std::set<uint64_t> Survivors() {
    tier_.Close();
    Faults([](DirectFaults& faults) { faults = {}; });
    auto status = tier_.Open(options_);
    EXPECT_TRUE(status) << status.error().message;
    std::set<uint64_t> whole;
    for (const StoredBlock& block : tier_.found) {
      auto same = tier_.Get(block.handle, block.meta.key.low, block.meta.count);
      if (!same) {
        EXPECT_EQ(same.error().code, ErrorCode::kCorrupt) << same.error().message;
        continue;
      }
      EXPECT_TRUE(*same) << "a wrong block";
      whole.insert(block.meta.key.low);
    }
    return whole;
  }

  const TempFolderForTest folder_{/*in_memory=*/true};
  FaultEnv env_;
  std::unique_ptr<AsyncIo> io_ = std::move(*AsyncIo::Create({}));
  SsdTierOptions options_;
  TierForTest tier_;
};

TEST_P(SsdFaultTest, APowerCutAtEveryFewBytesOfAWrite) {
  options_.segment_bytes = options_.capacity_bytes = 4096 + 3 * slot_bytes();
  const int64_t total = 4096 + SpaceForTest().layout.block_bytes() + 4096;  // freed header, rows, header
  int with_old = 0, with_new = 0;
  for (int64_t bytes = 0; bytes <= total; bytes += GetParam() ? 7 * 512 : 512) {
    tier_.Close();
    fs::remove_all(options_.directory);
    ASSERT_TRUE(tier_.Open(options_));
    ASSERT_TRUE(tier_.Put(1));
    auto old = tier_.Put(2);
    ASSERT_TRUE(tier_.Put(3));
    ASSERT_TRUE(tier_->Flush());
    ASSERT_TRUE(tier_->Erase(std::vector{*old}, false));
    Faults([&](DirectFaults& faults) { faults.write_budget = bytes, faults.silent = true; });
    ASSERT_TRUE(tier_.Put(4)) << "the device says that all is well";
    const auto whole = Survivors();
    EXPECT_TRUE(whole.contains(1) && whole.contains(3)) << bytes;
    EXPECT_FALSE(whole.contains(2) && whole.contains(4)) << bytes;
    with_old += whole.contains(2);
    with_new += whole.contains(4);
    EXPECT_EQ(whole.contains(4), bytes == total) << bytes;
    auto again = tier_.Put(5);
    if (whole.size() == 2 && again) {
      EXPECT_TRUE(tier_.Get(*again, 5).value());
    }
  }
  EXPECT_EQ(with_old, 1) << "only while nothing was written";
  EXPECT_EQ(with_new, 1);
}

TEST_P(SsdFaultTest, AnyOneWriteThatTheDeviceLoses) {
  options_.segment_bytes = options_.capacity_bytes = 4096 + 3 * slot_bytes();
  int64_t calls = 1;
  for (int64_t lost = 0; lost < calls; ++lost) {
    tier_.Close();
    fs::remove_all(options_.directory);
    ASSERT_TRUE(tier_.Open(options_));
    ASSERT_TRUE(tier_.Put(1));
    const int64_t first = env_.direct_counts().writes;
    Faults([&](DirectFaults& faults) { faults.drop_write = [=](int64_t call) { return call == first + lost; }; });
    auto a = tier_.Put(2), b = tier_.Put(3);
    ASSERT_TRUE(tier_->Erase(std::vector{*a}, false));
    ASSERT_TRUE(tier_.Put(4));
    ASSERT_TRUE(tier_->Erase(std::vector{*b}, true));
    ASSERT_TRUE(tier_.Put(5));
    ASSERT_TRUE(tier_->Flush());
    calls = env_.direct_counts().writes - first;
    const auto whole = Survivors();
    EXPECT_TRUE(whole.contains(1)) << lost;
    EXPECT_GE(whole.size(), 2u) << lost << ": one write is one block at most";
  }
  EXPECT_GT(calls, 10);
}

TEST_P(SsdFaultTest, WriteErrorsAreReportedAndTheirSlotLeftAlone) {
  ASSERT_TRUE(tier_.Open(options_));
  ASSERT_TRUE(tier_.Put(1));
  ASSERT_TRUE(tier_->Flush());
  for (int64_t good : {0, 1, 2}) {  // the freed header, the rows, the header fails
    Faults([&](DirectFaults& faults) { faults.writes_left = good; });
    auto failed = tier_.Put(10);
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, ErrorCode::kIo);
    Faults([](DirectFaults& faults) { faults = {}; });
  }
  EXPECT_EQ(tier_->stats().write_errors, 3);
  auto flushed = tier_->Flush();
  ASSERT_FALSE(flushed);
  EXPECT_EQ(flushed.error().code, ErrorCode::kIo);
  EXPECT_TRUE(tier_->Flush()) << "said once";
  for (uint64_t seed = 20; seed < 24; ++seed) ASSERT_TRUE(tier_.Put(seed));
  auto full = tier_.Put(30);
  ASSERT_FALSE(full) << "three of eight slots are not used any more";
  EXPECT_EQ(full.error().code, ErrorCode::kResource);
  EXPECT_EQ(Survivors(), (std::set<uint64_t>{1, 20, 21, 22, 23}));
  for (uint64_t seed = 30; seed < 33; ++seed) EXPECT_TRUE(tier_.Put(seed)) << "until the next opening";
}

TEST_P(SsdFaultTest, NoSpaceInTheMiddleOfAFile) {
  ASSERT_TRUE(tier_.Open(options_));
  ASSERT_TRUE(tier_.Put(1));
  Faults([](DirectFaults& faults) { faults.writes_left = 0, faults.write_error = ErrorCode::kResource; });
  EXPECT_EQ(tier_.Put(2).error().code, ErrorCode::kResource);
  Faults([](DirectFaults& faults) { faults = {}; });
  for (uint64_t seed = 2; seed < 9; ++seed) EXPECT_TRUE(tier_.Put(seed)) << "the slot is good";
}

TEST_P(SsdFaultTest, AFullDeviceIsAMissUntilThereIsRoom) {
  options_.capacity_bytes = 4 * options_.segment_bytes;
  ASSERT_TRUE(tier_.Open(options_));
  for (uint64_t seed = 0; seed < 8; ++seed) ASSERT_TRUE(tier_.Put(seed));
  Faults([](DirectFaults& faults) { faults.fail_allocate = true; });
  auto full = tier_.Put(8);
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, ErrorCode::kResource);
  EXPECT_EQ(std::distance(fs::recursive_directory_iterator(options_.directory), fs::recursive_directory_iterator()), 3)
      << "lock, folder, one segment; nothing half made";
  Faults([](DirectFaults& faults) { faults = {}; });
  std::this_thread::sleep_for(std::chrono::milliseconds(250));
  EXPECT_TRUE(tier_.Put(8));
  EXPECT_EQ(Survivors().size(), 9u);
}

TEST_P(SsdFaultTest, AFullDeviceTakesTheRoomOfOtherSpaces) {
  options_.capacity_bytes = 4 * options_.segment_bytes;
  TierForTest other(env_, *io_, SpaceForTest("other"));
  ASSERT_TRUE(other.Open(options_));
  ASSERT_TRUE(other.Put(1));
  other.Close();
  ASSERT_TRUE(tier_.Open(options_));
  Faults([](DirectFaults& faults) { faults.fail_allocate = true; });
  EXPECT_FALSE(tier_.Put(1));
  EXPECT_TRUE(fs::is_empty(options_.directory + "/" + ToHex(SpaceForTest("other").Digest())));
}

TEST_P(SsdFaultTest, ReadErrorsAreErrorsOfTheRead) {
  ASSERT_TRUE(tier_.Open(options_));
  auto handle = tier_.Put(1);
  Faults([](DirectFaults& faults) { faults.reads_left = 0; });
  auto failed = tier_.Get(*handle, 1);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::kIo);
  EXPECT_EQ(tier_->stats().read_errors, 1);
  Faults([](DirectFaults& faults) { faults = {}; });
  EXPECT_TRUE(tier_.Get(*handle, 1).value()) << "the block stays";
  // A byte that comes back flipped, in every layer and at the block's ends.
  const int64_t rows = 4096 + 8 * 4096, layer = SpaceForTest().layout.layer_bytes();
  for (int64_t at : {rows, rows + layer - 1, rows + layer, rows + 2 * layer + 77, rows + 3 * layer - 1}) {
    Faults([&](DirectFaults& faults) { faults.read_xor = {{at, 0x08}}; });
    auto flipped = tier_.Get(*handle, 1);
    ASSERT_FALSE(flipped) << at;
    EXPECT_EQ(flipped.error().code, ErrorCode::kCorrupt);
    EXPECT_NE(flipped.error().message.find("slot 0"), std::string::npos) << flipped.error().message;
  }
  EXPECT_EQ(tier_->stats().corrupt, 5);
}

TEST_P(SsdFaultTest, HeadersThatCannotBeReadAreLeftAlone) {
  ASSERT_TRUE(tier_.Open(options_));
  for (uint64_t seed = 0; seed < 8; ++seed) ASSERT_TRUE(tier_.Put(seed));
  tier_.Close();
  Faults([&](DirectFaults& faults) { faults.fail_reads_from = 4096 + 5 * 4096; });
  ASSERT_TRUE(tier_.Open(options_));
  EXPECT_EQ(tier_.found.size(), 5u);
  EXPECT_FALSE(tier_.Put(20)) << "no slot of those that cannot be read is written to";
  EXPECT_EQ(Survivors().size(), 8u);
  tier_.Close();
  Faults([](DirectFaults& faults) { faults.fail_reads_from = 0; });
  ASSERT_TRUE(tier_.Open(options_)) << "nothing can be read: an empty cache";
  EXPECT_TRUE(tier_.found.empty());
}

TEST_P(SsdFaultTest, SyncErrorsReachFlush) {
  ASSERT_TRUE(tier_.Open(options_));
  ASSERT_TRUE(tier_.Put(1));
  Faults([](DirectFaults& faults) { faults.fail_sync = true; });
  EXPECT_FALSE(tier_->Flush());
  Faults([](DirectFaults& faults) { faults = {}; });
  ASSERT_TRUE(tier_.Put(2));
  EXPECT_TRUE(tier_->Flush());
}

TEST_P(SsdFaultTest, WhatIsKeptIsSyncedByItself) {
  ASSERT_TRUE(tier_.Open(options_));
  ASSERT_TRUE(tier_.Put(1));
  const int64_t before = env_.direct_counts().syncs;
  for (int i = 0; i < 500 && env_.direct_counts().syncs == before; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_GT(env_.direct_counts().syncs, before);
}

TEST_P(SsdFaultTest, WipingFallsBackToPunchingAndElseIsAnError) {
  ASSERT_TRUE(tier_.Open(options_));
  auto a = tier_.Put(1), b = tier_.Put(2);
  ASSERT_TRUE(tier_->Flush());
  Faults([](DirectFaults& faults) { faults.writes_left = 0; });
  EXPECT_TRUE(tier_->Erase(std::vector{*a}, true));
  Faults([](DirectFaults& faults) { faults.fail_punch = true; });
  EXPECT_FALSE(tier_->Erase(std::vector{*b}, true));
  EXPECT_FALSE(tier_.Get(*b, 2)) << "forgotten here in any case";
  EXPECT_EQ(Survivors(), (std::set<uint64_t>{2})) << "but not on disk, which is why it was an error";
}

TEST_P(SsdFaultTest, WipingClearsFreeSlotsByWritingWhereHolesCannotBePunched) {
  ASSERT_TRUE(tier_.Open(options_));
  auto a = tier_.Put(1), b = tier_.Put(2);
  ASSERT_TRUE(tier_->Erase(std::vector{*a}, false));
  Faults([](DirectFaults& faults) { faults.fail_punch = true; });
  ASSERT_TRUE(tier_->Erase(std::vector{*b}, true));
  tier_.Close();
  for (const auto& entry : fs::recursive_directory_iterator(options_.directory)) {
    if (entry.path().extension() != ".seg") continue;
    std::ifstream in(entry.path(), std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(in), {}};
    EXPECT_EQ(bytes.find_first_not_of('\0', 4096), std::string::npos);
  }
}

TEST_P(SsdFaultTest, AHangingDeviceHoldsUpOnlyWhoWaitsForIt) {
  ASSERT_TRUE(tier_.Open(options_));
  auto one = tier_.Put(1), two = tier_.Put(2);
  Faults([](DirectFaults& faults) { faults.hang = true; });
  auto into = *tier_.pool().Take();
  auto read = tier_.GetLater(*one, MetaForTest(1), into, 0, 3);
  auto write = tier_.PutLater(3);
  EXPECT_EQ(tier_.Get(*one + (TierHandle{1} << 40), 1).error().code, ErrorCode::kNotFound) << "answered, though the device hangs";
  EXPECT_TRUE(tier_->Erase(std::vector{*two}, false));
  EXPECT_TRUE(tier_->Erase(std::vector{*one}, false)) << "while it is being read";
  EXPECT_EQ(tier_->stats().blocks, 0);
  EXPECT_EQ(read.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  EXPECT_EQ(write.wait_for(std::chrono::milliseconds(0)), std::future_status::timeout);
  Faults([](DirectFaults& faults) { faults.hang = false; });
  EXPECT_TRUE(read.get());
  EXPECT_TRUE(HoldsForTest(*into, SpaceForTest().layout, 1)) << "its slot was not written over while it was read";
  EXPECT_TRUE(write.get());
  EXPECT_TRUE(tier_->Flush());
}

TEST_P(SsdFaultTest, ASlowDeviceIsMeasured) {
  ASSERT_TRUE(tier_.Open(options_));
  auto handle = tier_.Put(1);
  Faults([](DirectFaults& faults) { faults.delay = std::chrono::milliseconds(20); });
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(tier_.Get(*handle, 1).value());
  EXPECT_GT(tier_->stats().read_bytes_per_second, 0);
  // The first read of a block takes 20 ms at least, so the rate tends to what that makes.
  ByteRateMeter meter;
  const auto start = ByteRateMeter::Clock::time_point();
  meter.Begin(start);
  meter.End(100 << 20, start + std::chrono::milliseconds(100));
  EXPECT_NEAR(meter.bytes_per_second(), 1000.0 * (1 << 20), 1);
  meter.Begin(start + std::chrono::seconds(10));
  meter.Begin(start + std::chrono::seconds(10));
  meter.End(640 << 20, start + std::chrono::milliseconds(10020));
  meter.End(640 << 20, start + std::chrono::milliseconds(22800));
  EXPECT_NEAR(meter.bytes_per_second(), 100.0 * (1 << 20), 1e6) << "time between does not count, bytes together do";
}

INSTANTIATE_TEST_SUITE_P(Ciphers, SsdFaultTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Encrypted" : "Plain"; });

}  // namespace
}  // namespace fathom
