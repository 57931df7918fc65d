#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <thread>

#include "cache/segment_format.h"
#include "cache/ssd_tier_for_test.h"
#include "io/fault_env.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;

struct Kind {
  bool uring, encrypted;
};

class SsdTierTest : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    io_ = std::move(*AsyncIo::Create({.allow_io_uring = GetParam().uring}));
    std::ofstream(folder_ / "key") << std::string(32, 'k');
    options_.directory = folder_ / "cache";
    options_.capacity_bytes = 64 << 20;
    options_.segment_bytes = 4096 + 8 * slot_bytes();  // eight blocks
    if (GetParam().encrypted) options_.key_file = folder_ / "key";
  }
  static int64_t block_bytes() { return SpaceForTest().layout.block_bytes(); }
  static int64_t slot_bytes() { return 4096 + block_bytes(); }
  // Where a file of eight blocks has them.
  static int64_t HeaderAt(int64_t slot) { return 4096 + slot * 4096; }
  static int64_t RowsAt(int64_t slot) { return 4096 + 8 * 4096 + slot * block_bytes(); }
  static std::string SpaceFolder(const std::string& directory, const KvSpace& space = SpaceForTest()) {
    return directory + "/" + ToHex(space.Digest());
  }
  std::vector<std::string> SegmentFiles(const KvSpace& space = SpaceForTest()) const {
    std::vector<std::string> files;
    const std::string folder = SpaceFolder(options_.directory, space);
    if (!fs::exists(folder)) return files;
    for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
  }
  static std::string ReadFile(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  static void Flip(const std::string& path, int64_t offset, char bits = 1) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(offset);
    const char old = static_cast<char>(file.get());
    file.seekp(offset);
    file.put(static_cast<char>(old ^ bits));
  }
  static const StoredBlock* FindSeed(const TierForTest& tier, uint64_t seed, int32_t count = 64) {
    for (const StoredBlock& block : tier.found) {
      if (block.meta.key == MetaForTest(seed, count).key) return &block;
    }
    return nullptr;
  }
  // Every found block reads back as what was put under its key, or is an error; returns how many are good.
  static int VerifyFound(TierForTest& tier, bool all_good = true) {
    int good = 0;
    for (const StoredBlock& block : tier.found) {
      auto same = tier.Get(block.handle, block.meta.key.low, block.meta.count);
      if (all_good) {
        EXPECT_TRUE(same) << same.error().message;
      }
      if (same) {
        EXPECT_TRUE(*same) << "a wrong block " << block.meta.key.low;
        ++good;
      }
    }
    return good;
  }

  // The kinds with io_uring on a disk, the others in memory, which is faster.
  const TempFolderForTest folder_{!GetParam().uring};
  std::unique_ptr<AsyncIo> io_;
  SsdTierOptions options_;
  FaultEnv faulty_;
};

TEST_P(SsdTierTest, BlocksComeBackAlsoAfterReopening) {
  TierForTest tier(Env::Default(), *io_, SpaceForTest());
  ASSERT_TRUE(tier.Open(options_));
  EXPECT_EQ(tier->name(), "ssd");
  EXPECT_EQ(tier->stored_block_bytes(), slot_bytes());
  std::map<uint64_t, TierHandle> handles;
  std::vector<std::future<Result<TierHandle>>> puts;
  for (uint64_t seed = 0; seed < 20; ++seed) puts.push_back(tier.PutLater(seed));
  for (uint64_t seed = 0; seed < 20; ++seed) {
    auto handle = puts[seed].get();
    ASSERT_TRUE(handle) << handle.error().message;
    handles[seed] = *handle;
  }
  for (const auto& [seed, handle] : handles) EXPECT_TRUE(tier.Get(handle, seed).value());
  ASSERT_TRUE(tier->Flush());
  auto stats = tier->stats();
  EXPECT_EQ(stats.blocks, 20);
  EXPECT_EQ(stats.used_bytes, 20 * slot_bytes());
  EXPECT_EQ(stats.writes, 20);
  EXPECT_EQ(stats.reads, 20);
  EXPECT_EQ(stats.read_bytes, 20 * SpaceForTest().layout.block_bytes());
  EXPECT_GT(stats.read_bytes_per_second, 0);
  EXPECT_GT(stats.write_bytes_per_second, 0);
  EXPECT_EQ(SegmentFiles().size(), 3u);

  const int64_t now = std::time(nullptr);
  ASSERT_TRUE(tier.Open(options_));
  ASSERT_EQ(tier.found.size(), 20u);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    EXPECT_TRUE(SameMeta(tier.found[seed].meta, MetaForTest(seed))) << "in the order of writing";
    EXPECT_NEAR(static_cast<double>(tier.found[seed].written_at), static_cast<double>(now), 60);
  }
  EXPECT_EQ(VerifyFound(tier), 20);
}

