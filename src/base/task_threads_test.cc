#include "base/task_threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <vector>

namespace fathom {
namespace {

TEST(TaskThreads, OneThreadKeepsTheOrder) {
  std::vector<int> done;
  TaskThreads threads;
  ASSERT_TRUE(threads.Start(1));
  for (int i = 0; i < 100; ++i) threads.Post([&done, i] { done.push_back(i); });
  threads.Finish();
  ASSERT_EQ(done.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(done[static_cast<size_t>(i)], i);
}

TEST(TaskThreads, FinishWaitsForWhatTasksPost) {
  std::atomic<int> done{0};
  TaskThreads threads;
  ASSERT_TRUE(threads.Start(1));
  threads.Post([&] {
    ++done;
    threads.Post([&] {
      ++done;
      threads.Post([&] { ++done; });
    });
  });
  threads.Finish();
  EXPECT_EQ(done, 3);
}

TEST(TaskThreads, ManyThreadsDoEachTaskOnce) {
  std::vector<std::atomic<int>> done(2000);
  {
    TaskThreads threads;
    ASSERT_TRUE(threads.Start(4));
    for (auto& count : done) threads.Post([&count] { ++count; });
  }
  for (const auto& count : done) EXPECT_EQ(count, 1);
}

TEST(TaskThreads, ATasksResourcesAreGoneBeforeTheNextBegins) {
  const auto resource = std::make_shared<int>(0);
  long seen = 0;
  TaskThreads threads;
  ASSERT_TRUE(threads.Start(1));
  threads.Post([resource] { (void)resource; });
  threads.Post([&resource, &seen] { seen = resource.use_count(); });
  threads.Finish();
  EXPECT_EQ(seen, 1);
}

TEST(TaskThreads, WithoutThreadsItEndsAllTheSame) {
  TaskThreads threads;
  threads.Finish();
}

}  // namespace
}  // namespace fathom
