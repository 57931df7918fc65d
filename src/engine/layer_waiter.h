// Waits for a load's layers on a thread of its own, so that the engine's thread can wait for them and yet hear what else
// has come, and is not held up by a device that hangs. The thread ends when all layers are there or one did not come,
// which KvLoad promises to happen in bounded time; the destructor waits for that. Where the system gives no thread nothing
// comes: the load has failed, and its rows are computed.
//
// Made, asked and destroyed by one thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include "cache/kv_cache.h"

namespace fathom {

class LayerWaiter {
 public:
  LayerWaiter(std::shared_ptr<KvLoad> load, int64_t layers);
  ~LayerWaiter() {
    if (thread_.joinable()) thread_.join();
  }
  LayerWaiter(const LayerWaiter&) = delete;
  LayerWaiter& operator=(const LayerWaiter&) = delete;

  enum class State { kThere, kFailed, kNotYet };
  /// Whether `layer` has come, waiting for it for at most so long.
  State Wait(int64_t layer, std::chrono::microseconds most);
  /// The destructor would not wait.
  bool finished() const;

 private:
  mutable std::mutex mutex_;
  std::condition_variable change_;
  int64_t there_ = 0;
  bool failed_ = false, finished_ = false;
  std::thread thread_;
};

}  // namespace fathom
