#include "cache/kv_guard.h"

#include <chrono>
#include <condition_variable>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/log.h"

namespace fathom {
namespace {

// Where caches stay that nobody can take apart: reachable, so that leak checkers know that it is meant.
void Bury(KvCacheImpl* impl) {
  static std::mutex mutex;
  static auto* const graves = new std::vector<KvCacheImpl*>;
  const std::lock_guard lock(mutex);
  graves->push_back(impl);
}

}  // namespace

struct GuardedKvCache::Call {
  std::mutex mutex;
  std::condition_variable changed;
  bool ended = false;
  Status status;
};

std::shared_ptr<GuardedKvCache::Call> GuardedKvCache::Run(std::function<Status()> fn, bool* ended) {
  using Clock = std::chrono::steady_clock;
  const auto call = std::make_shared<Call>();
  const auto progress = impl_->progress();  // outlives it
  const auto work = [call, fn = std::move(fn)] {
    Status status = fn();
    const std::lock_guard lock(call->mutex);
    call->status = std::move(status);
    call->ended = true;
    call->changed.notify_all();
  };
  try {
    std::thread(work).detach();
  } catch (const std::system_error&) {
    work();  // no threads left: unguarded
  }
  std::unique_lock lock(call->mutex);
  int64_t seen = progress->load();
  auto last = Clock::now();
  while (!call->changed.wait_for(lock, std::chrono::milliseconds(50), [&] { return call->ended; })) {
    const int64_t now = progress->load();
    if (std::exchange(seen, now) != now) last = Clock::now();
    if (Clock::now() - last > std::chrono::duration<double>(patience_)) break;
  }
  *ended = call->ended;
  return call;
}

Status GuardedKvCache::Flush() {
  const std::lock_guard lock(flush_mutex_);
  const auto silent = [&]() -> Status {
    return Fail(ErrorCode::kIo, "the cache's device has not answered for {:.3g} s; what was still to be written is lost",
                patience_);
  };
  if (stuck_) {
    const std::lock_guard guard(stuck_->mutex);
    if (!stuck_->ended) return silent();
  }
  stuck_.reset();
  bool ended = false;
  auto call = Run([impl = impl_] { return impl->Flush(); }, &ended);
  if (!ended) {
    stuck_ = std::move(call);
    return silent();
  }
  const std::lock_guard guard(call->mutex);
  return call->status;
}

GuardedKvCache::~GuardedKvCache() {
  impl_->Detach();
  bool ended = true;
  if (stuck_) {
    const std::lock_guard guard(stuck_->mutex);
    ended = stuck_->ended;
  }
  if (ended) {
    Run(
        [impl = impl_]() -> Status {
          delete impl;
          return {};
        },
        &ended);
  }
  if (ended) return;
  spdlog::warn("the cache's device does not answer: leaving without it, what was still to be written is lost");
  Bury(impl_);
}

}  // namespace fathom
