// Rows on their way: one BlockLoad a block, shared by every request that wants it, and the KvLoad that a request waits on.
// Internal to cache/.
//
// Thread-safe. A BlockLoad keeps its memory alive until the device has answered, so a request may give up on it at any
// time.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "cache/kv_cache.h"

namespace fathom {

/// Waits until done(), or until `clock` says that the deadline has passed: false.
template <typename Done>
bool WaitUntil(std::condition_variable& changed, std::unique_lock<std::mutex>& lock, const KvClock& clock,
               std::chrono::steady_clock::time_point deadline, Done done) {
  while (!done()) {
    const auto left = deadline - clock();
    if (left <= std::chrono::steady_clock::duration::zero()) return false;
    changed.wait_for(lock, left);
  }
  return true;
}

/// What waiting requests sleep on; one a cache.
struct LoadSync {
  std::mutex mutex;
  std::condition_variable changed;
};

class BlockLoad {
 public:
  BlockLoad(std::shared_ptr<LoadSync> sync, KvBlockRef block, int64_t layers)
      : sync_(std::move(sync)), block_(std::move(block)), ready_(static_cast<size_t>(layers), false), left_(layers) {}

  /// Layers [first, first + count) have come, or could not. True when this was the last piece.
  bool Arrived(int64_t first, int64_t count, const Status& status);
  const KvBlockRef& block() const { return block_; }

  enum class State { kWaiting, kReady, kFailed };
  /// REQUIRES: the sync's mutex is held.
  State LayerState(int64_t layer) const {
    if (failed_) return State::kFailed;
    return ready_[static_cast<size_t>(layer)] ? State::kReady : State::kWaiting;
  }
  bool done_locked() const { return left_ == 0; }
  bool failed_locked() const { return failed_; }
  const Error& error_locked() const { return error_; }
  LoadSync& sync() const { return *sync_; }

 private:
  std::shared_ptr<LoadSync> sync_;
  KvBlockRef block_;
  std::vector<bool> ready_;
  int64_t left_;  // layers that have not been answered for
  bool failed_ = false;
  Error error_;
};

class PrefixLoad final : public KvLoad {
 public:
  using Clock = std::chrono::steady_clock;
  struct Piece {
    std::shared_ptr<BlockLoad> load;
    int64_t first_token;  // of the block
  };
  /// tokens: of the whole prefix. patience: seconds, from now on and by `clock`, that a request waits altogether.
  PrefixLoad(std::shared_ptr<LoadSync> sync, std::vector<Piece> pieces, int64_t tokens, double patience, KvClock clock,
             std::function<void(double)> waited);

  bool WaitLayer(int64_t layer) override;
  bool Done() const override;
  int64_t valid_tokens() const override;

 private:
  std::shared_ptr<LoadSync> sync_;
  std::vector<Piece> pieces_;  // by first_token
  int64_t valid_tokens_;
  KvClock clock_;
  Clock::time_point deadline_;
  std::function<void(double)> waited_;
  int64_t layers_there_ = 0;  // layers below are known to have come
};

}  // namespace fathom
