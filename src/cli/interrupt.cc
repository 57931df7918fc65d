#include "cli/interrupt.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>

namespace fathom {
namespace {

std::atomic<int> g_interrupts{0};
std::atomic<int> g_signal{SIGINT};
int g_depth = 0;
InterruptBy g_by = InterruptBy::kCtrlC;
struct sigaction g_before, g_before_term, g_before_hup;

static_assert(std::atomic<int>::is_always_lock_free);

void OnInterrupt(int signal_number) {
  if (g_interrupts.fetch_add(1) == 0) {
    g_signal = signal_number;
    return;
  }
  if (signal_number != SIGINT) return;
  // Nobody looked at the first one: die as if we had never caught it.
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}

}  // namespace

InterruptScope::InterruptScope(InterruptBy by) {
  if (g_depth++ > 0) return;
  g_interrupts = 0;
  g_signal = SIGINT;
  g_by = by;
  struct sigaction action = {};
  action.sa_handler = OnInterrupt;
  sigemptyset(&action.sa_mask);
  // A write to the terminal that a Ctrl-C cuts short would look like a full disk; reads at the prompt use WaitForInput.
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, &g_before);
  if (by != InterruptBy::kAnyEnd) return;
  sigaction(SIGTERM, &action, &g_before_term);
  sigaction(SIGHUP, &action, &g_before_hup);
  if (g_before_hup.sa_handler == SIG_IGN) sigaction(SIGHUP, &g_before_hup, nullptr);
}

InterruptScope::~InterruptScope() {
  if (--g_depth > 0) return;
  sigaction(SIGINT, &g_before, nullptr);
  if (g_by != InterruptBy::kAnyEnd) return;
  sigaction(SIGTERM, &g_before_term, nullptr);
  sigaction(SIGHUP, &g_before_hup, nullptr);
}

bool Interrupted() { return g_interrupts.load(std::memory_order_relaxed) > 0; }
int InterruptSignal() { return g_signal; }
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
