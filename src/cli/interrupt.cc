#include "cli/interrupt.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>

namespace fathom {
namespace {

std::atomic<int> g_interrupts{0};
int g_depth = 0;
struct sigaction g_before;

static_assert(std::atomic<int>::is_always_lock_free);

void OnInterrupt(int signal_number) {
  if (g_interrupts.fetch_add(1) == 0) return;
  // Nobody looked at the first one: die as if we had never caught it.
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}

}  // namespace

InterruptScope::InterruptScope() {
  if (g_depth++ > 0) return;
  g_interrupts = 0;
  struct sigaction action = {};
  action.sa_handler = OnInterrupt;
  sigemptyset(&action.sa_mask);
  // A write to the terminal that a Ctrl-C cuts short would look like a full disk; reads at the prompt use WaitForInput.
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, &g_before);
}

InterruptScope::~InterruptScope() {
  if (--g_depth == 0) sigaction(SIGINT, &g_before, nullptr);
}

bool Interrupted() { return g_interrupts.load(std::memory_order_relaxed) > 0; }
void ClearInterrupt() { g_interrupts = 0; }

InputWait WaitForInput() {
  // Between asking the flag and starting to wait a signal could slip in: it is held back until ppoll() waits.
  sigset_t interrupt, before;
  sigemptyset(&interrupt);
  sigaddset(&interrupt, SIGINT);
  pthread_sigmask(SIG_BLOCK, &interrupt, &before);
  InputWait result = InputWait::kInterrupted;
  if (!Interrupted()) {
    pollfd input = {STDIN_FILENO, POLLIN, 0};
    const bool ready = ppoll(&input, 1, nullptr, &before) >= 0;
    result = Interrupted() ? InputWait::kInterrupted : ready ? InputWait::kReady : InputWait::kOtherSignal;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return result;
}

}  // namespace fathom