TEST_P(SsdTierTest, PartialBlocksAreStoredWithoutWhatStandsBehindThem) {
  TierForTest tier(Env::Default(), *io_, SpaceForTest());
  ASSERT_TRUE(tier.Open(options_));
  for (int32_t count : {1, 15, 16, 17, 63}) {
    auto handle = tier.Put(static_cast<uint64_t>(count), count);
    ASSERT_TRUE(handle);
    EXPECT_TRUE(tier.Get(*handle, static_cast<uint64_t>(count), count).value());
  }
  // Replaced by a longer one: put, then the old one erased.
  auto short_one = tier.Put(7, 20), long_one = tier.Put(7, 30);
  ASSERT_TRUE(tier->Erase(std::vector{*short_one}, false));
  EXPECT_EQ(tier.Get(*short_one, 7, 20).error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(tier.Get(*long_one, 7, 30).value());
  ASSERT_TRUE(tier->Flush());
  tier.Close();
  for (const std::string& file : SegmentFiles()) {
    EXPECT_EQ(ReadFile(file).find(std::string(64, '\xEE')), std::string::npos) << "rows beyond the count";
  }
  ASSERT_TRUE(tier.Open(options_));
  EXPECT_EQ(tier.found.size(), 6u);
  EXPECT_EQ(VerifyFound(tier), 6);
}

TEST_P(SsdTierTest, SomeLayersOfABlock) {
  TierForTest tier(Env::Default(), *io_, SpaceForTest("model", 70, 200));
  options_.segment_bytes = 5 << 20;
  ASSERT_TRUE(tier.Open(options_));
  const KvLayout layout = SpaceForTest("model", 70, 200).layout;
  for (int32_t count : {64, 5}) {
    auto handle = tier.Put(3, count);
    ASSERT_TRUE(handle) << handle.error().message;
    auto expected = tier.Block(3, count);
    for (const auto& [first, layers] : {std::pair<int64_t, int64_t>{0, 1}, {69, 1}, {5, 51}, {0, 70}}) {
      auto into = *tier.pool().Take();
      std::memset(into->data(), 0x77, static_cast<size_t>(layout.block_bytes()));
      auto status = tier.GetLater(*handle, MetaForTest(3, count), into, first, layers).get();
      ASSERT_TRUE(status) << status.error().message;
      for (int64_t layer = 0; layer < layout.layers; ++layer) {
        const bool wanted = layer >= first && layer < first + layers;
        const auto bytes = static_cast<size_t>(count * layout.row_bytes());
        EXPECT_EQ(std::memcmp(into->layer(layer), expected->layer(layer), bytes) == 0, wanted) << layer;
        if (!wanted) {
          EXPECT_EQ(into->layer(layer)[layout.layer_bytes() - 1], std::byte{0x77}) << "not touched";
        }
      }
    }
    auto into = *tier.pool().Take();
    for (const auto& [first, layers] : {std::pair<int64_t, int64_t>{-1, 2}, {0, 71}, {70, 1}, {0, 0}}) {
      EXPECT_EQ(tier.GetLater(*handle, MetaForTest(3, count), into, first, layers).get().error().code,
                ErrorCode::kInvalidArgument);
    }
  }
}

TEST_P(SsdTierTest, AnythingButTheExpectedBlockIsCorrupt) {
  TierForTest tier(Env::Default(), *io_, SpaceForTest());
  ASSERT_TRUE(tier.Open(options_));
  auto handle = tier.Put(1);
  ASSERT_TRUE(handle);
  BlockMeta other = MetaForTest(1);
  other.tokens[40] ^= 1;
  auto status = tier.GetLater(*handle, other, *tier.pool().Take(), 0, 3).get();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(tier->stats().corrupt, 1);
}

TEST_P(SsdTierTest, FullThenEvictedThenFullAgain) {
  options_.capacity_bytes = 4096 + 6 * slot_bytes();
  TierForTest tier(Env::Default(), *io_, SpaceForTest());
  ASSERT_TRUE(tier.Open(options_));
  std::vector<TierHandle> handles;
  for (uint64_t seed = 0; seed < 6; ++seed) handles.push_back(tier.Put(seed).value());
  auto full = tier.Put(6);
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, ErrorCode::kResource);
  for (uint64_t seed = 6; seed < 40; ++seed) {
    ASSERT_TRUE(tier->Erase(std::vector{handles[seed - 6]}, false));
    auto handle = tier.Put(seed);
    ASSERT_TRUE(handle) << seed << handle.error().message;
    EXPECT_NE(*handle, handles[seed - 6]);
    handles.push_back(*handle);
    EXPECT_FALSE(tier.Get(handles[seed - 6], seed - 6)) << "a handle that is not valid any more";
  }
  EXPECT_EQ(tier->stats().blocks, 6);
  EXPECT_TRUE(tier->Flush()) << "what found no room was not accepted";
  ASSERT_TRUE(tier.Open(options_));
  EXPECT_EQ(tier.found.size(), 6u);
  for (uint64_t seed = 34; seed < 40; ++seed) EXPECT_NE(FindSeed(tier, seed), nullptr);
  EXPECT_EQ(VerifyFound(tier), 6);
}

