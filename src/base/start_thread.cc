#include "base/start_thread.h"

#include <atomic>
#include <climits>
#include <new>
#include <system_error>

namespace fathom {
namespace {

std::atomic<int> g_left_for_test{INT_MAX};

/// Takes one of those that a test left; true without such a limit.
bool Allowed() {
  int left = g_left_for_test.load();
  while (left != INT_MAX && left > 0) {
    if (g_left_for_test.compare_exchange_weak(left, left - 1)) return true;
  }
  return left == INT_MAX;
}

}  // namespace

Error NoThread(ThreadOf which, std::string_view reason) {
  const std::string count =
      which.asked > 1 ? fmt::format("{} of {} threads could be started", which.started, which.asked)
                      : std::string("1 thread was asked for, 0 could be started");
  return {ErrorCode::kResource,
          fmt::format("the system gives no more threads: {} ({})\n{} the limit on processes or on address space (ulimit -u, "
                      "ulimit -v; in a container its limit of processes).",
                      count, reason, which.chosen ? "Ask for fewer with --threads N, or raise" : "Raise")};
}

namespace internal {

Status TryToStart(ThreadOf which, const std::function<void()>& start) {
  if (!Allowed()) return std::unexpected(NoThread(which, "a test's limit"));
  try {
    start();
  } catch (const std::system_error& error) {
    return std::unexpected(NoThread(which, error.code().message()));
  } catch (const std::bad_alloc&) {  // of what stands beside the stack
    return std::unexpected(NoThread(which, "out of memory"));
  }
  return {};
}

}  // namespace internal

ThreadLimitForTest::ThreadLimitForTest(int more) { g_left_for_test = more; }
ThreadLimitForTest::~ThreadLimitForTest() { g_left_for_test = INT_MAX; }

}  // namespace fathom
