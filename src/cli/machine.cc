#include "cli/machine.h"

#include <algorithm>
#include <fstream>

#include "base/memory_info.h"
#include "base/thread_pool.h"
#include "cli/models.h"
#include "cli/part_file.h"

namespace fathom {
namespace {

std::string Trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\n");
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(" \t\n") - begin + 1);
}

/// 0 when there is no limit below the machine's memory.
int64_t CgroupLimit(int64_t total) {
  for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::ifstream file(path);
    int64_t limit = 0;
    if (file >> limit && limit > 0 && limit < total) return limit;
  }
  return 0;
}

void ReadProcessor(Machine& machine) {
  static constexpr const char* kWanted[] = {"avx2",        "fma",      "avx512f",  "avx512bw", "avx512_vnni",
                                            "avx512_bf16", "avx_vnni", "amx_int8", "asimd",    "asimddp",
                                            "i8mm",        "bf16",     "sve"};
  std::ifstream file("/proc/cpuinfo");
  machine.processor = "unknown";
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::string key = Trimmed(line.substr(0, colon)), value = Trimmed(line.substr(colon + 1));
    if (key == "model name" && machine.processor == "unknown") machine.processor = value;
    if ((key == "flags" || key == "Features") && machine.features.empty()) {
      const std::string padded = " " + value + " ";
      for (const char* flag : kWanted) {
        if (padded.find(std::string(" ") + flag + " ") == std::string::npos) continue;
        machine.features += (machine.features.empty() ? "" : " ") + std::string(flag);
      }
    }
  }
}

std::string HugePages() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string text;
  std::getline(file, text);
  const size_t open = text.find('['), close = text.find(']');
  return open == std::string::npos || close == std::string::npos ? "unknown" : text.substr(open + 1, close - open - 1);
}

}  // namespace

Machine ExamineMachine() {
  Machine machine;
  machine.cores = ThreadPool::AvailableCores();
  machine.memory_total = MemInfo("MemTotal");
  machine.memory_available = MemInfo("MemAvailable");
  machine.memory_limit = CgroupLimit(machine.memory_total);
  if (machine.memory_limit > 0) machine.memory_available = std::min(machine.memory_available, machine.memory_limit);
  machine.huge_pages = HugePages();
  if (const auto folder = ModelsFolder()) machine.disk_free = std::max<int64_t>(FreeDiskSpace(*folder), 0);
  ReadProcessor(machine);
  return machine;
}

}  // namespace fathom
