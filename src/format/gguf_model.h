// ModelFile over GGUF: one file or all parts of a split one, mapped.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "format/model_file.h"
#include "io/env.h"

namespace fathom {

/// path: a GGUF file or any part `NAME-0000K-of-0000N.gguf` of a split one. Errors name the file.
Result<std::unique_ptr<ModelFile>> OpenGgufModel(Env& env, const std::string& path);

/// Only the tokenizer; the file may have no tensors, and its architecture does not matter.
Result<TokenizerSource> OpenGgufTokenizer(Env& env, const std::string& path);

/// The paths of all parts when the path is named as part of a split file ("-00002-of-00005.gguf"), in order; only the
/// path itself otherwise. No file is touched.
std::vector<std::string> GgufPartPaths(const std::string& path);

}  // namespace fathom
