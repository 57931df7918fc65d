// From ModelConfig to a Hugging Face config.json, the other way round of hf_config.h (docs/formats/safetensors.md).
//
// What transformers reads: DeepseekV3ForCausalLM for models with the sigmoid gate and dense MLA models,
// DeepseekV2ForCausalLM for the softmax gate, LlamaForCausalLM, Qwen2ForCausalLM. A pure function; thread-safe.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "format/model_config.h"
#include "tensor/dtype.h"

namespace fathom {

/// Token numbers that a config.json carries; below 0: null.
struct HfTokenIds {
  int32_t bos = -1, eos = -1, pad = -1;
};

/// The file's text, UTF-8, ending in a newline. dtype: of the weights (kF32, kF16 or kBF16). ConfigFromHuggingFace
/// gives the same ModelConfig back, `architecture` and `name` aside.
/// Errors: kUnsupported, naming the field, for what the class has no key for (another mla_norm_eps than 1e-6, frequency
/// factors, a sigmoid gate without correction bias, …); kInvalidArgument for another dtype; those of ValidateConfig.
///
/// A dense MLA model becomes a V3 whose first_k_dense_replace covers every layer, MTP layers included; the experts that
/// transformers wants mentioned are never built.
Result<std::string> HfConfigJson(const ModelConfig& config, DType dtype, const HfTokenIds& ids = {});

}  // namespace fathom
