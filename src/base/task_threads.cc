#include "base/task_threads.h"

#include <system_error>
#include <utility>

namespace fathom {

Status TaskThreads::Start(int threads) {
  try {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Loop(); });
  } catch (const std::system_error& error) {
    return Fail(ErrorCode::kResource, "cannot start a thread: {}", error.what());
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
