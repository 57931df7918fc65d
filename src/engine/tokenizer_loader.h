// The one place where format/ and text/ meet: what a model file says about its tokenizer becomes a Tokenizer.
//
// Pure functions, thread-safe. The source may go away afterwards; the tokenizer keeps its own copies.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "format/model_file.h"
#include "text/tokenizer.h"

namespace fathom {

/// The source's facts in text/'s words. The spec points into `source`, which must outlive it.
TokenizerSpec SpecOf(const TokenizerSource& source);

/// Errors: as Tokenizer::Create (kUnsupported for vocabularies fathom has no code for, kCorrupt naming the field);
/// kNotFound when the source holds no vocabulary at all.
Result<std::unique_ptr<Tokenizer>> LoadTokenizer(const TokenizerSource& source);

/// From a path: a GGUF, a Hugging Face directory or a lone tokenizer.json. Errors name the path.
Result<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& path);

}  // namespace fathom
