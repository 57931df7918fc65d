#include "io/left_behind.h"

#include <atomic>
#include <system_error>
#include <thread>
#include <utility>

namespace fathom {
namespace {

std::atomic<int64_t> left{0};

}  // namespace

void LeaveBehind(std::shared_ptr<void> what) {
  ++left;
  // Lives on by itself where no thread can be had.
  auto* const own = new std::shared_ptr<void>(std::move(what));
  try {
    std::thread([own] {
      delete own;
      --left;
    }).detach();
  } catch (const std::system_error&) {
  }
}

int64_t LeftBehind() { return left; }

}  // namespace fathom
