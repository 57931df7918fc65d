// A tokenizer.json with its companions, read and checked but not yet made into a Tokenizer: for gguf_vocabulary.cc, which
// says the same in a GGUF's words. Internal to text/; see tokenizer_json.cc.
#pragma once

#include <string>
#include <vector>

#include "text/added_tokens.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer.h"
#include "text/tokenizer_json_reader.h"

namespace fathom {

struct TokenizerJson {
  TokenizerJsonReader reader;  // vocabulary and merges
  std::vector<NormalForm> normal_forms;
  PreTokenizer pre_tokenizer;
  bool ignore_merges = false;
  std::vector<AddedToken> added;       // ids as the files list them
  std::string pad_token, unk_token;    // of tokenizer_config.json; empty when it does not say
};

/// Errors: as LoadTokenizerJson's.
Result<TokenizerJson> ReadTokenizerJson(const TokenizerSpec& spec);

}  // namespace fathom
