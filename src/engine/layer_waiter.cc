#include "engine/layer_waiter.h"

#include <utility>

#include "base/log.h"
#include "base/start_thread.h"

namespace fathom {

LayerWaiter::LayerWaiter(std::shared_ptr<KvLoad> load, int64_t layers) {
  auto thread = StartThread([this, load = std::move(load), layers]() mutable {
    bool there = true;
    for (int64_t layer = 0; there && layer < layers; ++layer) {
      there = load->WaitLayer(layer);
      std::lock_guard lock(mutex_);
      if (there) {
        there_ = layer + 1;
      } else {
        failed_ = true;
      }
      change_.notify_all();
    }
    load.reset();
    std::lock_guard lock(mutex_);
    finished_ = true;
  });
  if (thread) {
    thread_ = std::move(*thread);
  } else {
    spdlog::warn("cache: a prefix is computed instead of loaded: {}", thread.error().message);
    failed_ = finished_ = true;
  }
}

LayerWaiter::State LayerWaiter::Wait(int64_t layer, std::chrono::microseconds most) {
  std::unique_lock lock(mutex_);
  change_.wait_for(lock, most, [&] { return there_ > layer || failed_; });
  return there_ > layer ? State::kThere : failed_ ? State::kFailed : State::kNotYet;
}

bool LayerWaiter::finished() const {
  std::lock_guard lock(mutex_);
  return finished_;
}

}  // namespace fathom
