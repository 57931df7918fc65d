// The program: parses the command line, runs one command, turns its Status into words and an exit status.
//
// Exit status: 0 done, 1 the command failed, 2 the command line is wrong, 130 interrupted. Errors go to stderr: one
// line `fathom: …` first, hints after it. Not thread-safe; call once per process.
#pragma once

#include <string_view>

#include "base/result.h"

namespace fathom {

int Main(int argc, char** argv);

/// The error as the user sees it, with a newline at its end: the first line of the message after "fathom: ", further
/// lines indented.
std::string FormatError(const Error& error);
/// 2 for kInvalidArgument, 130 for kCancelled, else 1.
int ExitStatus(const Error& error);

}  // namespace fathom