TEST_P(SsdTierTest, FreedSlotsAreFreeOnDiskAfterFlush) {
  TierForTest tier(Env::Default(), *io_, SpaceForTest());
  ASSERT_TRUE(tier.Open(options_));
  std::vector<TierHandle> handles;
  for (uint64_t seed = 0; seed < 5; ++seed) handles.push_back(tier.Put(seed).value());
  ASSERT_TRUE(tier->Erase(std::span(handles).first(3), false));
  ASSERT_TRUE(tier->Erase(std::span(handles).first(3), false)) << "not there any more: passed over";
  ASSERT_TRUE(tier->Flush());
  ASSERT_TRUE(tier.Open(options_));
  EXPECT_EQ(tier.found.size(), 2u);
}

TEST_P(SsdTierTest, PuttingAKeyAgainReplacesIt) {
  TierForTest tier(Env::Default(), *io_, SpaceForTest());
  ASSERT_TRUE(tier.Open(options_));
  auto first = tier.Put(1), second = tier.Put(1);
  EXPECT_FALSE(tier.Get(*first, 1));
  EXPECT_TRUE(tier.Get(*second, 1).value());
  EXPECT_EQ(tier->stats().blocks, 1);
  ASSERT_TRUE(tier.Open(options_));
  EXPECT_EQ(tier.found.size(), 1u);
}

