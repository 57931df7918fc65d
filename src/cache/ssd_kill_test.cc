// kill -9 at random moments of a process that writes, replaces, evicts and wipes blocks: what is found afterwards
// verifies, and what a Flush acknowledged is found.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <random>
#include <set>
#include <thread>

#include "cache/ssd_tier_for_test.h"

namespace fathom {
namespace {

constexpr int64_t kSlots = 24;

// What the writer says, in the order of happening; small enough for a pipe to take whole.
struct Record {
  uint64_t what;  // kBegun, kFlushed, kErasing
  uint64_t seed;
};
constexpr uint64_t kBegun = 1, kFlushed = 2, kErasing = 3;

int32_t CountOf(uint64_t seed) { return seed % 3 == 0 ? static_cast<int32_t>(seed % 63 + 1) : 64; }

SsdTierOptions OptionsFor(const std::string& directory, bool encrypted) {
  SsdTierOptions options;
  options.directory = directory + "/cache";
  const int64_t slot = 4096 + SpaceForTest().layout.block_bytes();
  options.segment_bytes = 4096 + kSlots / 2 * slot;
  options.capacity_bytes = 2 * options.segment_bytes;
  if (encrypted) options.key_file = directory + "/key";
  return options;
}

// Not a test by itself: what the process that is killed runs.
TEST(SsdKillTest, DISABLED_Writer) {
  const char* directory = std::getenv("FATHOM_KILL_FOLDER");
  if (directory == nullptr) GTEST_SKIP() << "run by SsdKillTest.NothingWrongAfterAnyOfManyKills";
  const int pipe = std::atoi(std::getenv("FATHOM_KILL_PIPE"));
  const auto round = static_cast<uint64_t>(std::atoll(std::getenv("FATHOM_KILL_ROUND")));
  const auto say = [&](uint64_t what, uint64_t seed) {
    const Record record{what, seed};
    if (::write(pipe, &record, sizeof(record)) != sizeof(record)) std::abort();
  };
  auto io = std::move(*AsyncIo::Create({.depth = 8, .threads = 2, .allow_io_uring = round % 4 < 2}));
  TierForTest tier(Env::Default(), *io, SpaceForTest());
  auto status = tier.Open(OptionsFor(directory, round % 2 == 1));
  ASSERT_TRUE(status) << status.error().message;
  std::deque<std::pair<uint64_t, TierHandle>> stored;
  for (const StoredBlock& block : tier.found) stored.emplace_back(block.meta.key.low, block.handle);
  say(kBegun, 0);
  std::minstd_rand random(static_cast<unsigned>(round + 1));
  uint64_t seed = round * 100000;
  for (;;) {
    while (stored.size() > kSlots - 6) {
      const bool wipe = random() % 4 == 0;
      say(kErasing, stored.front().first);
      if (!tier->Erase(std::vector{stored.front().second}, wipe)) std::abort();
      stored.pop_front();
    }
    std::vector<std::pair<uint64_t, std::future<Result<TierHandle>>>> puts;
    for (int i = 0; i < 5; ++i) {
      ++seed;
      puts.emplace_back(seed, tier.PutLater(seed, CountOf(seed)));
    }
    if (random() % 2 == 0) puts.emplace_back(seed, tier.PutLater(seed, CountOf(seed)));  // the same once more
    for (auto& [number, put] : puts) {
      auto handle = put.get();
      if (!handle) std::abort();
      if (!stored.empty() && stored.back().first == number) stored.pop_back();
      stored.emplace_back(number, *handle);
    }
    if (random() % 3 != 0) {
      if (!tier->Flush()) std::abort();
      for (const auto& [number, put] : puts) say(kFlushed, number);
    }
  }
}

TEST(SsdKillTest, NothingWrongAfterAnyOfManyKills) {
  constexpr uint64_t kRounds = 200;
  const TempFolderForTest folders[2] = {TempFolderForTest(true),
                                        TempFolderForTest(true)};  // the odd rounds' is encrypted
  std::ofstream(folders[1] / "key") << std::string(32, 'k');
  auto io = std::move(*AsyncIo::Create({}));
  std::set<uint64_t> known[2];  // must be there
  std::minstd_rand random(1);
  int64_t verified = 0, flushed = 0, erased = 0;
  for (uint64_t round = 0; round < kRounds; ++round) {
    const std::string& folder = folders[round % 2].path();
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    // Made before the fork: after it only what is safe there.
    const std::string pipe_text = "FATHOM_KILL_PIPE=" + std::to_string(100);
    const std::string folder_text = "FATHOM_KILL_FOLDER=" + folder;
    const std::string round_text = "FATHOM_KILL_ROUND=" + std::to_string(round);
    const char* const environment[] = {pipe_text.c_str(), folder_text.c_str(), round_text.c_str(), nullptr};
    const char* const arguments[] = {"cache_test", "--gtest_also_run_disabled_tests", "--gtest_brief=1",
                                     "--gtest_filter=SsdKillTest.DISABLED_Writer", nullptr};
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      const int nothing = ::open("/dev/null", O_WRONLY);
      ::dup2(nothing, 1);
      ::dup2(ends[1], 100);
      ::execve("/proc/self/exe", const_cast<char* const*>(arguments), const_cast<char* const*>(environment));
      ::_exit(127);
    }
    ::close(ends[1]);
    std::set<uint64_t>& expected = known[round % 2];
    // So many steps, so that there is progress on a busy machine too, and then anywhere in the next ones.
    const unsigned steps = random() % 30;
    const auto pause = std::chrono::microseconds(random() % 3000);
    unsigned records = 0;
    Record record;
    ssize_t got;
    while ((got = ::read(ends[0], &record, sizeof(record))) == sizeof(record)) {
      if (record.what == kFlushed) {
        expected.insert(record.seed);
        ++flushed;
      } else if (record.what == kErasing) {
        expected.erase(record.seed);
        ++erased;
      }
      if (records++ == steps) {
        std::this_thread::sleep_for(pause);
        ::kill(child, SIGKILL);
      }
    }
    ::close(ends[0]);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "round " << round << ": the writer ended itself";

    TierForTest tier(Env::Default(), *io, SpaceForTest());
    auto opened = tier.Open(OptionsFor(folder, round % 2 == 1));
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_EQ(tier->stats().corrupt, 0) << "round " << round;
    std::set<uint64_t> found;
    for (const StoredBlock& block : tier.found) {
      const uint64_t seed = block.meta.key.low;
      EXPECT_TRUE(SameMeta(block.meta, MetaForTest(seed, CountOf(seed))));
      auto same = tier.Get(block.handle, seed, CountOf(seed));
      ASSERT_TRUE(same) << "round " << round << ": " << same.error().message;
      ASSERT_TRUE(*same) << "round " << round << ": a wrong block";
      found.insert(seed);
      ++verified;
    }
    for (uint64_t seed : expected) EXPECT_TRUE(found.contains(seed)) << "round " << round << ": lost " << seed;
    expected = std::move(found);
    if (HasFailure()) break;
  }
  // The test must have tested something.
  EXPECT_GT(flushed, 1000);
  EXPECT_GT(erased, 500);
  EXPECT_GT(verified, 2000);
}

}  // namespace
}  // namespace fathom
