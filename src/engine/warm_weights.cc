#include "engine/warm_weights.h"

#include "base/memory_info.h"
#include "io/env.h"

namespace fathom {

std::jthread WarmWeights(const ModelFile& file) {
  if (file.tensor_bytes() > MemInfo("MemAvailable") / 10 * 9) return {};
  return std::jthread([&file](std::stop_token stop) {
    for (const TensorInfo& tensor : file.tensors()) {
      if (stop.stop_requested()) return;
      file.Advise(tensor, MapAdvice::kPopulate);
    }
  });
}

}  // namespace fathom