TEST_P(SsdTierTest, WipingLeavesNothingOfIt) {
  TierForTest tier(Env::Default(), *io_, SpaceForTest());
  ASSERT_TRUE(tier.Open(options_));
  std::vector<TierHandle> handles;
  for (uint64_t seed = 0; seed < 6; ++seed) handles.push_back(tier.Put(seed).value());
  ASSERT_TRUE(tier->Flush());
  // A piece of each block's stored rows, as they stand in the file.
  const std::string before = ReadFile(SegmentFiles().at(0));
  const auto piece = [&](int64_t slot) {
    return before.substr(static_cast<size_t>(RowsAt(slot) + 20000), 64);
  };
  ASSERT_TRUE(tier->Erase(std::vector{handles[4]}, false));  // evicted: its rows stay, for now
  ASSERT_TRUE(tier->Erase(std::vector{handles[1], handles[2]}, true));
  const std::string after = ReadFile(SegmentFiles().at(0));
  for (int64_t slot : {1, 2, 4}) {
    EXPECT_NE(before.find(piece(slot)), std::string::npos);
    EXPECT_EQ(after.find(piece(slot)), std::string::npos) << slot;
    for (const auto& [begin, bytes] : {std::pair(HeaderAt(slot), int64_t{4096}), {RowsAt(slot), block_bytes()}}) {
      const std::string place = after.substr(static_cast<size_t>(begin), static_cast<size_t>(bytes));
      EXPECT_EQ(place.find_first_not_of('\0'), std::string::npos);
    }
  }
  for (int64_t slot : {0, 3, 5}) EXPECT_NE(after.find(piece(slot)), std::string::npos);
  EXPECT_FALSE(tier.Get(handles[1], 1));
  EXPECT_TRUE(tier.Get(handles[0], 0).value());
  EXPECT_TRUE(tier.Put(9).has_value()) << "its room is used again";
  ASSERT_TRUE(tier.Open(options_));
  EXPECT_EQ(tier.found.size(), 4u);
  EXPECT_EQ(VerifyFound(tier), 4);
}

TEST_P(SsdTierTest, TheQueueIsBounded) {
  options_.queue_bytes = 3 * SpaceForTest().layout.block_bytes();
  TierForTest tier(faulty_, *io_, SpaceForTest());
  ASSERT_TRUE(tier.Open(options_));
  ASSERT_TRUE(tier.Put(100));
  ASSERT_TRUE(tier->Flush());  // its write is not counted any more
  faulty_.ChangeDirect([](DirectFaults& faults) { faults.hang = true; });
  std::vector<std::future<Result<TierHandle>>> puts;
  for (uint64_t seed = 0; seed < 6; ++seed) puts.push_back(tier.PutLater(seed));
  for (size_t i = 3; i < 6; ++i) {
    auto refused = puts[i].get();  // at once, though the device hangs
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kResource);
  }
  EXPECT_EQ(tier->stats().dropped_writes, 3);
  EXPECT_EQ(tier->stats().queued_writes, 3);
  faulty_.ChangeDirect([](DirectFaults& faults) { faults.hang = false; });
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(puts[i].get());
  EXPECT_TRUE(tier->Flush());
}

TEST_P(SsdTierTest, ClosingCancelsWhatWaits) {
  TierForTest tier(faulty_, *io_, SpaceForTest());
  ASSERT_TRUE(tier.Open(options_));
  auto stored = tier.Put(50);
  ASSERT_TRUE(stored);
  faulty_.ChangeDirect([](DirectFaults& faults) { faults.hang = true; });
  std::vector<std::future<Result<TierHandle>>> puts;
  for (uint64_t seed = 0; seed < 12; ++seed) puts.push_back(tier.PutLater(seed));
  auto read = tier.GetLater(*stored, MetaForTest(50), *tier.pool().Take(), 0, 3);
  while (faulty_.direct_counts().waiting == 0) std::this_thread::yield();
  std::thread release([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    faulty_.ChangeDirect([](DirectFaults& faults) { faults.hang = false; });
  });
  tier.Close();
  release.join();
  EXPECT_TRUE(read.get());
  int stored_blocks = 0, cancelled = 0;
  for (auto& put : puts) {
    auto handle = put.get();
    handle ? ++stored_blocks : ++cancelled;
    if (!handle) {
      EXPECT_EQ(handle.error().code, ErrorCode::kCancelled);
    }
  }
  EXPECT_GT(cancelled, 0);
  ASSERT_TRUE(tier.Open(options_));
  EXPECT_EQ(tier.found.size(), static_cast<size_t>(stored_blocks) + 1);
}

