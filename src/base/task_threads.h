// A few threads that do what is posted to them, in the order in which it was posted: for callbacks that must not run on the
// thread that has the news.
//
// Post may be called by anybody, also by a task; tasks must not throw, nor destroy this object. A task's own resources are
// let go before the next one begins.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/result.h"

namespace fathom {

class TaskThreads {
 public:
  TaskThreads() = default;
  ~TaskThreads() { Finish(); }
  TaskThreads(const TaskThreads&) = delete;
  TaskThreads& operator=(const TaskThreads&) = delete;

  /// Once. Errors: kResource; those that could be started are there.
  Status Start(int threads);
  void Post(std::function<void()> task);
  /// Returns when everything that was posted, also by these tasks themselves, has been done. What others post afterwards is
  /// not done any more; it is let go with this object.
  void Finish();

 private:
  void Loop();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
  bool finish_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace fathom
