// Anthropic's Messages request to an ApiRequest (docs.anthropic.com/en/api/messages). Unknown fields are ignored, as
// DeepSeek's own Messages endpoint ignores them; tools, images and documents are a 400 that says they are not supported
// yet. `thinking` absent means no reasoning where the prompt format can choose. Pure functions, thread-safe.
#pragma once

#include <nlohmann/json.hpp>

#include "server/api_error.h"
#include "server/api_request.h"

namespace fathom {

ApiResult<ApiRequest> ParseMessagesRequest(const nlohmann::json& body);
/// The same without max_tokens, for /v1/messages/count_tokens.
ApiResult<ApiRequest> ParseCountRequest(const nlohmann::json& body);

}  // namespace fathom
