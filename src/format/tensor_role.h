// What a model's tensors are for, by their names in GGUF and in Hugging Face files. Pure functions, thread-safe.
#pragma once

#include <string_view>

#include "format/model_config.h"

namespace fathom {

enum class TensorRole {
  kDense,         // read for every token: attention, norms, dense and shared feed-forward, routers, the head
  kEmbedding,     // a row of it a token
  kRoutedExpert,  // of a layer's own experts; GGUF's stacks and Hugging Face's single ones, scales included
  kMtp,           // of a layer behind the last one
};

TensorRole RoleOf(const ModelConfig& config, std::string_view name);

/// N of "blk.N." and "model.layers.N."; -1 for tensors outside the layers.
int LayerOfTensor(std::string_view name);

}  // namespace fathom
