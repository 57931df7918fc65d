#include "cache/kv_store.h"

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace fathom {
namespace {

TEST(KvStore, GrowsInBlocksAndReusesThem) {
  KvPool pool({.dtype = DType::kBF16, .layers = 3, .row_values = 40});
  EXPECT_EQ(pool.layout().row_bytes(), 128);
  KvSequence a(pool);
  ASSERT_TRUE(a.Reserve(65));
  EXPECT_EQ(a.block_starts().size(), 2u);
  EXPECT_EQ(a.length(), 0);
  // Every row is a distinct place.
  for (int layer = 0; layer < 3; ++layer)
    for (int t = 0; t < 128; ++t) std::memset(a.Row(layer, t), layer * 80 + t % 80, pool.layout().row_bytes());
  for (int layer = 0; layer < 3; ++layer)
    for (int t = 0; t < 128; ++t) ASSERT_EQ(static_cast<int>(*a.Row(layer, t)), layer * 80 + t % 80);
  a.SetLength(65);
  EXPECT_EQ(pool.used_bytes(), 2 * pool.layout().block_bytes());
  a.Truncate(64);
  EXPECT_EQ(a.length(), 64);
  EXPECT_EQ(a.block_starts().size(), 1u);
  KvSequence b(pool);
  ASSERT_TRUE(b.Reserve(1));
  EXPECT_EQ(pool.used_bytes(), 2 * pool.layout().block_bytes());
  const int64_t slabs = pool.allocated_bytes();
  EXPECT_GE(slabs, pool.used_bytes());
  a.Truncate(100);  // longer than it is: no change
  EXPECT_EQ(a.length(), 64);
}

TEST(KvStore, FailureLeavesTheSequenceAsItWas) {
  KvPool pool({.dtype = DType::kF32, .layers = int64_t{1} << 22, .row_values = int64_t{1} << 20});  // absurd
  KvSequence a(pool);
  auto status = a.Reserve(1);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kResource);
  EXPECT_EQ(a.block_starts().size(), 0u);
}

TEST(KvStore, ASharedBlockIsCopiedBeforeItIsWrittenTo) {
  KvPool pool({.dtype = DType::kBF16, .layers = 2, .row_values = 32});
  const auto row_bytes = static_cast<size_t>(pool.layout().row_bytes());
  KvSequence a(pool), b(pool);
  ASSERT_TRUE(a.Reserve(100));
  for (int layer = 0; layer < 2; ++layer)
    for (int t = 0; t < 100; ++t) std::memset(a.Row(layer, t), t + layer, row_bytes);
  a.SetLength(100);
  b.Adopt(a.blocks(), 70);
  EXPECT_EQ(b.length(), 70);
  EXPECT_EQ(b.Row(1, 69), a.Row(1, 69));  // stored once
  ASSERT_TRUE(b.Reserve(71));
  EXPECT_EQ(b.Row(0, 10), a.Row(0, 10));
  ASSERT_NE(b.Row(0, 70), a.Row(0, 70));
  std::memset(b.Row(0, 70), 255, row_bytes);
  for (int layer = 0; layer < 2; ++layer)
    for (int t = 64; t < 70; ++t) EXPECT_EQ(std::memcmp(b.Row(layer, t), a.Row(layer, t), row_bytes), 0);
  EXPECT_EQ(static_cast<int>(*a.Row(0, 70)), 70);
  EXPECT_EQ(pool.used_bytes(), 3 * pool.layout().block_bytes());
  // The last holder writes in place.
  const std::byte* own = b.Row(0, 70);
  ASSERT_TRUE(b.Reserve(72));
  EXPECT_EQ(b.Row(0, 70), own);
}

TEST(KvStore, ALimitAsksTheReclaimerAndThenRefuses) {
  const KvLayout layout{.dtype = DType::kBF16, .layers = 1, .row_values = 32};
  KvPool pool(layout, 3 * layout.block_bytes());
  KvSequence a(pool), b(pool);
  ASSERT_TRUE(a.Reserve(128));
  int asked = 0;
  pool.SetReclaimer([&] { return ++asked == 1 && (a.Truncate(64), true); });
  ASSERT_TRUE(b.Reserve(128));
  EXPECT_EQ(asked, 1);
  const auto status = b.Reserve(200);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kResource);
  EXPECT_EQ(b.block_starts().size(), 2u);
}

TEST(KvStore, KeepsMemoryReadyWithinItsLimit) {
  const KvLayout layout{.dtype = DType::kF32, .layers = 4, .row_values = 256};
  const int64_t block = layout.block_bytes();
  constexpr int64_t kBlocks = 100;
  KvPool pool(layout, kBlocks * block);
  std::mutex mutex;
  std::condition_variable changed;
  int64_t told = 0;
  pool.OnSlab([&](std::span<std::byte> slab) {
    const std::lock_guard lock(mutex);
    told += static_cast<int64_t>(slab.size()) / block * block;
    changed.notify_all();
  });
  pool.KeepReady(kBlocks * block / 4);
  {
    std::unique_lock lock(mutex);  // before anybody has asked
    ASSERT_TRUE(changed.wait_for(lock, std::chrono::minutes(1), [&] { return told >= kBlocks * block / 4; }));
  }
  EXPECT_EQ(pool.used_bytes(), 0);
  // Several at once, to the limit: nobody gets more than there is, and nothing is lost.
  std::vector<std::vector<KvBlockRef>> taken(4);
  std::vector<std::thread> threads;
  for (auto& mine : taken) {
    threads.emplace_back([&] {
      while (auto got = pool.Take()) mine.push_back(std::move(*got));
    });
  }
  for (std::thread& thread : threads) thread.join();
  size_t all = 0;
  std::set<const std::byte*> places;
  for (const auto& mine : taken) {
    all += mine.size();
    for (const KvBlockRef& ref : mine) places.insert(ref->data());
  }
  EXPECT_EQ(all, static_cast<size_t>(kBlocks));
  EXPECT_EQ(places.size(), all);
  EXPECT_LE(pool.allocated_bytes(), kBlocks * block);
  pool.OnSlab({});
}

TEST(KvStore, BlocksMayOutliveTheirPool) {
  KvBlockRef block;
  {
    KvPool pool({.dtype = DType::kF32, .layers = 1, .row_values = 16});
    auto taken = pool.Take();
    ASSERT_TRUE(taken);
    block = *taken;
  }
  std::memset(block->data(), 1, 64);
}

}  // namespace
}  // namespace fathom
