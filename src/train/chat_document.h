// Conversations as training documents: exactly the tokens that the engine puts before a model (text/chat.h's
// deepseek-v3.1 format) and that the model is to answer with.
//
// A turn with reasoning follows <think> and is reasoning </think> answer EOS; one without follows </think> and is answer
// EOS. Histories never show old reasoning, so a conversation whose earlier turns have reasoning becomes several
// documents. Pure functions; thread-safe.
#pragma once

#include <vector>

#include "base/result.h"
#include "text/chat.h"
#include "text/tokenizer.h"
#include "train/document_source.h"

namespace fathom {

/// The documents of one conversation; empty when no turn of it is the assistant's. Loss counts on assistant turns
/// only, each in one document. Errors: kUnsupported when the vocabulary lacks a mark of the format.
Result<std::vector<Piece>> EncodeTrainingChat(const Tokenizer& tokenizer, const std::vector<ChatMessage>& messages);

}  // namespace fathom
