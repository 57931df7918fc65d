// Which type each tensor of a file gets, for the names that people know files by ("q4_k_m"). The mixtures follow
// llama.cpp's quantiser without an importance matrix (src/llama-quant.cpp, 2026-10), so that file sizes and speeds
// compare.
//
// Plain data and pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "format/model_config.h"
#include "tensor/dtype.h"

namespace fathom {

struct QuantRecipe {
  std::string_view name;         // "q4_k_m"
  DType type = DType::kF32;      // of most tensors
  int32_t file_type = 0;         // general.file_type
  std::string_view description;  // for --list
  bool pure = false;             // every matrix in `type`, no mixture
};

/// Recipes by name, case-insensitive; short names ("q4_k") mean the medium mixture; "pure-q4_k" puts every matrix into
/// that type. Errors: kInvalidArgument with the names there are.
Result<QuantRecipe> FindQuantRecipe(std::string_view name);
std::span<const QuantRecipe> QuantRecipes();

/// Type for a tensor. ne0: elements in a row; experts_3d: a stack of matrices; layer: -1 outside layers. Norms, biases
/// and routers are F32; rows that do not fill blocks fall back as in llama.cpp.
DType QuantTensorType(const QuantRecipe& recipe, const ModelConfig& config, std::string_view name, int64_t ne0,
                      int dimensions, int layer);

}  // namespace fathom
