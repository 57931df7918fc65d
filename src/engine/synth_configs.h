// Shapes of published models, for `fathom synth`: the numbers of their config.json, no weights.
//
// Sources: the config.json files on the hub of DeepSeek-V2-Lite, V2, V3, Kimi-K2, Moonlight-16B-A3B, GLM-4.7-Flash, the
// R1 distills and SmolLM2. "r2" is this project's 1.2T proposal; "tiny" is V3's shape at 9 million weights, for tests
// and for machines without a model. Constant data, thread-safe.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "format/model_config.h"

namespace fathom {

struct SynthConfig {
  std::string_view name;         // "deepseek-v2-lite"
  std::string_view description;
  ModelConfig (*make)();
};

std::span<const SynthConfig> SynthConfigs();

/// By name, case-insensitive. Errors: kInvalidArgument with the names there are.
Result<ModelConfig> FindSynthConfig(std::string_view name);

}  // namespace fathom
