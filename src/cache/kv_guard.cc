#include "cache/kv_guard.h"

#include <chrono>
#include <condition_variable>
#include <string_view>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/start_thread.h"

namespace fathom {
namespace {

// Where caches stay that nobody can take apart: reachable, so that leak checkers know that it is meant.
void Bury(KvCacheImpl* impl) {
  static std::mutex mutex;
  static auto* const graves = new std::vector<KvCacheImpl*>;
  const std::lock_guard lock(mutex);
  graves->push_back(impl);
}

constexpr std::string_view kNotForgotten =
    "what was to be forgotten may still stand on it: forget it again after the next start";

}  // namespace

struct GuardedKvCache::Call {
  std::mutex mutex;
  std::condition_variable changed;
  bool ended = false;
  Status status;
};

std::shared_ptr<GuardedKvCache::Call> GuardedKvCache::Run(std::function<Status()> fn) {
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
  if (auto thread = StartThread(work)) {
    thread->detach();
  } else {
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
  return call;
}

bool GuardedKvCache::AnyStuck() {
  const std::lock_guard lock(mutex_);
  std::erase_if(stuck_, [](const std::shared_ptr<Call>& call) {
    const std::lock_guard guard(call->mutex);
    if (call->ended && !call->status) spdlog::warn("KV cache: {}", call->status.error().message);  // nobody else hears of it
    return call->ended;
  });
  return !stuck_.empty();
}

Status GuardedKvCache::Guard(std::string_view consequence, std::function<Status()> fn) {
  const auto silent = [&]() -> Status {
    return Fail(ErrorCode::kIo, "{}the cache's device has not answered for {:.3g} s; {}\nSee to the disk (dmesg says what "
                                "the system knows of it), or use another cache folder.",
                directory_.empty() ? "" : directory_ + ": ", patience_, consequence);
  };
  if (AnyStuck()) return silent();
  auto call = Run(std::move(fn));
  {
    const std::lock_guard guard(call->mutex);
    if (call->ended) return call->status;
  }
  const std::lock_guard lock(mutex_);
  stuck_.push_back(std::move(call));
  return silent();
}

template <typename T>
Result<T> GuardedKvCache::GuardResult(std::string_view consequence, std::function<Result<T>()> fn) {
  const auto result = std::make_shared<Result<T>>();
  FATHOM_CHECK_OK(Guard(consequence, [result, fn = std::move(fn)]() -> Status {
    *result = fn();
    if (!*result) return std::unexpected(result->error());
    return {};
  }));
  return std::move(*result);
}

Status GuardedKvCache::Open() {
  return Guard("the cache was not opened", [impl = impl_] { return impl->Open(); });
}

Status GuardedKvCache::Flush() {
  return Guard("what was still to be written is lost", [impl = impl_] { return impl->Flush(); });
}

Result<int64_t> GuardedKvCache::Forget(std::string_view tenant, std::span<const int32_t> tokens, bool everything) {
  return GuardResult<int64_t>(
      kNotForgotten, [impl = impl_, tenant = std::string(tenant), tokens = std::vector(tokens.begin(), tokens.end()),
                      everything] { return impl->Forget(tenant, tokens, everything); });
}

Result<int64_t> GuardedKvCache::ForgetTenant(std::string_view tenant) {
  return GuardResult<int64_t>(kNotForgotten,
                              [impl = impl_, tenant = std::string(tenant)] { return impl->ForgetTenant(tenant); });
}

Result<int64_t> GuardedKvCache::CollectGarbage() {
  return GuardResult<int64_t>("what has expired may still stand on it", [impl = impl_] { return impl->CollectGarbage(); });
}

Result<std::pair<int64_t, int64_t>> GuardedKvCache::Verify(
    const std::function<bool(int64_t done, int64_t total)>& progress) {
  // The caller's function is not called any more once the caller has gone.
  struct Listener {
    std::mutex mutex;
    const std::function<bool(int64_t, int64_t)>* progress = nullptr;
    bool gone = false;
  };
  const auto listener = std::make_shared<Listener>();
  if (progress) listener->progress = &progress;
  auto result = GuardResult<std::pair<int64_t, int64_t>>("not all blocks were verified", [impl = impl_, listener] {
    return impl->Verify([listener](int64_t done, int64_t total) {
      const std::lock_guard lock(listener->mutex);
      return !listener->gone && (listener->progress == nullptr || (*listener->progress)(done, total));
    });
  });
  const std::lock_guard lock(listener->mutex);
  listener->gone = true;
  return result;
}

GuardedKvCache::~GuardedKvCache() {
  impl_->Detach();
  bool stuck = AnyStuck();
  if (!stuck) {
    const auto call = Run([impl = impl_]() -> Status {
      delete impl;
      return {};
    });
    const std::lock_guard guard(call->mutex);
    stuck = !call->ended;
  }
  if (!stuck) return;
  spdlog::warn("the cache's device does not answer: leaving without it, what was still to be written is lost");
  Bury(impl_);
}

}  // namespace fathom
