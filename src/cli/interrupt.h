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

}  // namespace fathom
