#include "engine/warm_weights.h"

#include <fstream>
#include <string>

#include "io/env.h"

namespace fathom {
namespace {

/// MemAvailable of /proc/meminfo in bytes: free memory and page cache that could be given up; 0 when not told.
int64_t AvailableMemory() {
  std::ifstream file("/proc/meminfo");
  std::string name, unit;
  for (int64_t kib = 0; file >> name >> kib; std::getline(file, unit))
    if (name == "MemAvailable:") return kib * 1024;
  return 0;
}

}  // namespace

std::jthread WarmWeights(const ModelFile& file) {
  if (file.tensor_bytes() > AvailableMemory() / 10 * 9) return {};
  return std::jthread([&file](std::stop_token stop) {
    for (const TensorInfo& tensor : file.tensors()) {
      if (stop.stop_requested()) return;
      file.Advise(tensor, MapAdvice::kPopulate);
    }
  });
}

}  // namespace fathom
