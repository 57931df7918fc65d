// Ctrl-C as a question: the first one asks the running work to stop, a second one before the work has looked ends the
// program at once.
//
// The flag is process-wide and safe to read from any thread.
#pragma once

namespace fathom {

/// While alive, SIGINT sets the flag instead of killing the program. May be nested.
class InterruptScope {
 public:
  InterruptScope();
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;
};

/// True since the last Ctrl-C until ClearInterrupt().
bool Interrupted();
void ClearInterrupt();

enum class InputWait { kReady, kInterrupted, kOtherSignal };
/// Waits until standard input has something to read (or has ended), or a signal comes. A Ctrl-C is noticed whenever it
/// comes, also just before the wait. REQUIRES: an InterruptScope is alive.
InputWait WaitForInput();

}  // namespace fathom
