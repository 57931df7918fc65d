// Names, shapes, types and scales of every tensor of a synthetic model, in file order.
//
// Scales make a random network behave: every matrix keeps its input's size (standard deviation 1 / sqrt(inputs)), those
// that write to the residual stream are smaller by the depth, so that a token's own embedding stays visible to the last
// layer and routing stays spread over all experts; logits get a standard deviation of 3. Pure function, thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/gguf_layout.h"
#include "engine/quant_recipe.h"
#include "format/model_config.h"

namespace fathom {

struct SynthTensor {
  std::string name;
  std::vector<int64_t> shape;  // outermost first, as TensorInfo
  DType dtype = DType::kF32;
  float mean = 0.0f;
  float std = 0.0f;
  std::vector<float> values = {};  // when not empty: these, not random ones

  int64_t cols() const { return shape.back(); }
  int64_t rows() const {
    int64_t rows = 1;
    for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
    return rows;
  }
  int64_t bytes() const { return rows() * RowBytes(dtype, cols()).value(); }
};

/// REQUIRES: ValidateConfig passed.
std::vector<SynthTensor> ListSynthTensors(const ModelConfig& config, const QuantRecipe& recipe, GgufLayout layout);

}  // namespace fathom