// Damage to files.

TEST_P(SsdTierTest, AFlippedByteIsAMissNeverAnAnswer) {
  TierForTest tier(Env::Default(), *io_, SpaceForTest());
  std::string good;
  const auto build = [&](TierForTest& tier) {
    if (good.empty()) {
      EXPECT_TRUE(tier.Open(options_));
      for (uint64_t seed = 0; seed < 4; ++seed) EXPECT_TRUE(tier.Put(seed));
      tier.Close();
      good = ReadFile(SegmentFiles().at(0));
    }
    std::ofstream(SegmentFiles().at(0), std::ios::binary) << good;
  };
  // In slot 2: magic, version, space, sequence, count, a token, a checksum or tag, the header's end.
  for (int64_t at : {0, 8, 20, 32, 96, 148, 160, 420, 3000, 4095}) {
    build(tier);
    Flip(SegmentFiles().at(0), HeaderAt(2) + at);
    ASSERT_TRUE(tier.Open(options_));
    EXPECT_EQ(tier.found.size(), 3u) << at;
    EXPECT_EQ(FindSeed(tier, 2), nullptr);
    EXPECT_EQ(tier->stats().corrupt, 1);
    EXPECT_EQ(VerifyFound(tier), 3);
    EXPECT_TRUE(tier.Put(2)) << "healed: the slot is used again";
    tier.Close();
  }
  for (int64_t at : {int64_t{0}, int64_t{20000}, block_bytes() - 1}) {
    build(tier);
    Flip(SegmentFiles().at(0), RowsAt(2) + at, '\x80');
    ASSERT_TRUE(tier.Open(options_));
    EXPECT_EQ(tier.found.size(), 4u);
    auto read = tier.Get(FindSeed(tier, 2)->handle, 2);
    ASSERT_FALSE(read) << at;
    EXPECT_EQ(read.error().code, ErrorCode::kCorrupt);
    EXPECT_EQ(VerifyFound(tier, false), 3);
    EXPECT_EQ(tier->stats().corrupt, 2);
    ASSERT_TRUE(tier->Erase(std::vector{FindSeed(tier, 2)->handle}, false));
    EXPECT_TRUE(tier.Get(tier.Put(2).value(), 2).value());
    tier.Close();
  }
}

TEST_P(SsdTierTest, SegmentsCutShortAnywhere) {
  for (int64_t bytes : {int64_t{0}, int64_t{100}, int64_t{4096}, HeaderAt(1), HeaderAt(2) - 512, HeaderAt(7), RowsAt(0),
                        RowsAt(1) - 512, RowsAt(1), RowsAt(3) - 512, RowsAt(3), RowsAt(4) + 100}) {
    TierForTest tier(Env::Default(), *io_, SpaceForTest());
    fs::remove_all(options_.directory);
    ASSERT_TRUE(tier.Open(options_));
    for (uint64_t seed = 0; seed < 4; ++seed) ASSERT_TRUE(tier.Put(seed));
    ASSERT_TRUE(tier->Flush());
    tier.Close();
    fs::resize_file(SegmentFiles().at(0), static_cast<uintmax_t>(bytes));
    ASSERT_TRUE(tier.Open(options_));
    const int64_t whole = std::clamp<int64_t>((bytes - RowsAt(0)) / block_bytes(), 0, 4);
    // A block whose header survived is found; its lost rows are zeros, which do not verify.
    EXPECT_GE(static_cast<int64_t>(tier.found.size()), whole) << bytes;
    EXPECT_EQ(VerifyFound(tier, false), whole) << bytes;
    for (uint64_t seed = 10; seed < 14; ++seed) {
      auto handle = tier.Put(seed);
      ASSERT_TRUE(handle) << handle.error().message;
      EXPECT_TRUE(tier.Get(*handle, seed).value());
    }
  }
}

