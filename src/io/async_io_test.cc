#include "io/async_io.h"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>

#include "io/env.h"
#include "io/fault_env.h"
#include "io/request_queue.h"
#include "io/temp_folder_for_test.h"

namespace fathom {
namespace {

constexpr int64_t kPage = DirectFile::kAlignment;

// Counts completions, keeps their order and codes.
class Log {
 public:
  std::function<void(Status)> Add(int name) {
    return [this, name](Status status) {
      const std::lock_guard lock(mutex_);
      order_.push_back(name);
      statuses_.push_back(std::move(status));
      changed_.notify_all();
    };
  }
  bool Wait(size_t count, std::chrono::milliseconds longest = std::chrono::seconds(30)) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, longest, [&] { return order_.size() >= count; });
  }
  std::vector<int> order() {
    const std::lock_guard lock(mutex_);
    return order_;
  }
  std::vector<Status> statuses() {
    const std::lock_guard lock(mutex_);
    return statuses_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int> order_;
  std::vector<Status> statuses_;
};

class AsyncIoTest : public ::testing::TestWithParam<bool> {
 protected:
  std::unique_ptr<AsyncIo> Make(AsyncIoOptions options = {}) {
    options.allow_io_uring = GetParam();
    auto io = AsyncIo::Create(options);
    EXPECT_TRUE(io);
    return std::move(*io);
  }
  std::unique_ptr<DirectFile> File(Env& env, const std::string& name, int64_t bytes, bool direct = true) {
    auto file = env.OpenDirect(folder_ / name, {.create = true, .direct = direct});
    EXPECT_TRUE(file);
    EXPECT_TRUE((*file)->Allocate(bytes));
    return std::move(*file);
  }
  static AsyncIoRequest Request(DirectFile* file, bool write, int64_t offset, std::span<std::byte> memory,
                                std::function<void(Status)> done, uint8_t priority = 0) {
    return {file, write, offset, memory.data(), static_cast<int64_t>(memory.size()), priority, std::move(done)};
  }
  static void Submit(AsyncIo& io, AsyncIoRequest request) {
    std::vector<AsyncIoRequest> one;
    one.push_back(std::move(request));
    io.Submit(std::move(one));
  }
  const TempFolderForTest folder_;
};

TEST_P(AsyncIoTest, ManyWritesThenReadsInAnyOrder) {
  auto io = Make({.depth = 8, .threads = 3});
  RecordProperty("kind", std::string(io->kind()));
  constexpr int kCount = 200;
  auto a = File(Env::Default(), "a", kCount * 2 * kPage), b = File(Env::Default(), "b", kCount * 2 * kPage, false);
  PagesForTest out(kCount * 2 * kPage), in(kCount * 2 * kPage);
  out.Fill(1);
  io->Register(out.span());
  io->Register(in.span().first(40 * kPage));
  for (DirectFile* file : {a.get(), b.get()}) {
    std::fill_n(in.data(), kCount * 2 * kPage, std::byte{0});
    Log writes, reads;
    std::vector<AsyncIoRequest> batch;
    for (int i = 0; i < kCount; ++i) {
      batch.push_back(Request(file, true, i * 2 * kPage, out.span().subspan(i * 2 * kPage, 2 * kPage), writes.Add(i)));
    }
    io->Submit(std::move(batch));
    ASSERT_TRUE(writes.Wait(kCount));
    for (int i = 0; i < kCount; ++i) {
      Submit(*io, Request(file, false, i * 2 * kPage, in.span().subspan(i * 2 * kPage, 2 * kPage), reads.Add(i),
                          static_cast<uint8_t>(i % 4)));
    }
    ASSERT_TRUE(reads.Wait(kCount));
    for (const Status& status : writes.statuses()) EXPECT_TRUE(status) << status.error().message;
    for (const Status& status : reads.statuses()) EXPECT_TRUE(status) << status.error().message;
    EXPECT_EQ(std::memcmp(in.data(), out.data(), kCount * 2 * kPage), 0);
  }
}

TEST_P(AsyncIoTest, ErrorsComeToTheirRequest) {
  auto io = Make();
  auto file = File(Env::Default(), "a", 4 * kPage);
  PagesForTest memory(16 * kPage);
  Log log;
  std::vector<AsyncIoRequest> batch;
  batch.push_back(Request(file.get(), false, 2 * kPage, memory.span().first(4 * kPage), log.Add(0)));  // ends early
  batch.push_back(Request(file.get(), false, 100 * kPage, memory.span().subspan(4 * kPage, 4 * kPage),
                          log.Add(1)));  // all past the end
  batch.push_back(
      Request(file.get(), false, 5, memory.span().subspan(8 * kPage, 4 * kPage), log.Add(2)));  // not a block
  batch.push_back(Request(file.get(), false, 0, memory.span().first(0), log.Add(3)));           // nothing
  batch.push_back(Request(file.get(), false, 0, memory.span().subspan(12 * kPage), log.Add(4)));
  io->Submit(std::move(batch));
  ASSERT_TRUE(log.Wait(5));
  const std::map<int, ErrorCode> expected{
      {0, ErrorCode::kCorrupt}, {1, ErrorCode::kCorrupt}, {2, ErrorCode::kInvalidArgument}};
  const auto order = log.order();
  const auto statuses = log.statuses();
  for (size_t i = 0; i < order.size(); ++i) {
    const auto want = expected.find(order[i]);
    ASSERT_EQ(statuses[i].has_value(), want == expected.end()) << order[i];
    if (statuses[i]) continue;
    EXPECT_EQ(statuses[i].error().code, want->second);
    EXPECT_NE(statuses[i].error().message.find(folder_ / "a"), std::string::npos) << statuses[i].error().message;
  }
}

TEST_P(AsyncIoTest, UrgentRequestsOvertakeWaitingOnes) {
  FaultEnv env;
  auto io = Make({.depth = 1, .threads = 1});
  auto file = File(env, "a", 4 * kPage);
  PagesForTest memory(kPage);
  Log log;
  env.ChangeDirect([](DirectFaults& faults) { faults.hang = true; });
  Submit(*io, Request(file.get(), false, 0, memory.span(), log.Add(0), 2));
  while (env.direct_counts().waiting == 0) std::this_thread::yield();
  for (int i = 1; i <= 6; ++i) {
    Submit(*io, Request(file.get(), false, 0, memory.span(), log.Add(i), static_cast<uint8_t>((6 - i) / 2)));
  }
  env.ChangeDirect([](DirectFaults& faults) { faults.hang = false; });
  ASSERT_TRUE(log.Wait(7));
  EXPECT_EQ(log.order(), (std::vector<int>{0, 5, 6, 3, 4, 1, 2}));
}

TEST_P(AsyncIoTest, HungFilesDoNotHoldUpOthers) {
  FaultEnv hung;
  hung.ChangeDirect([](DirectFaults& faults) { faults.hang = true; });
  FaultEnv well;
  PagesForTest memory(60 * kPage);
  int64_t page = 0;
  const auto next = [&] { return memory.span().subspan(page++ * kPage, kPage); };
  Log stuck, fine;
  auto io = Make({.depth = 4, .threads = 2});
  auto a = File(Env::Default(), "a", 4 * kPage), b = File(Env::Default(), "b", 4 * kPage);
  std::vector<std::unique_ptr<DirectFile>> hanging;
  for (int i = 0; i < 3; ++i) {
    hanging.push_back(std::move(*hung.OpenDirect(folder_ / "a", {})));
    for (int k = 0; k < 10; ++k) Submit(*io, Request(hanging[i].get(), false, 0, next(), stuck.Add(k)));
  }
  auto other = std::move(*well.OpenDirect(folder_ / "b", {}));
  for (int k = 0; k < 10; ++k) Submit(*io, Request(other.get(), false, 0, next(), fine.Add(k)));
  for (int k = 0; k < 10; ++k) Submit(*io, Request(b.get(), false, 0, next(), fine.Add(k)));
  EXPECT_TRUE(fine.Wait(20));
  EXPECT_TRUE(stuck.order().empty());
  hung.ChangeDirect([](DirectFaults& faults) { faults.hang = false; });
  EXPECT_TRUE(stuck.Wait(30));
  // And the threads that stood in do not stay in the way.
  for (int k = 0; k < 10; ++k) Submit(*io, Request(other.get(), false, 0, next(), fine.Add(k)));
  EXPECT_TRUE(fine.Wait(30));
}

TEST_P(AsyncIoTest, DestructionWaitsForWhatRunsAndCancelsTheRest) {
  FaultEnv env;
  auto file = File(env, "a", 4 * kPage);
  auto real = File(Env::Default(), "b", 64 * kPage);
  PagesForTest memory(51 * kPage);
  Log log;
  env.ChangeDirect([](DirectFaults& faults) { faults.hang = true; });
  auto io = Make({.depth = 1, .threads = 1});
  Submit(*io, Request(file.get(), false, 0, memory.span().first(kPage), log.Add(0)));
  while (env.direct_counts().waiting == 0) std::this_thread::yield();
  for (int i = 1; i <= 5; ++i)
    Submit(*io, Request(file.get(), false, 0, memory.span().subspan(i * kPage, kPage), log.Add(i)));
  for (int i = 6; i <= 50; ++i)
    Submit(*io, Request(real.get(), false, 0, memory.span().subspan(i * kPage, kPage), log.Add(i)));
  std::thread release([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    env.ChangeDirect([](DirectFaults& faults) { faults.hang = false; });
  });
  io.reset();
  release.join();
  ASSERT_EQ(log.order().size(), 51u);
  int cancelled = 0;
  const auto order = log.order();
  const auto statuses = log.statuses();
  for (size_t i = 0; i < order.size(); ++i) {
    if (order[i] == 0) {
      EXPECT_TRUE(statuses[i]);
    }
    if (!statuses[i]) {
      EXPECT_EQ(statuses[i].error().code, ErrorCode::kCancelled);
      ++cancelled;
    }
  }
  EXPECT_GE(cancelled, 5);
}

TEST_P(AsyncIoTest, CompletionsMaySubmit) {
  auto io = Make();
  auto file = File(Env::Default(), "a", 4 * kPage);
  PagesForTest memory(kPage);
  Log log;
  std::function<void(int)> next = [&](int left) {
    Submit(*io, Request(file.get(), left % 2 == 0, 0, memory.span(), [&, left](Status status) {
      if (left > 0) return next(left - 1);
      log.Add(0)(std::move(status));
    }));
  };
  next(100);
  EXPECT_TRUE(log.Wait(1));
}

TEST_P(AsyncIoTest, ManySubmitters) {
  auto io = Make({.depth = 16, .threads = 4});
  FaultEnv env;
  std::vector<std::unique_ptr<DirectFile>> files;
  for (int i = 0; i < 4; ++i) {
    files.push_back(File(i % 2 == 0 ? Env::Default() : env, "f" + std::to_string(i), 64 * kPage));
  }
  constexpr int kThreads = 4, kEach = 200;
  Log log;
  std::vector<std::thread> submitters;
  std::vector<std::unique_ptr<PagesForTest>> memory;
  for (int t = 0; t < kThreads; ++t) memory.push_back(std::make_unique<PagesForTest>(kEach * kPage));
  for (int t = 0; t < kThreads; ++t) {
    submitters.emplace_back([&, t] {
      std::minstd_rand random(static_cast<unsigned>(t));
      io->Register(memory[t]->span());
      for (int i = 0; i < kEach; ++i) {
        const auto page = static_cast<int64_t>(random() % 64);
        Submit(*io, Request(files[random() % 4].get(), false, page * kPage, memory[t]->span().subspan(i * kPage, kPage),
                            log.Add(i), static_cast<uint8_t>(random() % 3)));
      }
    });
  }
  for (std::thread& submitter : submitters) submitter.join();
  ASSERT_TRUE(log.Wait(kThreads * kEach));
  for (const Status& status : log.statuses()) EXPECT_TRUE(status);
}

TEST_P(AsyncIoTest, RefusesSillyOptions) {
  EXPECT_FALSE(AsyncIo::Create({.depth = 0, .allow_io_uring = GetParam()}));
  EXPECT_FALSE(AsyncIo::Create({.depth = 5000, .allow_io_uring = GetParam()}));
  EXPECT_FALSE(AsyncIo::Create({.threads = 0, .allow_io_uring = GetParam()}));
}

INSTANTIATE_TEST_SUITE_P(Kinds, AsyncIoTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "IoUring" : "Threads"; });

