#include "cli/weight_traffic.h"

#include <algorithm>
#include <charconv>

namespace fathom {
namespace {

/// N of "blk.N." and "model.layers.N."; -1 for tensors outside the layers.
int LayerOf(std::string_view name) {
  for (const std::string_view start : {std::string_view("blk."), std::string_view("model.layers.")}) {
    if (!name.starts_with(start)) continue;
    name.remove_prefix(start.size());
    int layer = -1;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
    return error == std::errc() && end != name.data() + name.size() && *end == '.' ? layer : -1;
  }
  return -1;
}

bool IsRoutedExpert(std::string_view name) {
  return name.find("_exps.") != std::string_view::npos ||        // GGUF: ffn_{gate,up,down}_exps.weight
         name.find(".mlp.experts.") != std::string_view::npos;   // Hugging Face: mlp.experts.N.…
}

bool IsEmbedding(std::string_view name) {
  return name == "token_embd.weight" || name == "model.embed_tokens.weight";
}

bool IsHead(std::string_view name) { return name == "output.weight" || name == "lm_head.weight"; }

}  // namespace

WeightTraffic CountWeightTraffic(const ModelFile& model) {
  const ModelConfig& config = model.config();
  const auto tensors = model.tensors();
  const bool tied = config.tie_word_embeddings ||
                    std::none_of(tensors.begin(), tensors.end(), [](const TensorInfo& t) { return IsHead(t.name); });
  WeightTraffic traffic;
  for (const TensorInfo& tensor : tensors) {
    if (LayerOf(tensor.name) >= config.num_hidden_layers) {
      traffic.skipped_bytes += tensor.bytes;
    } else if (IsRoutedExpert(tensor.name)) {
      traffic.routed_bytes += tensor.bytes;
    } else if (IsEmbedding(tensor.name) && !tied) {
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
