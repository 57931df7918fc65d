#include "base/task_threads.h"

#include <utility>

#include "base/start_thread.h"

namespace fathom {

Status TaskThreads::Start(int threads) {
  for (int i = 0; i < threads; ++i) {
    FATHOM_TRY(auto thread, StartThread([this] { Loop(); }, {.started = i, .asked = threads}));
    threads_.push_back(std::move(thread));
  }
  return {};
}

void TaskThreads::Post(std::function<void()> task) {
  // Notified with the mutex held: as soon as this task has been done this object may be at its end.
  const std::lock_guard lock(mutex_);
  tasks_.push_back(std::move(task));
  wake_.notify_one();
}

void TaskThreads::Finish() {
  {
    const std::lock_guard lock(mutex_);
    finish_ = true;
    wake_.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void TaskThreads::Loop() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return !tasks_.empty() || finish_; });
    if (tasks_.empty()) return;
    auto task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
    task = nullptr;
    lock.lock();
  }
}

}  // namespace fathom
