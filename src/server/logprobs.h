// Log-probabilities in OpenAI's two shapes: chat's list of tokens, and text completions' parallel arrays.
// Pure functions, thread-safe.
#pragma once

#include "engine/service.h"
#include "server/json_reader.h"

namespace fathom {

/// {"token", "logprob", "bytes", "top_logprobs": […]}; bytes are exact where a token ends inside a character.
ordered_json ChatLogprob(const Tokenizer* tokenizer, const ServiceToken& token);

/// {"tokens", "token_logprobs", "top_logprobs", "text_offset"}, to which tokens are added as they come.
class CompletionLogprobs {
 public:
  CompletionLogprobs() { Clear(); }
  void Add(const Tokenizer* tokenizer, const ServiceToken& token);
  /// What was added since the last call.
  ordered_json Take();
  bool empty() const { return tokens_.empty(); }

 private:
  void Clear();
  ordered_json tokens_, logprobs_, top_, offsets_;
  int64_t offset_ = 0;  // bytes of text so far
};

}  // namespace fathom
