#include "cache/simulator.h"
#include "base/source_dir_for_test.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

namespace fathom {
namespace {

constexpr int64_t kBlockBytes = 512 * 10;

SimulatorOptions Room(int64_t memory_blocks, int64_t disk_blocks, EvictionKind policy) {
  return {.memory_bytes = memory_blocks * kBlockBytes,
          .disk_bytes = disk_blocks * kBlockBytes,
          .policy = policy,
          .bytes_per_token = 10,
          .compute = {.seconds_per_token = 0.01}};
}

std::string Line(int64_t ms, int64_t tokens, const std::string& ids) {
  return fmt::format("{{\"timestamp\": {}, \"input_length\": {}, \"output_length\": 1, \"hash_ids\": [{}]}}\n", ms,
                     tokens, ids);
}

TEST(Trace, ReadsChainsAndReusesBlocks) {
  const auto trace = ParseTrace(Line(0, 1000, "1, 2") + "\n" + Line(1500, 1030, "1, 2, 3") + Line(2000, 600, "9, 2"),
                                "t.jsonl");
  ASSERT_TRUE(trace) << trace.error().message;
  ASSERT_EQ(trace->requests.size(), 3u);
  EXPECT_EQ(trace->requests[1].blocks, (std::vector<int32_t>{0, 1, 2}));
  EXPECT_EQ(trace->requests[2].blocks, (std::vector<int32_t>{3, 4}));  // 2 after 9 is another block than 2 after 1
  EXPECT_EQ(trace->requests[1].seconds, 1.5);
  EXPECT_EQ(trace->blocks[2].parent, 1);
  EXPECT_EQ(trace->blocks[2].depth, 2);
  EXPECT_EQ(trace->TokensOf(trace->requests[0], 0), 512);
  EXPECT_EQ(trace->TokensOf(trace->requests[0], 1), 488);
}

TEST(Trace, SaysWhichLineAndFieldIsWrong) {
  const std::pair<std::string, const char*> cases[] = {
      {"nonsense\n", "line 2: not valid JSON"},
      {"[1]\n", "line 2: a JSON object is expected"},
      {"{\"input_length\": 5, \"hash_ids\": [1]}", "\"timestamp\""},
      {"{\"timestamp\": 1, \"hash_ids\": [1]}", "\"input_length\""},
      {"{\"timestamp\": 1, \"input_length\": \"5\", \"hash_ids\": [1]}", "\"input_length\""},
      {"{\"timestamp\": 1, \"input_length\": -5, \"hash_ids\": []}", "out of range"},
      {"{\"timestamp\": 1, \"input_length\": 99999999999999, \"hash_ids\": [1]}", "out of range"},
      {"{\"timestamp\": 1, \"input_length\": 5}", "\"hash_ids\""},
      {"{\"timestamp\": 1, \"input_length\": 5, \"hash_ids\": [1, 2]}", "has 2 hashes"},
      {"{\"timestamp\": 1, \"input_length\": 5, \"hash_ids\": [\"a\"]}", "not a whole number"},
      {"{\"timestamp\": -9, \"input_length\": 5, \"hash_ids\": [1]}", "goes back"},
  };
  for (const auto& [line, message] : cases) {
    const auto trace = ParseTrace(Line(0, 1000, "1, 2") + line, "t.jsonl");
    ASSERT_FALSE(trace) << line;
    EXPECT_EQ(trace.error().code, ErrorCode::kCorrupt);
    EXPECT_NE(trace.error().message.find(message), std::string::npos) << trace.error().message;
    EXPECT_NE(trace.error().message.find("t.jsonl: line 2"), std::string::npos) << trace.error().message;
  }
}

TEST(Simulator, CountsByHand) {
  const auto trace = ParseTrace(Line(0, 1024, "1, 2") + Line(1000, 1024, "3, 4") + Line(2000, 1030, "1, 2, 5"), "t");
  ASSERT_TRUE(trace);
  // Room for everything: the third request finds two blocks.
  auto report = Simulate(*trace, Room(100, 0, EvictionKind::kLru));
  EXPECT_EQ(report.tokens, 3078);
  EXPECT_EQ(report.requests, 3);
  EXPECT_EQ(report.hit_requests, 1);
  EXPECT_EQ(report.memory_hit_tokens, 1024);
  EXPECT_EQ(report.ceiling_tokens, 1024);
  EXPECT_NEAR(report.saved_seconds, 10.24, 1e-9);
  EXPECT_NEAR(report.compute_seconds, 30.78, 1e-9);
  EXPECT_EQ(report.disk_written_bytes, 0);
  EXPECT_EQ(report.peak_memory_bytes, 5 * kBlockBytes);
  // Room for three in memory: 2 goes first, then 1 is the only one left of the chain.
  report = Simulate(*trace, Room(3, 0, EvictionKind::kLru));
  EXPECT_EQ(report.memory_hit_tokens, 512);
  EXPECT_GT(report.evicted_memory, 0);
  // Two in memory and all on disk: what memory gave up comes from the disk.
  report = Simulate(*trace, Room(2, 100, EvictionKind::kLru));
  EXPECT_EQ(report.memory_hit_tokens, 0);
  EXPECT_EQ(report.disk_hit_tokens, 1024);
  EXPECT_EQ(report.disk_written_bytes, 5 * kBlockBytes);
  // A budget for two blocks a day, of which a quarter may be used at midnight: nothing is written.
  auto tight = Room(2, 100, EvictionKind::kLru);
  tight.daily_write_bytes = 2 * kBlockBytes;
  report = Simulate(*trace, tight);
  EXPECT_EQ(report.disk_written_bytes, 0);
  EXPECT_EQ(report.not_admitted, 5 + 2 - 2 - 2);  // children of what is not on disk are not offered
  EXPECT_EQ(report.hit_tokens(), 0);
  // No room at all.
  report = Simulate(*trace, Room(0, 0, EvictionKind::kSavedTime));
  EXPECT_EQ(report.hit_tokens(), 0);
}

/// Requests over a random tree, some of them again and again.
CacheTrace RandomTrace(uint32_t seed, int requests) {
  std::mt19937 random(seed);
  std::string text;
  std::vector<std::vector<int>> known;
  for (int r = 0; r < requests; ++r) {
    std::vector<int> path;
    if (!known.empty() && random() % 3 != 0) {
      path = known[random() % known.size()];
      path.resize(1 + random() % path.size());
    }
    for (int i = random() % 4; i > 0 || path.empty(); --i) path.push_back(static_cast<int>(random() % 3));
    known.push_back(path);
    text += Line(r * 1000, static_cast<int64_t>(path.size()) * 512, fmt::format("{}", fmt::join(path, ", ")));
  }
  return *ParseTrace(text, "random");
}

/// The most hit tokens of all ways to keep at most `capacity` blocks, parents before children, by trying all.
int64_t BestByTrying(const CacheTrace& trace, int64_t capacity) {
  std::map<uint32_t, int64_t> states = {{0, 0}};  // set of held blocks to hit blocks
  for (const auto& request : trace.requests) {
    std::map<uint32_t, int64_t> next;
    for (const auto& [held, hits] : states) {
      int64_t found = 0;
      uint32_t reachable = held;
      while (found < std::ssize(request.blocks) && (held >> request.blocks[found] & 1) != 0) ++found;
      for (const int32_t block : request.blocks) reachable |= 1u << block;
      for (uint32_t keep = reachable;; keep = (keep - 1) & reachable) {
        bool whole = std::popcount(keep) <= capacity;
        for (size_t b = 0; whole && b < trace.blocks.size(); ++b) {
          if (keep >> b & 1) whole = trace.blocks[b].parent < 0 || (keep >> trace.blocks[b].parent & 1) != 0;
        }
        if (whole) next[keep] = std::max(next[keep], hits + found);
        if (keep == 0) break;
      }
    }
    states = std::move(next);
  }
  int64_t best = 0;
  for (const auto& [held, hits] : states) best = std::max(best, hits);
  return best * 512;
}

TEST(Simulator, BeladyIsTheBestOfAllWays) {
  int tried = 0;
  for (uint32_t seed = 1; tried < 12; ++seed) {
    const CacheTrace trace = RandomTrace(seed, 7);
    if (trace.blocks.size() > 10) continue;
    ++tried;
    for (const int64_t capacity : {0, 1, 2, 3, 5})
      ASSERT_EQ(BeladyHitTokens(trace, capacity * kBlockBytes, 10), BestByTrying(trace, capacity)) << seed;
  }
}

TEST(Simulator, StaysBelowItsBounds) {
  for (uint32_t seed = 1; seed < 20; ++seed) {
    const CacheTrace trace = RandomTrace(seed, 300);
    for (const EvictionKind kind : {EvictionKind::kSavedTime, EvictionKind::kLru, EvictionKind::kS3Fifo}) {
      const std::vector<std::pair<int64_t, int64_t>> rooms = {{10, 0}, {30, 0}, {10, 20}, {5, 1000}};
      for (const auto& [memory, disk] : rooms) {
        const auto options = Room(memory, disk, kind);
        const auto report = Simulate(trace, options);
        ASSERT_LE(report.hit_tokens(), BeladyHitTokens(trace, (memory + disk) * kBlockBytes, 10));
        ASSERT_LE(report.hit_tokens(), report.ceiling_tokens);
        ASSERT_LE(report.peak_memory_bytes, options.memory_bytes);
        ASSERT_LE(report.peak_disk_bytes, options.disk_bytes);
        ASSERT_TRUE(disk != 1000 || report.hit_tokens() == report.ceiling_tokens);
      }
    }
  }
}

// The bar: the default policy reaches at least 95 % of the better of LRU and S3-FIFO at every size.
TEST(Simulator, SavedTimeHoldsUpOnTheMooncakeTraces) {
  const char* shared = std::getenv("FATHOM_SHARED_DATA");
  const auto folder = (shared != nullptr ? std::filesystem::path(shared)
                                         : std::filesystem::path(SourceDirForTest()).parent_path() / "shared" / "data") /
                      "trace" / "mooncake";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is not there";
  const std::pair<const char*, double> traces[] = {{"conversation_trace.jsonl", 0.3736},
                                                   {"synthetic_trace.jsonl", 0.6512}};
  for (const auto& [name, ceiling] : traces) {
    std::ifstream in(folder / name, std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    const auto trace = ParseTrace(text.str(), name);
    ASSERT_TRUE(trace) << trace.error().message;
    for (const int64_t blocks : {1000, 3000, 10000, 30000}) {
      std::map<EvictionKind, SimulatorReport> reports;
      for (const EvictionKind kind : {EvictionKind::kSavedTime, EvictionKind::kLru, EvictionKind::kS3Fifo})
        reports[kind] = Simulate(*trace, Room(blocks, 0, kind));
      const int64_t best =
          std::max(reports[EvictionKind::kLru].hit_tokens(), reports[EvictionKind::kS3Fifo].hit_tokens());
      const SimulatorReport& ours = reports[EvictionKind::kSavedTime];
      EXPECT_GE(static_cast<double>(ours.hit_tokens()), 0.95 * static_cast<double>(best)) << name << " " << blocks;
      EXPECT_NEAR(static_cast<double>(ours.ceiling_tokens) / static_cast<double>(ours.tokens), ceiling, 5e-4) << name;
    }
  }
}

}  // namespace
}  // namespace fathom
