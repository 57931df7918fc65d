#include "format/tensor_role.h"

#include <charconv>

namespace fathom {

int LayerOfTensor(std::string_view name) {
  for (const std::string_view start : {std::string_view("blk."), std::string_view("model.layers.")}) {
    if (!name.starts_with(start)) continue;
    name.remove_prefix(start.size());
    int layer = -1;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
    return error == std::errc() && end != name.data() + name.size() && *end == '.' ? layer : -1;
  }
  return -1;
}

TensorRole RoleOf(const ModelConfig& config, std::string_view name) {
  if (LayerOfTensor(name) >= config.num_hidden_layers) return TensorRole::kMtp;
  if (name.find("_exps.") != std::string_view::npos || name.find(".mlp.experts.") != std::string_view::npos) {
    return TensorRole::kRoutedExpert;
  }
  if (name == "token_embd.weight" || name == "model.embed_tokens.weight") return TensorRole::kEmbedding;
  return TensorRole::kDense;
}

}  // namespace fathom
