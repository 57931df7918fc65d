// A made-up vocabulary of any size for synthetic models: byte-level BPE in GPT-2's spelling that encodes every text and
// decodes to the same text, with the marks of the family's chat format. Not anybody's tokenizer.
//
// Layout: 0-2 begin, end and padding (control), 3-258 the bytes, then the results of the merges in order of rank, the
// marks last. Pure function, thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "format/model_config.h"

namespace fathom {

struct SynthTokenizer {
  std::string pre;  // tokenizer.ggml.pre
  std::vector<std::string> tokens;
  std::vector<int32_t> token_types;  // GGUF's: 1 normal, 3 control, 4 user defined
  std::vector<std::string> merges;
  int32_t bos_id = 0, eos_id = 1, pad_id = 2;
  bool add_bos = true;
  std::string chat_template;
};

/// Errors: kInvalidArgument when the vocabulary is too small for bytes and marks (263) or too large
/// (450000).
Result<SynthTokenizer> MakeSynthTokenizer(const ModelConfig& config);

}  // namespace fathom
