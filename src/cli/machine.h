// What this machine has, as far as the kernel tells. Reads /proc and /sys; thread-safe.
#pragma once

#include <cstdint>
#include <string>

namespace fathom {

struct Machine {
  std::string processor;       // "AMD EPYC 9R14", "unknown"
  int cores = 1;               // that this process may use
  std::string features;        // the vector extensions that kernels ask for, space separated
  int64_t memory_total = 0, memory_available = 0;  // bytes
  int64_t memory_limit = 0;    // of the cgroup, 0 when none
  std::string huge_pages;      // "always", "madvise", "never", "unknown"
  int64_t disk_free = 0;       // where models are kept
};

Machine ExamineMachine();

}  // namespace fathom