TEST_P(SsdTierTest, ADamagedSuperblockLosesItsFileOnly) {
  TierForTest tier(Env::Default(), *io_, SpaceForTest());
  options_.capacity_bytes = 2 * (4096 + 8 * slot_bytes());
  ASSERT_TRUE(tier.Open(options_));
  for (uint64_t seed = 0; seed < 10; ++seed) ASSERT_TRUE(tier.Put(seed));
  tier.Close();
  ASSERT_EQ(SegmentFiles().size(), 2u);
  for (int64_t at : {0, 9, 33, 70, 4090}) {
    Flip(SegmentFiles().at(0), at);
    ASSERT_TRUE(tier.Open(options_));
    EXPECT_EQ(tier.found.size(), 2u) << at;
    EXPECT_EQ(SegmentFiles().size(), 2u) << "nothing is removed";
    tier.Close();
    Flip(SegmentFiles().at(0), at);
    ASSERT_TRUE(tier.Open(options_));
    EXPECT_EQ(tier.found.size(), 10u);
    tier.Close();
  }
  Flip(SegmentFiles().at(0), 9);
  ASSERT_TRUE(tier.Open(options_));
  for (uint64_t seed = 20; seed < 34; ++seed) ASSERT_TRUE(tier.Put(seed)) << "its room is taken when it is needed";
  EXPECT_FALSE(tier.Put(40));
  EXPECT_EQ(VerifyFound(tier), 2);
}

TEST_P(SsdTierTest, ANewerVersionIsRefusedAndLeftAlone) {
  TierForTest tier(Env::Default(), *io_, SpaceForTest());
  ASSERT_TRUE(tier.Open(options_));
  ASSERT_TRUE(tier.Put(1));
  tier.Close();
  const std::string path = SegmentFiles().at(0);
  std::string bytes = ReadFile(path);
  bytes[8] = 3;
  const uint64_t sum = RowsChecksum(std::as_bytes(std::span(bytes)).first(4088));
  std::memcpy(bytes.data() + 4088, &sum, 8);
  std::ofstream(path, std::ios::binary) << bytes;
  auto status = tier.Open(options_);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(status.error().message.find("version 3"), std::string::npos) << status.error().message;
  EXPECT_EQ(ReadFile(path), bytes);
}

// As an older fathom made it: every header before its rows.
TEST_P(SsdTierTest, FilesOfVersion1AreUsedAsTheyAre) {
  TierForTest tier(Env::Default(), *io_, SpaceForTest());
  ASSERT_TRUE(tier.Open(options_));
  for (uint64_t seed = 0; seed < 6; ++seed) ASSERT_TRUE(tier.Put(seed, seed == 3 ? 20 : 64));
  tier.Close();
  const std::string path = SegmentFiles().at(0), bytes = ReadFile(path);
  const SegmentInfo now = *DecodeSuperblock(std::as_bytes(std::span(bytes)).first(4096));
  EXPECT_EQ(now.version, 2u);
  SegmentInfo then = now;
  then.version = 1;
  std::string old(static_cast<size_t>(then.file_bytes()), '\0');
  EncodeSuperblock(then, std::as_writable_bytes(std::span(old)).first(4096));
  const auto move = [&](int64_t from, int64_t to, int64_t count) {
    old.replace(static_cast<size_t>(to), static_cast<size_t>(count), bytes, static_cast<size_t>(from),
                static_cast<size_t>(count));
  };
  for (int64_t slot = 0; slot < now.slots; ++slot) {
    move(now.header_offset(slot), then.header_offset(slot), now.header_bytes());
    move(now.rows_offset(slot), then.rows_offset(slot), now.rows_bytes());
  }
  std::ofstream(path, std::ios::binary) << old;

  ASSERT_TRUE(tier.Open(options_));
  EXPECT_EQ(tier.found.size(), 6u);
  EXPECT_EQ(VerifyFound(tier), 6);
  ASSERT_TRUE(tier->Erase(std::vector{FindSeed(tier, 1)->handle}, false));
  ASSERT_TRUE(tier->Erase(std::vector{FindSeed(tier, 2)->handle}, true));
  for (uint64_t seed = 10; seed < 16; ++seed) ASSERT_TRUE(tier.Put(seed));  // four in its free slots, two in a new file
  tier.Close();
  EXPECT_EQ(SegmentFiles().size(), 2u);
  EXPECT_EQ(ReadFile(path).size(), old.size());
  ASSERT_TRUE(tier.Open(options_));
  EXPECT_EQ(tier.found.size(), 10u);
  EXPECT_EQ(VerifyFound(tier), 10);
  tier.Close();
  fs::resize_file(path, static_cast<uintmax_t>(then.header_offset(3) + 4096));
  ASSERT_TRUE(tier.Open(options_));
  EXPECT_EQ(VerifyFound(tier, false), 5) << "three whole slots of the first file, two in the other";
}

