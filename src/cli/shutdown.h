// The end of a program that runs until it is told to stop: the first SIGTERM or Ctrl-C is a request, a Ctrl-C after it
// ends the program at once.
#pragma once

namespace fathom {

/// While alive, SIGINT and SIGTERM are requests. One at a time.
class ShutdownScope {
 public:
  ShutdownScope();
  ~ShutdownScope();
  ShutdownScope(const ShutdownScope&) = delete;
  ShutdownScope& operator=(const ShutdownScope&) = delete;

  /// Blocks until the first request.
  void Wait();
};

}  // namespace fathom
