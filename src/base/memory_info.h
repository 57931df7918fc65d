// What /proc/meminfo says. Thread-safe: reads the file anew each time.
#pragma once

#include <cstdint>
#include <string>

namespace fathom {

/// An entry such as "MemTotal" or "MemAvailable" (free memory and page cache that could be given up), in bytes; 0 when
/// the kernel does not tell.
int64_t MemInfo(const std::string& key);

}  // namespace fathom