TEST_P(SsdTierTest, OpeningReadsManyHeadersWithOneRequest) {
  TierForTest tier(faulty_, *io_, SpaceForTest());
  options_.segment_bytes = 4096 + 300 * slot_bytes();
  ASSERT_TRUE(tier.Open(options_));
  for (uint64_t seed = 0; seed < 5; ++seed) ASSERT_TRUE(tier.Put(seed));
  tier.Close();
  const DirectCounts before = faulty_.direct_counts();
  ASSERT_TRUE(tier.Open(options_));
  EXPECT_EQ(tier.found.size(), 5u);
  const DirectCounts after = faulty_.direct_counts();
  EXPECT_EQ(after.reads - before.reads, 3) << "the superblock; 1 MiB of headers; the others";
  EXPECT_EQ(after.bytes_read - before.bytes_read, 4096 + 300 * 4096);
}

// Folders, spaces, keys.

TEST_P(SsdTierTest, OneProcessAtATime) {
  TierForTest tier(Env::Default(), *io_, SpaceForTest()), other(Env::Default(), *io_, SpaceForTest("other"));
  ASSERT_TRUE(tier.Open(options_));
  auto second = other.Open(options_);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find("in use by another fathom process"), std::string::npos);
  tier.Close();
  EXPECT_TRUE(other.Open(options_));
}

TEST_P(SsdTierTest, AForeignFolderIsLeftAlone) {
  fs::create_directories(options_.directory);
  std::ofstream(options_.directory + "/thesis.txt") << "text";
  TierForTest tier(Env::Default(), *io_, SpaceForTest());
  auto status = tier.Open(options_);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(std::distance(fs::directory_iterator(options_.directory), fs::directory_iterator()), 1);
}

TEST_P(SsdTierTest, OtherSpacesStayUntilTheirRoomIsNeeded) {
  const int64_t file = 4096 + 8 * slot_bytes();
  options_.capacity_bytes = 3 * file;
  TierForTest a(Env::Default(), *io_, SpaceForTest("a")), b(Env::Default(), *io_, SpaceForTest("b"));
  ASSERT_TRUE(a.Open(options_));
  for (uint64_t seed = 0; seed < 16; ++seed) ASSERT_TRUE(a.Put(seed));
  a.Close();
  // The first file of `a` is the older one.
  const auto files = SegmentFiles(SpaceForTest("a"));
  ASSERT_EQ(files.size(), 2u);
  fs::last_write_time(files[0], fs::last_write_time(files[1]) - std::chrono::hours(1));
  std::ofstream(SpaceFolder(options_.directory, SpaceForTest("a")) + "/notes.txt") << "mine";
  ASSERT_TRUE(b.Open(options_));
  EXPECT_TRUE(b.found.empty());
  for (uint64_t seed = 0; seed < 8; ++seed) ASSERT_TRUE(b.Put(seed));
  EXPECT_EQ(SegmentFiles(SpaceForTest("a")).size(), 3u);
  ASSERT_TRUE(b.Put(8));
  EXPECT_FALSE(fs::exists(files[0]));
  EXPECT_TRUE(fs::exists(files[1]));
  b.Close();
  ASSERT_TRUE(a.Open(options_));
  EXPECT_EQ(a.found.size(), 8u);
  EXPECT_EQ(VerifyFound(a), 8);
  a.Close();
  // A smaller capacity: others' files go, then one's own oldest.
  options_.capacity_bytes = file;
  ASSERT_TRUE(b.Open(options_));
  EXPECT_FALSE(fs::exists(files[1]));
  EXPECT_TRUE(fs::exists(SpaceFolder(options_.directory, SpaceForTest("a")) + "/notes.txt"));
  EXPECT_EQ(SegmentFiles(SpaceForTest("b")).size(), 1u);
  EXPECT_EQ(b.found.size(), 1u);
}

