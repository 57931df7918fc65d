// GGUF metadata of a synthetic model: the keys that llama.cpp's converter writes (conversion/base.py and deepseek.py,
// 2026-10; docs/formats/gguf.md), tokenizer included. Pure functions.
#pragma once

#include "engine/quant_recipe.h"
#include "engine/synth_tensors.h"
#include "engine/synth_tokenizer.h"
#include "format/gguf_writer.h"
#include "format/model_config.h"

namespace fathom {

void AddSynthMetadata(const ModelConfig& config, const QuantRecipe& recipe, GgufLayout layout, uint64_t seed,
                      GgufWriter& writer);
/// Whether a GGUF's general.description says that synth wrote it.
bool IsSynthDescription(std::string_view description);
void AddSynthTokenizer(SynthTokenizer tokenizer, GgufWriter& writer);

}  // namespace fathom
