// Threads that may not be had: under a low `ulimit -u`, `ulimit -v` or a container's limit of processes the system refuses
// one, which std::thread tells with an exception. Here it is an error value.
//
// Thread-safe.
#pragma once

#include <functional>
#include <string_view>
#include <thread>
#include <utility>

#include "base/result.h"

namespace fathom {

/// Which of how many a thread is, for the error's words.
struct ThreadOf {
  int started = 0;  // before this one
  int asked = 1;
  bool chosen = false;  // --threads says how many
};

/// What is said where the system refused a thread.
Error NoThread(ThreadOf which, std::string_view reason);

namespace internal {
/// Calls start(), which makes the thread; its exceptions become the error.
Status TryToStart(ThreadOf which, const std::function<void()>& start);
}  // namespace internal

/// Starts a thread that runs fn (which must not throw); Thread: std::thread, or std::jthread, whose fn may take a
/// stop_token. Errors: kResource: with how many were asked for, how many had started, and what to do.
template <typename Thread = std::thread, typename Fn>
[[nodiscard]] Result<Thread> StartThread(Fn&& fn, ThreadOf which = {}) {
  Thread thread;
  FATHOM_CHECK_OK(internal::TryToStart(which, [&] { thread = Thread(std::forward<Fn>(fn)); }));
  return thread;
}

/// While alive, StartThread succeeds so many more times and then fails as under a limit, in the whole process.
class ThreadLimitForTest {
 public:
  explicit ThreadLimitForTest(int more);
  ~ThreadLimitForTest();
  ThreadLimitForTest(const ThreadLimitForTest&) = delete;
  ThreadLimitForTest& operator=(const ThreadLimitForTest&) = delete;
};

}  // namespace fathom
