#include "train/chat_document.h"

#include <algorithm>

namespace fathom {
namespace {

constexpr ChatFormat kFormat = ChatFormat::kDeepseekV31;

Result<TokenId> MarkId(const Tokenizer& tokenizer, std::string_view mark) {
  const TokenId id = tokenizer.FindToken(mark);
  if (id < 0) {
    return Fail(ErrorCode::kUnsupported, "the vocabulary has no {}, which chats are trained with; "
                                         "'fathom train-tokenizer' makes one that has", mark);
  }
  return id;
}

}  // namespace

Result<std::vector<Piece>> EncodeTrainingChat(const Tokenizer& tokenizer, const std::vector<ChatMessage>& messages) {
  FATHOM_TRY(const TokenId assistant, MarkId(tokenizer, "<｜Assistant｜>"));
  FATHOM_TRY([[maybe_unused]] const TokenId think, MarkId(tokenizer, "<think>"));
  FATHOM_TRY(const TokenId end_think, MarkId(tokenizer, "</think>"));
  if (tokenizer.eos_id() < 0) return Fail(ErrorCode::kUnsupported, "the vocabulary has no end-of-sequence token");

  // Turns that answer a user; others (a greeting before anybody spoke, two answers in a row) are only context.
  std::vector<size_t> turns;
  bool last_is_user = false;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role == Role::kAssistant && last_is_user) turns.push_back(i);
    if (messages[i].role != Role::kSystem) last_is_user = messages[i].role == Role::kUser;
  }

  std::vector<Piece> out;
  size_t trained = 0;  // of `turns`, how many are in a document
  for (size_t k = 0; k < turns.size(); ++k) {
    const ChatMessage& answer = messages[turns[k]];
    const bool thinking = !answer.reasoning_content.empty();
    if (!thinking && k + 1 < turns.size()) continue;  // it will be in the history of the next document, and count there
    Piece piece;
    // The prompt as the engine encodes it, then the turn as a model writes it.
    const std::vector<ChatMessage> before(messages.begin(), messages.begin() + static_cast<int64_t>(turns[k]));
    FATHOM_TRY(piece.tokens,
               EncodeChat(kFormat, tokenizer, before, {.add_generation_prompt = true, .thinking = thinking}));
    piece.counted.assign(piece.tokens.size(), 0);
    size_t turn = 0;
    bool inside = false;
    for (size_t t = 1; t + 1 < piece.tokens.size(); ++t) {
      if (inside) piece.counted[t] = turn > trained;
      if (piece.tokens[t] == tokenizer.eos_id()) inside = false;
      if (piece.tokens[t] == end_think && piece.tokens[t - 1] == assistant) {
        inside = true;
        ++turn;
      }
    }
    if (thinking) {
      tokenizer.Encode(answer.reasoning_content, TextTrust::kUser, piece.tokens);
      piece.tokens.push_back(end_think);
    }
    tokenizer.Encode(answer.content, TextTrust::kUser, piece.tokens);
    piece.tokens.push_back(tokenizer.eos_id());
    piece.counted.resize(piece.tokens.size(), 1);
    out.push_back(std::move(piece));
    trained = k + 1;
  }
  return out;
}

}  // namespace fathom
