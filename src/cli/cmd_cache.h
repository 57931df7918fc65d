// The parts of `fathom cache`; cmd_cache.cc puts them together.
#pragma once

#include "cli/command.h"

namespace fathom {

/// `fathom cache simulate`.
void RegisterCacheSimulate(CLI::App& cache, Action& selected);
/// ls, stat, explain, verify, pin, unpin, forget, gc.
void RegisterCacheFolder(CLI::App& cache, Action& selected);

}  // namespace fathom
