// OpenAI's and DeepSeek's request bodies to an ApiRequest: /v1/chat/completions and /v1/completions.
//
// Fields that mean nothing here (user, metadata, store, service_tier, …) and unknown ones are ignored, as DeepSeek's API
// ignores them; a known field of a wrong type or out of range is a 400 that names it; tools, JSON schemas, images and
// audio are a 400 that says they are not supported yet. Pure functions, thread-safe.
// Sources: platform.openai.com/docs/api-reference/chat, api-docs.deepseek.com/api/create-chat-completion.
#pragma once

#include <nlohmann/json.hpp>

#include "server/api_error.h"
#include "server/api_request.h"

namespace fathom {

ApiResult<ApiRequest> ParseChatRequest(const nlohmann::json& body);
ApiResult<ApiRequest> ParseCompletionRequest(const nlohmann::json& body);

/// `messages` alone: also what /tokenize and /v1/cache take. Sets continue_last.
ApiResult<void> ParseMessages(const nlohmann::json& body, ApiRequest& request);
/// `prompt`: a string, ids, or an array of either.
ApiResult<void> ParsePrompts(const nlohmann::json& body, ApiRequest& request);

/// {"type": "enabled" | "disabled" | "adaptive", "budget_tokens": N}, as DeepSeek and Anthropic have it.
ApiResult<void> ParseThinkingObject(const nlohmann::json& body, ApiRequest& request);
/// Refuses `tools` that a model would have to see.
ApiResult<void> RefuseTools(const nlohmann::json& body);

}  // namespace fathom
