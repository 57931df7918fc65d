#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>

namespace fathom {
namespace {

TEST(ThreadPool, EveryThreadRunsOnceEachTime) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (int round = 0; round < 200; ++round) {
      std::vector<int> calls(threads, 0);
      pool.Run([&](int thread) { calls[thread]++; });
      for (int count : calls) ASSERT_EQ(count, 1);
    }
  }
}

TEST(ThreadPool, WakesAfterSleeping) {
  ThreadPool pool(3);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::atomic<int> calls{0};
    pool.Run([&](int) { calls++; });
    ASSERT_EQ(calls.load(), 3);
  }
}

TEST(ThreadPool, ParallelForCoversEveryIndexOnce) {
  ThreadPool pool(4);
  for (int64_t count : {0, 1, 7, 64, 1001}) {
    for (int64_t grain : {1, 3, 64}) {
      std::vector<std::atomic<int>> hits(count);
      pool.ParallelFor(count, grain, [&](int64_t i, int) { hits[i]++; });
      for (auto& hit : hits) ASSERT_EQ(hit.load(), 1);
    }
  }
}

TEST(ThreadPool, MixedRegionsUnderOversubscription) {
  ThreadPool pool(8);  // more threads than cores: late ones must neither be waited for nor run a region twice
  for (int round = 0; round < 2000; ++round) {
    std::atomic<int64_t> sum{0};
    pool.ParallelFor(50, 1, [&](int64_t i, int) { sum += i; });
    ASSERT_EQ(sum.load(), 1225);
    if (round % 50 == 0) {
      std::atomic<int> calls{0};
      pool.Run([&](int) { calls++; });
      ASSERT_EQ(calls.load(), 8);
    }
  }
}

}  // namespace
}  // namespace fathom
