#include "base/start_thread.h"

#include <gtest/gtest.h>

#include <atomic>

#include "base/task_threads.h"
#include "base/thread_pool.h"

namespace fathom {
namespace {

TEST(StartThread, Runs) {
  std::atomic<int> ran{0};
  {
    auto plain = StartThread([&] { ++ran; });
    ASSERT_TRUE(plain);
    plain->join();
    auto joining = StartThread<std::jthread>([&](std::stop_token stop) {
      while (!stop.stop_requested()) std::this_thread::yield();
      ++ran;
    });
    ASSERT_TRUE(joining);
  }
  EXPECT_EQ(ran, 2);
}

TEST(StartThread, SaysHowManyThereAreAndWhatToDo) {
  const ThreadLimitForTest limit(0);
  const auto thread = StartThread([] { FAIL() << "it must not run"; }, {.started = 3, .asked = 8, .chosen = true});
  ASSERT_FALSE(thread);
  EXPECT_EQ(thread.error().code, ErrorCode::kResource);
  EXPECT_NE(thread.error().message.find("3 of 8 threads"), std::string::npos) << thread.error().message;
  EXPECT_NE(thread.error().message.find("--threads N"), std::string::npos);
  EXPECT_NE(thread.error().message.find("ulimit -u"), std::string::npos);
  const auto own = StartThread([] { FAIL() << "it must not run"; });
  ASSERT_FALSE(own);
  EXPECT_EQ(own.error().message.find("--threads"), std::string::npos) << "no option chooses this one";
}

TEST(StartThread, APoolWithTooFewThreadsIsAnErrorAndLeavesNone) {
  const ThreadLimitForTest limit(2);
  const auto pool = ThreadPool::Create(5);
  ASSERT_FALSE(pool);
  EXPECT_EQ(pool.error().code, ErrorCode::kResource);
  // The owner's own thread is one of the five.
  EXPECT_NE(pool.error().message.find("3 of 5 threads"), std::string::npos) << pool.error().message;
}

TEST(StartThread, APoolThatCanBeHadWorks) {
  const ThreadLimitForTest limit(2);
  const auto pool = ThreadPool::Create(3);
  ASSERT_TRUE(pool);
  std::atomic<int> calls{0};
  (*pool)->Run([&](int) { ++calls; });
  EXPECT_EQ(calls, 3);
}

TEST(StartThread, TaskThreadsThatCouldBeStartedEnd) {
  TaskThreads tasks;
  const ThreadLimitForTest limit(1);
  const Status status = tasks.Start(3);
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find("1 of 3"), std::string::npos);
  std::atomic<int> ran{0};
  tasks.Post([&] { ++ran; });
  tasks.Finish();
  EXPECT_EQ(ran, 1);
}

}  // namespace
}  // namespace fathom
