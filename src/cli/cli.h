// The program: parses the command line, runs one command, turns its Status into words and an exit status.
//
// Exit status: 0 done, 1 the command failed, 2 the command line is wrong, 130 interrupted by
// Ctrl-C, 143 by SIGTERM and 129 by SIGHUP. Errors go to stderr: one
// line `fathom: …` first, hints after it. Not thread-safe; call once per process.
#pragma once

#include <string_view>

#include "base/result.h"

namespace fathom {

int Main(int argc, char** argv);

/// A write past the limit on files (`ulimit -f`) is from now on an error value (EFBIG) instead of the end of the program.
void IgnoreFileSizeSignal();

/// The error as the user sees it, with a newline at its end: the first line of the message after "fathom: ", further
/// lines indented.
std::string FormatError(const Error& error);
/// 2 for kInvalidArgument, 128 and the signal (130 for Ctrl-C) for kCancelled, else 1.
int ExitStatus(const Error& error);

}  // namespace fathom
