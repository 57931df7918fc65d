#include "engine/warm_weights.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/memory_info.h"
#include "base/start_thread.h"
#include "format/tensor_role.h"
#include "io/env.h"

namespace fathom {
namespace {

// A few milliseconds of an SSD: so long may somebody's rows have to wait for a piece that has begun.
constexpr int64_t kPieceBytes = int64_t{8} << 20;
constexpr auto kNap = std::chrono::milliseconds(1);
constexpr int kMostNaps = 30'000;

/// Not of the mapping's business when experts come from somewhere else; an MTP layer is mostly experts.
bool IsRoutedExpert(const ModelFile& file, const std::string& name) {
  const TensorRole role = RoleOf(file.config(), name);
  return role == TensorRole::kRoutedExpert || role == TensorRole::kMtp;
}

}  // namespace

std::jthread WarmWeights(const ModelFile& file, std::shared_ptr<const std::atomic<int>> urgent, bool experts) {
  int64_t bytes = 0;
  for (const TensorInfo& tensor : file.tensors()) bytes += experts || !IsRoutedExpert(file, tensor.name) ? tensor.bytes : 0;
  if (bytes > MemInfo("MemAvailable") / 10 * 9) return {};
  auto thread = StartThread<std::jthread>([&file, urgent = std::move(urgent), experts](std::stop_token stop) {
    int naps = 0;
    for (const TensorInfo& tensor : file.tensors()) {
      if (!experts && IsRoutedExpert(file, tensor.name)) continue;
      TensorInfo piece = {.file = tensor.file};
      for (int64_t at = 0; at < tensor.bytes; at += kPieceBytes) {
        while (urgent && *urgent > 0 && naps < kMostNaps && !stop.stop_requested()) {
          std::this_thread::sleep_for(kNap);
          ++naps;
        }
        if (stop.stop_requested()) return;
        piece.offset = tensor.offset + at;
        piece.bytes = std::min(kPieceBytes, tensor.bytes - at);
        file.Advise(piece, MapAdvice::kPopulate);
      }
    }
  });
  if (!thread) return {};  // pages come when they are touched
  return std::move(*thread);
}

}  // namespace fathom
