// ModelFile over a Hugging Face directory: config.json and safetensors, mapped.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "format/model_file.h"
#include "io/env.h"

namespace fathom {

/// directory: has config.json and model.safetensors or model.safetensors.index.json. Errors name the file.
Result<std::unique_ptr<ModelFile>> OpenHuggingFaceModel(Env& env, const std::string& directory);

/// The texts that a tokenizer is made from. path: a directory with tokenizer.json, or such a file itself (its
/// neighbours are read too when it is called tokenizer.json).
Result<TokenizerSource> OpenHuggingFaceTokenizer(Env& env, const std::string& path);

}  // namespace fathom
