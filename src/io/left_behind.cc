#include "io/left_behind.h"

#include <atomic>
#include <utility>

#include "base/start_thread.h"

namespace fathom {
namespace {

std::atomic<int64_t> left{0};

}  // namespace

void LeaveBehind(std::shared_ptr<void> what) {
  ++left;
  // Lives on by itself where no thread can be had.
  auto* const own = new std::shared_ptr<void>(std::move(what));
  auto thread = StartThread([own] {
    delete own;
    --left;
  });
  if (thread) thread->detach();
}

int64_t LeftBehind() { return left; }

}  // namespace fathom
