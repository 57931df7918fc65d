// From the service's thread to a connection: events in order, and one wake-up for however many have gathered.
//
// Put() may be called on any thread, also after Close(): then it does nothing, so that a service which is still busy
// with a request never touches a connection that has gone. Take() and Close() belong to the connection's thread.
#pragma once

#include <functional>
#include <mutex>
#include <utility>
#include <variant>
#include <vector>

#include "engine/service.h"

namespace fathom {

struct ServiceEvent {
  int32_t choice = 0;
  std::variant<ServiceProgress, ServiceToken, Result<ServiceResult>> what;
};

class Mailbox {
 public:
  /// wake: called with the first event after the box was empty, on the putting thread; must be short.
  explicit Mailbox(std::function<void()> wake) : wake_(std::move(wake)) {}

  void Put(ServiceEvent event) {
    const std::lock_guard lock(mutex_);
    if (!wake_) return;
    events_.push_back(std::move(event));
    if (events_.size() == 1) wake_();
  }
  std::vector<ServiceEvent> Take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(events_, {});
  }
  void Close() {
    const std::lock_guard lock(mutex_);
    wake_ = nullptr;
    events_.clear();
  }

 private:
  std::mutex mutex_;
  std::function<void()> wake_;
  std::vector<ServiceEvent> events_;
};

}  // namespace fathom
