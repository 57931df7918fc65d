#include "base/thread_pool.h"

#include <sched.h>

#include <cstdio>
#include <cstdlib>

#include "base/start_thread.h"

namespace fathom {
namespace {

// About 50 µs of spinning: longer than the gaps inside a decode step, shorter than anything a person notices.
constexpr int kSpins = 20000;

constexpr uint64_t kClosed = 1u << 15;
constexpr uint64_t kEntered = kClosed - 1;
constexpr int kRegionShift = 16;

inline void CpuRelax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

int ThreadPool::AvailableCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    const int count = CPU_COUNT(&set);
    if (count > 0) return count;
  }
  const unsigned hardware = std::thread::hardware_concurrency();
  return hardware > 0 ? static_cast<int>(hardware) : 1;
}

Result<std::unique_ptr<ThreadPool>> ThreadPool::Create(int threads) {
  std::unique_ptr<ThreadPool> pool(new ThreadPool(threads, NotStarted{}));
  FATHOM_CHECK_OK(pool->Start());
  return pool;
}

ThreadPool::ThreadPool(int threads) : ThreadPool(threads, NotStarted{}) {
  if (const Status started = Start(); !started) {
    std::fprintf(stderr, "%s\n", started.error().message.c_str());
    std::abort();
  }
}

Status ThreadPool::Start() {
  workers_.reserve(static_cast<size_t>(size_ - 1));
  for (int i = 1; i < size_; ++i) {
    FATHOM_TRY(auto worker, StartThread([this, i] { WorkerLoop(i); }, {.started = i, .asked = size_, .chosen = true}));
    workers_.push_back(std::move(worker));
  }
  return {};
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    stop_.store(true);
  }
  wake_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void ThreadPool::RunErased(Erased fn, void* context, bool all) {
  if (size_ == 1) {
    fn(context, 0);
    return;
  }
  fn_ = fn;
  context_ = context;
  left_.store(0, std::memory_order_relaxed);
  const uint64_t region = (gate_.load(std::memory_order_relaxed) >> kRegionShift) + 1;
  // seq_cst on gate_ and sleepers_: either the sleeper sees the new region before it sleeps, or we see the sleeper.
  gate_.store(region << kRegionShift, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) {
    std::lock_guard lock(mutex_);
    wake_.notify_all();
  }
  fn(context, 0);
  uint32_t wanted = static_cast<uint32_t>(size_ - 1);
  if (!all) wanted = static_cast<uint32_t>(gate_.fetch_or(kClosed, std::memory_order_acq_rel) & kEntered);
  for (int spin = 0; left_.load(std::memory_order_acquire) != wanted; ++spin) {
    if (spin < kSpins) {
      CpuRelax();
    } else {
      std::this_thread::yield();  // more threads than cores: let the others finish
    }
  }
  if (all) gate_.fetch_or(kClosed, std::memory_order_relaxed);
}

void ThreadPool::WorkerLoop(int thread) {
  uint64_t seen = 0;  // the last region entered or missed
  for (;;) {
    uint64_t gate = gate_.load(std::memory_order_acquire);
    for (int spin = 0; gate >> kRegionShift == seen && spin < kSpins; ++spin) {
      CpuRelax();
      gate = gate_.load(std::memory_order_acquire);
      if (stop_.load(std::memory_order_relaxed)) return;
    }
    if (gate >> kRegionShift == seen) {
      std::unique_lock lock(mutex_);
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      wake_.wait(lock, [&] {
        return stop_.load() || gate_.load(std::memory_order_seq_cst) >> kRegionShift != seen;
      });
      sleepers_.fetch_sub(1, std::memory_order_relaxed);
      if (stop_.load()) return;
      continue;
    }
    seen = gate >> kRegionShift;
    bool entered = false;
    while (gate >> kRegionShift == seen && (gate & kClosed) == 0 && !entered)
      entered = gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel, std::memory_order_acquire);
    if (!entered) continue;
    fn_(context_, thread);
    left_.fetch_add(1, std::memory_order_release);
  }
}

}  // namespace fathom
