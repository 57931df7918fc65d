// Ctrl-C as a question: the first one asks the running work to stop, a second one before the work has looked ends the
// program at once. Commands that write files for long take SIGTERM and SIGHUP for the same question, so that nothing half
// written stays behind; those are often sent twice, and a second one changes nothing.
//
// The flag is process-wide and safe to read from any thread.
#pragma once

namespace fathom {

enum class InterruptBy { kCtrlC, kAnyEnd };  // SIGINT; also SIGTERM, and SIGHUP unless it is ignored (nohup)

/// While alive, these signals set the flag instead of killing the program. May be nested; the outermost one counts.
class InterruptScope {
 public:
  explicit InterruptScope(InterruptBy by = InterruptBy::kCtrlC);
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;
};

/// True since the last such signal until ClearInterrupt().
bool Interrupted();
/// The signal of the last interruption, SIGINT when there was none: the exit status of a command that ends by it is 128 more.
int InterruptSignal();
void ClearInterrupt();

enum class InputWait { kReady, kInterrupted, kOtherSignal };
/// Waits until standard input has something to read (or has ended), or a signal comes. A Ctrl-C is noticed whenever it
/// comes, also just before the wait. REQUIRES: an InterruptScope is alive.
InputWait WaitForInput();

}  // namespace fathom
