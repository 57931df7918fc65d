// The program's log: one line to stderr for people who run fathom. Prompts and generated text never go here.
#pragma once

#include <spdlog/spdlog.h>

namespace fathom {

/// Sends the log to stderr with a short pattern; called once by main. FATHOM_LOG=trace|debug|info|warn|error|critical|off
/// sets the level (default warn, also for another value, which is said).
void InitLog();

}  // namespace fathom
