// A Hugging Face tokenizer.json in the words of a GGUF (tokenizer.ggml.*), as llama.cpp's converter writes it
// (conversion/base.py, get_vocab_base and SpecialVocab, 2026-10).
//
// The pre-tokenizer gets the name whose steps cut a set of awkward texts into the same words, so that differences in
// spelling do not matter. A pure function, thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer.h"

namespace fathom {

struct GgufVocabulary {
  std::string pre;                   // tokenizer.ggml.pre; the model is always "gpt2"
  std::vector<std::string> tokens;   // in GPT-2's spelling of bytes; added tokens as they are
  std::vector<int32_t> token_types;  // 1 normal, 3 control, 4 user defined, 5 unused
  std::vector<std::string> merges;   // "left right"
  TokenId bos_id = -1, eos_id = -1, pad_id = -1, unk_id = -1;
  bool add_bos = false;
};

/// spec: with tokenizer_json. vocab_size: rows of the embedding; ids that no token has become "[PAD<id>]", unused.
/// pre: a name to be used instead of searching for one; empty: search.
/// Errors: those of Tokenizer::Create; kInvalidArgument when a token's id is not below vocab_size, or for an unknown
/// `pre`; kUnsupported when no name stands for this pre-tokenizer.
Result<GgufVocabulary> GgufVocabularyOf(const TokenizerSpec& spec, int32_t vocab_size, std::string_view pre = {});

/// The words into which the awkward texts are cut, by which pre-tokenizers are told apart.
std::vector<std::string> PreTokenizerProbe(const PreTokenizer& chain);

}  // namespace fathom
