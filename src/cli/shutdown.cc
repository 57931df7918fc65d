#include "cli/shutdown.h"

#include <semaphore.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

namespace fathom {
namespace {

sem_t g_requests;
std::atomic<bool> g_asked{false};
struct sigaction g_before_int, g_before_term;

static_assert(std::atomic<bool>::is_always_lock_free);

void OnSignal(int signal_number) {
  if (g_asked.exchange(true)) {
    // A second SIGTERM is often the same one, sent to a process group as well; a second Ctrl-C is meant.
    if (signal_number == SIGINT) _exit(130);
    return;
  }
  const int error = errno;
  sem_post(&g_requests);
  errno = error;
}

}  // namespace

ShutdownScope::ShutdownScope() {
  sem_init(&g_requests, 0, 0);
  g_asked = false;
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, &g_before_int);
  sigaction(SIGTERM, &action, &g_before_term);
}

ShutdownScope::~ShutdownScope() {
  sigaction(SIGINT, &g_before_int, nullptr);
  sigaction(SIGTERM, &g_before_term, nullptr);
  sem_destroy(&g_requests);
}

void ShutdownScope::Wait() {
  while (sem_wait(&g_requests) != 0 && errno == EINTR) {
  }
}

}  // namespace fathom
