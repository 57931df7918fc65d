// Answers as OpenAI's and DeepSeek's APIs give them, whole or as chunks: chat completions with reasoning_content, and
// text completions.
//
// Progress while a prompt is evaluated goes out as the SSE comment `: progress {"prompt_tokens":…,"cached_tokens":…,
// "done_tokens":…}`, which every client skips that does not know it; with "return_progress": true as a chunk that has
// llama-server's `prompt_progress` {"total","cache","processed","time_ms"}.
#pragma once

#include <memory>

#include "server/api_request.h"
#include "server/reply_writer.h"

namespace fathom {

std::unique_ptr<ReplyWriter> NewChatWriter(const ApiRequest& request, ReplyContext context);
/// requests: whose prompts are echoed.
std::unique_ptr<ReplyWriter> NewCompletionWriter(const ApiRequest& request, ReplyContext context,
                                                 std::span<const ServiceRequest> requests);

/// "stop", "length"; what the drain has cut is "insufficient_system_resource", as DeepSeek says it.
std::string_view OpenAiFinishReason(FinishReason reason);

}  // namespace fathom
