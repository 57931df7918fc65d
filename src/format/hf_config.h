// From a Hugging Face config.json to ModelConfig (docs/formats/safetensors.md has the rules). A pure function.
#pragma once

#include <string_view>

#include "base/result.h"
#include "format/model_config.h"

namespace fathom {

/// text: the file's contents; name: for ModelConfig::name. Errors name the key: kUnsupported for an architecture,
/// RoPE kind, quantisation or option that fathom does not have, kCorrupt for a missing or wrong value. The result has
/// passed ValidateConfig.
Result<ModelConfig> ConfigFromHuggingFace(std::string_view text, std::string_view name);

}  // namespace fathom
