// How much memory this process and the page cache could still get. Thread-safe: reads the kernel's files anew each time.
#pragma once

#include <cstdint>
#include <string>

namespace fathom {

/// Bytes: what the machine has free or could free (MemAvailable), and no more than any limit of this process's cgroup, or of
/// one above it, leaves (versions 1 and 2; the page cache of a group counts as what it could free). root: where /proc and
/// /sys are, for tests. 0 when the kernel does not tell.
int64_t AvailableMemory(const std::string& root = "");

}  // namespace fathom
