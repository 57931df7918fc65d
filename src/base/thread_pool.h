// A fork-join pool for compute. Between runs threads spin briefly and then sleep, so that the hundreds of small
// parallel regions of one decode step cost about a microsecond each and an idle program costs nothing.
//
// Regions come in two kinds. Run() calls a function on every thread. RunAnyOf() and ParallelFor() hand out work
// dynamically and do not wait for a thread that has not shown up by the time the work is done: on a machine with other
// things to do, a thread that the kernel has put aside would otherwise hold up everybody at every region.
//
// One thread at a time (the pool's owner) starts regions and takes part as thread 0. Functions must not throw and must
// not start regions themselves.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#include "base/result.h"

namespace fathom {

class ThreadPool {
 public:
  /// threads >= 1; 0 means one per core that this process may run on. Errors: kResource: the system gives fewer.
  static Result<std::unique_ptr<ThreadPool>> Create(int threads = 0);
  /// The same for tests and benchmarks, where too few threads end the program.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return size_; }

  /// Calls fn(thread) once on each thread, thread in [0, size()), and returns when all are done.
  template <typename Fn>
  void Run(Fn&& fn) {
    using Plain = std::remove_reference_t<Fn>;
    RunErased([](void* context, int thread) { (*static_cast<Plain*>(context))(thread); },
              const_cast<void*>(static_cast<const void*>(&fn)), true);
  }

  /// Calls fn(thread) on thread 0 and on those others that are ready in time. fn takes its work from something shared
  /// (an atomic counter), and when it returns on thread 0 no work may be left that nobody has taken.
  template <typename Fn>
  void RunAnyOf(Fn&& fn) {
    using Plain = std::remove_reference_t<Fn>;
    RunErased([](void* context, int thread) { (*static_cast<Plain*>(context))(thread); },
              const_cast<void*>(static_cast<const void*>(&fn)), false);
  }

  /// Calls fn(index, thread) for every index in [0, count), handing out `grain` indices at a time.
  template <typename Fn>
  void ParallelFor(int64_t count, int64_t grain, Fn&& fn) {
    if (count <= 0) return;
    if (size_ == 1 || count <= grain) {
      for (int64_t i = 0; i < count; ++i) fn(i, 0);
      return;
    }
    std::atomic<int64_t> next{0};
    RunAnyOf([&](int thread) {
      for (int64_t begin; (begin = next.fetch_add(grain, std::memory_order_relaxed)) < count;) {
        const int64_t end = begin + grain < count ? begin + grain : count;
        for (int64_t i = begin; i < end; ++i) fn(i, thread);
      }
    });
  }

  /// Cores that this process may run on (affinity mask), at least 1.
  static int AvailableCores();

 private:
  using Erased = void (*)(void* context, int thread);
  struct NotStarted {};
  ThreadPool(int threads, NotStarted) : size_(threads > 0 ? threads : AvailableCores()) {}
  Status Start();
  void RunErased(Erased fn, void* context, bool all);
  void WorkerLoop(int thread);

  int size_;
  Erased fn_ = nullptr;
  void* context_ = nullptr;
  // Number of the region in the high bits, then whether it is closed, then how many workers have entered it. One word,
  // so that a worker enters the region it saw or none.
  std::atomic<uint64_t> gate_{0};
  std::atomic<uint32_t> left_{0};  // workers that have finished the region
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> workers_;
};

}  // namespace fathom