TEST(AsyncIo, FallsToThreadsWhereIoUringIsForbidden) {
  const pid_t child = ::fork();
  if (child == 0) {
    sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program{.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
      ::_exit(77);
    }
    auto io = AsyncIo::Create({});
    ::_exit(io && (*io)->kind() == "threads" ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no seccomp here";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// A file that is only a name, for the queue.
class NamedFile : public DirectFile {
 public:
  Status Read(int64_t, std::span<std::byte>) const override { return {}; }
  Status Write(int64_t, std::span<const std::byte>) override { return {}; }
  Status Sync() override { return {}; }
  Status Allocate(int64_t) override { return {}; }
  Status PunchHole(int64_t, int64_t) override { return {}; }
  Result<int64_t> Size() const override { return 0; }
  const std::string& path() const override { return path_; }
  bool is_direct() const override { return false; }
  int descriptor() const override { return -1; }

 private:
  std::string path_ = "name";
};

TEST(RequestQueue, OrdersByPriorityThenAgeWithinTheLimitOfEachFile) {
  NamedFile a, b;
  RequestQueue queue(2);
  const auto push = [&](NamedFile& file, int64_t name, uint8_t priority) {
    queue.Push({.file = &file, .offset = name, .priority = priority});
  };
  const auto pop = [&]() -> int64_t {
    auto request = queue.Pop();
    return request ? request->offset : -1;
  };
  EXPECT_TRUE(queue.empty());
  push(a, 1, 1), push(a, 2, 1), push(a, 3, 0), push(b, 4, 1), push(a, 5, 9), push(b, 6, 0);
  EXPECT_EQ(pop(), 3);
  EXPECT_EQ(pop(), 6);
  EXPECT_EQ(pop(), 1);
  EXPECT_EQ(pop(), 4) << "a has two running";
  EXPECT_FALSE(queue.Ready());
  EXPECT_EQ(pop(), -1);
  queue.Finished(&b);
  EXPECT_FALSE(queue.Ready()) << "only a waits";
  queue.Finished(&a);
  EXPECT_EQ(pop(), 2);
  push(b, 7, 2), push(b, 8, 0);
  EXPECT_EQ(pop(), 8);
  const auto rest = queue.TakeAll();
  ASSERT_EQ(rest.size(), 2u);
  EXPECT_EQ(rest[0].offset, 5);
  EXPECT_EQ(rest[1].offset, 7);
  EXPECT_TRUE(queue.empty());
  queue.Finished(&a), queue.Finished(&a), queue.Finished(&b);
  push(a, 9, 0);
  EXPECT_EQ(pop(), 9);
}

}  // namespace
}  // namespace fathom
