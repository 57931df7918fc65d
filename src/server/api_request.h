// What a client asks for, in no API's words: every dialect's parser fills it, and the rest of the server knows only it.
// Plain values.
//
// Tool calls, a JSON schema for the answer and images have no place here yet: the parsers refuse them (400). When they
// come, tools and the response format join this struct beside `messages`, content parts join ChatMessage (text/chat.h),
// and PreparePrompts() (prompt_builder.h) hands them to the prompt encoders.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/sampler.h"
#include "text/chat.h"

namespace fathom {

enum class ThinkingMode {
  kModelDefault,  // what the model does by itself
  kAvoid,         // not where the prompt format can choose
  kOff,           // not at all: a model that always thinks is closed at once
  kOn,
};

struct PromptInput {
  std::string text;          // encoded as the user's, with BOS where the tokenizer adds one
  std::vector<TokenId> ids;  // used when `is_ids`
  bool is_ids = false;
};

struct ApiRequest {
  std::string model;  // as asked for; answers name the one that is served

  // One of these two.
  std::vector<ChatMessage> messages;
  std::vector<PromptInput> prompts;
  // The last message is the assistant's and to be continued (DeepSeek's prefix completion, Anthropic's prefill).
  bool continue_last = false;

  ThinkingMode thinking = ThinkingMode::kModelDefault;
  int64_t max_thinking_tokens = -1;  // -1: no budget

  SamplingParams sampling = {.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0, .penalty_last_n = -1};
  int64_t max_tokens = -1;  // -1: until the context is full
  std::vector<std::string> stop;
  bool ignore_eos = false;
  int32_t n = 1;         // answers a prompt
  int32_t logprobs = -1;  // -1: none; k: of the drawn token and of the k best
  bool echo = false;      // completions: the prompt before the answer
  int32_t priority = 0;
  bool use_cache = true;

  bool stream = false;
  bool include_usage = false;    // stream: a last chunk with it
  bool return_progress = false;  // stream: chunks with prompt_progress instead of comments
};

/// Most answers that one request may ask for, over all its prompts.
inline constexpr int32_t kMaxChoices = 128;

}  // namespace fathom
