#include "base/process_memory.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>

namespace fathom {

ProcessMemory ReadProcessMemory() {
  ProcessMemory memory;
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::string key = line.substr(0, colon);
    int64_t* const value = key == "VmRSS"     ? &memory.resident
                           : key == "VmHWM"   ? &memory.peak
                           : key == "RssAnon" ? &memory.anonymous
                           : key == "RssFile" ? &memory.files
                                              : nullptr;
    if (value == nullptr) continue;
    int64_t kib = 0;
    std::istringstream(line.substr(colon + 1)) >> kib;
    *value = kib * 1024;
  }
  // The kernel counts by thread and adds up now and then.
  memory.peak = std::max(memory.peak, memory.resident);
  return memory;
}

}  // namespace fathom