TEST_P(SsdTierTest, ASegmentOfAnotherSpaceInThisFolderIsNotUsed) {
  TierForTest a(Env::Default(), *io_, SpaceForTest("a")), b(Env::Default(), *io_, SpaceForTest("b"));
  ASSERT_TRUE(a.Open(options_));
  ASSERT_TRUE(a.Put(1));
  a.Close();
  fs::create_directories(SpaceFolder(options_.directory, SpaceForTest("b")));
  fs::copy(SegmentFiles(SpaceForTest("a")).at(0), SpaceFolder(options_.directory, SpaceForTest("b")));
  ASSERT_TRUE(b.Open(options_));
  EXPECT_TRUE(b.found.empty());
  EXPECT_TRUE(b.Put(2));
}

TEST_P(SsdTierTest, KeysThatDoNotFitAreErrorsAndLoseNothing) {
  TierForTest tier(Env::Default(), *io_, SpaceForTest());
  ASSERT_TRUE(tier.Open(options_));
  ASSERT_TRUE(tier.Put(1));
  tier.Close();
  const std::string before = ReadFile(SegmentFiles().at(0));
  std::ofstream(folder_ / "other_key") << std::string(32, 'x');
  SsdTierOptions wrong = options_;
  wrong.key_file = folder_ / "other_key";
  wrong.capacity_bytes = 4096 + slot_bytes();  // and less room: still nothing goes
  auto status = tier.Open(wrong);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(status.error().message.find("other_key"), std::string::npos) << status.error().message;
  if (GetParam().encrypted) {
    EXPECT_NE(status.error().message.find("another key"), std::string::npos) << status.error().message;
    wrong.key_file.clear();
    status = tier.Open(wrong);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kUnsupported);
  }
  wrong.key_file = folder_ / "no_key";
  EXPECT_FALSE(tier.Open(wrong));
  EXPECT_EQ(ReadFile(SegmentFiles().at(0)), before);
  ASSERT_TRUE(tier.Open(options_));
  EXPECT_EQ(VerifyFound(tier), 1);
}

TEST_P(SsdTierTest, OptionsAreChecked) {
  TierForTest tier(Env::Default(), *io_, SpaceForTest());
  const auto refused = [&](auto change) {
    SsdTierOptions options = options_;
    change(options);
    auto status = tier.Open(options);
    return !status && status.error().code == ErrorCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused([](auto& options) { options.directory.clear(); }));
  EXPECT_TRUE(refused([](auto& options) { options.capacity_bytes = 0; }));
  EXPECT_TRUE(refused([](auto& options) { options.capacity_bytes = 8192; }));
  EXPECT_TRUE(refused([](auto& options) { options.segment_bytes = 0; }));
  EXPECT_TRUE(refused([](auto& options) { options.queue_bytes = -1; }));
  TierForTest deep(Env::Default(), *io_, SpaceForTest("model", 385, 64));
  EXPECT_FALSE(deep.Open(options_));
}

INSTANTIATE_TEST_SUITE_P(Kinds, SsdTierTest,
                         ::testing::Values(Kind{true, false}, Kind{true, true}, Kind{false, false}, Kind{false, true}),
                         [](const auto& info) {
                           return std::string(info.param.uring ? "IoUring" : "Threads") +
                                  (info.param.encrypted ? "Encrypted" : "Plain");
                         });

}  // namespace
}  // namespace fathom
