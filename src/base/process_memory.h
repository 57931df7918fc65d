// How much memory this process takes, by the kernel's own accounting. Thread-safe: asks anew each time.
#pragma once

#include <cstdint>

namespace fathom {

struct ProcessMemory {
  int64_t resident = 0;   // now, bytes: anonymous memory and the pages of mapped files that are in use
  int64_t peak = 0;       // the most that it ever was
  int64_t anonymous = 0;  // of resident
  int64_t files = 0;      // of resident: the program itself, mapped models
};

/// Zeros where the kernel does not tell (/proc/self/status).
ProcessMemory ReadProcessMemory();

}  // namespace fathom
