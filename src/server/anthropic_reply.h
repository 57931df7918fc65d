// Answers as Anthropic's Messages API gives them: message_start, content blocks (thinking, then text), message_delta,
// message_stop, with ping events while nothing happens (docs.anthropic.com/en/docs/build-with-claude/streaming).
#pragma once

#include <memory>

#include "server/api_request.h"
#include "server/reply_writer.h"

namespace fathom {

/// prompt_tokens: told in message_start, before it is known how many of them the cache has.
std::unique_ptr<ReplyWriter> NewMessagesWriter(const ApiRequest& request, ReplyContext context, int64_t prompt_tokens);

/// What ended an answer: "end_turn", "max_tokens", "stop_sequence" (then which one is in `sequence`); what the drain has
/// cut is "pause_turn": sending it back goes on with it.
std::string_view StopReason(const GenerationResult& result, const std::vector<std::string>& stops,
                            const Tokenizer* tokenizer, std::string& sequence);

}  // namespace fathom
