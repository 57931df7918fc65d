#include "io/bus_guard.h"

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <mutex>
#include <utility>

namespace fathom {
namespace {

// What the handler reads; free while end is 0.
struct Entry {
  std::atomic<uintptr_t> begin{0}, end{0};
  std::atomic<bool> lost{false};
};
std::array<Entry, BusGuard::kMost> entries;
std::atomic<int> used{0};  // entries below it have been used
std::mutex entries_mutex;
struct sigaction before;
uintptr_t page_size = 4096;

void OnBusError(int signal, siginfo_t* info, void* context) {
  const int error = errno;
  const auto at = reinterpret_cast<uintptr_t>(info->si_addr);
  const int count = used.load(std::memory_order_acquire);
  for (int i = 0; i < count; ++i) {
    Entry& entry = entries[static_cast<size_t>(i)];
    const uintptr_t end = entry.end.load(std::memory_order_acquire);
    if (at >= end || at < entry.begin.load(std::memory_order_acquire)) continue;
    // The rest of a file that was cut would fault page by page.
    const uintptr_t from = at / page_size * page_size;
    void* const zeros = mmap(reinterpret_cast<void*>(from), end - from, PROT_READ,
                             MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (zeros == MAP_FAILED) break;
    entry.lost.store(true, std::memory_order_release);
    errno = error;
    return;
  }
  errno = error;
  if ((before.sa_flags & SA_SIGINFO) != 0 && before.sa_sigaction != nullptr) return before.sa_sigaction(signal, info, context);
  if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) return before.sa_handler(signal);
  sigaction(SIGBUS, &before, nullptr);  // and once more, without us
}

bool SetHandler() {
  page_size = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  struct sigaction action{};
  action.sa_sigaction = OnBusError;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  return sigaction(SIGBUS, &action, &before) == 0;
}

}  // namespace

BusGuard::BusGuard(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  const std::lock_guard lock(entries_mutex);
  static const bool set = SetHandler();
  if (!set) return;
  int index = 0;
  while (index < kMost && entries[static_cast<size_t>(index)].end.load(std::memory_order_relaxed) != 0) ++index;
  if (index == kMost) return;
  Entry& entry = entries[static_cast<size_t>(index)];
  const auto begin = reinterpret_cast<uintptr_t>(bytes.data());
  entry.lost.store(false, std::memory_order_relaxed);
  entry.begin.store(begin, std::memory_order_release);
  // A mapping ends with a whole page.
  entry.end.store((begin + bytes.size() + page_size - 1) / page_size * page_size, std::memory_order_release);
  if (index >= used.load(std::memory_order_relaxed)) used.store(index + 1, std::memory_order_release);
  index_ = index;
}

BusGuard::~BusGuard() {
  if (index_ < 0) return;
  const std::lock_guard lock(entries_mutex);
  entries[static_cast<size_t>(index_)].end.store(0, std::memory_order_release);
}

BusGuard::BusGuard(BusGuard&& other) noexcept : index_(std::exchange(other.index_, -1)) {}

BusGuard& BusGuard::operator=(BusGuard&& other) noexcept {
  std::swap(index_, other.index_);
  return *this;
}

bool BusGuard::lost() const {
  return index_ >= 0 && entries[static_cast<size_t>(index_)].lost.load(std::memory_order_acquire);
}

Status LostPages(const std::string& path) {
  return Fail(ErrorCode::kCorrupt, "{}: a part of it could not be read (it was cut for a while, or the disk gave an error); "
              "load it again", path);
}

}  // namespace fathom
