// An ApiRequest to what the service takes: prompts as token ids, generation parameters, one ServiceRequest an answer.
// Pure but for the engine it asks; thread-safe.
#pragma once

#include <vector>

#include "engine/service.h"
#include "server/api_error.h"
#include "server/api_request.h"

namespace fathom {

struct PreparedPrompt {
  std::vector<TokenId> ids;
  bool starts_in_thinking = false;
  bool parse_reasoning = true;  // false: the answer has begun already, <think> is a word like any other
};

/// The request's conversation or prompts in its model's format. Errors: 400 with the field named; 501 when the model has
/// no usable tokenizer and text is asked for.
ApiResult<std::vector<PreparedPrompt>> PreparePrompts(const Engine& engine, const ApiRequest& request);

/// prompts.size() × n requests, the answers of one prompt side by side; seeds count up over the answers of a prompt.
/// Errors: sampling parameters out of range, 400.
ApiResult<std::vector<ServiceRequest>> BuildServiceRequests(const Engine& engine, const ApiRequest& request,
                                                            std::string_view tenant);

}  // namespace fathom
