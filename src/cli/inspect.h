// Facts about a model file for `fathom inspect`. Pure functions of the opened file; thread-safe.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "format/model_file.h"

namespace fathom {

/// Rows of the configuration that mean something for this family, by their Hugging Face names.
std::vector<std::pair<std::string, nlohmann::ordered_json>> ConfigTable(const ModelConfig& config);

struct TypeShare {
  std::string name;
  int64_t tensors = 0;
  int64_t bytes = 0;
};
/// Largest share first.
std::vector<TypeShare> TypeHistogram(const ModelFile& model);

/// Of the cache's rows, as the engine lays them out.
int64_t KvBytesPerToken(const ModelConfig& config, DType dtype = DType::kBF16);

struct MemoryNeed {
  int64_t context = 0;  // tokens
  int64_t kv_bytes = 0;
  int64_t total_bytes = 0;  // weights and KV cache
};
/// At 4096, 32768 and the longest context the model was trained for, as far as they apply.
std::vector<MemoryNeed> MemoryNeeds(const ModelFile& model);

}  // namespace fathom
