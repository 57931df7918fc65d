#include "cli/interrupt.h"

#include <signal.h>

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
  action.sa_flags = 0;  // no SA_RESTART: a read at the prompt must notice
  sigaction(SIGINT, &action, &g_before);
}

InterruptScope::~InterruptScope() {
  if (--g_depth == 0) sigaction(SIGINT, &g_before, nullptr);
}

bool Interrupted() { return g_interrupts.load(std::memory_order_relaxed) > 0; }
void ClearInterrupt() { g_interrupts = 0; }

}  // namespace fathom
