#include "cli/weight_traffic.h"

#include <algorithm>

#include "format/tensor_role.h"

namespace fathom {
namespace {

bool IsHead(std::string_view name) { return name == "output.weight" || name == "lm_head.weight"; }

}  // namespace

WeightTraffic CountWeightTraffic(const ModelFile& model) {
  const ModelConfig& config = model.config();
  const auto tensors = model.tensors();
  const bool tied = config.tie_word_embeddings ||
                    std::none_of(tensors.begin(), tensors.end(), [](const TensorInfo& t) { return IsHead(t.name); });
  WeightTraffic traffic;
  for (const TensorInfo& tensor : tensors) {
    const TensorRole role = RoleOf(config, tensor.name);
    if (role == TensorRole::kMtp) {
      traffic.skipped_bytes += tensor.bytes;
    } else if (role == TensorRole::kRoutedExpert) {
      traffic.routed_bytes += tensor.bytes;
    } else if (role == TensorRole::kEmbedding && !tied) {
      traffic.embedding_bytes += tensor.bytes;
    } else if (IsHead(tensor.name) && config.tie_word_embeddings) {
      traffic.embedding_bytes += tensor.bytes;  // a stored copy that is not used
    } else {
      traffic.dense_bytes += tensor.bytes;
    }
  }
  if (config.moe.n_routed_experts > 0) {
    const double share = static_cast<double>(config.moe.num_experts_per_tok) / config.moe.n_routed_experts;
    traffic.active_routed_bytes = static_cast<int64_t>(share * static_cast<double>(traffic.routed_bytes));
  }
  return traffic;
}

}  // namespace fathom
