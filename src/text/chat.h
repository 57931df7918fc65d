// Conversations to tokens: the prompt formats of the families, written natively (their Jinja templates are only read
// to recognise the family). Text from users is encoded as TextTrust::kUser, so nothing they write becomes a control
// token; the format's own marks are looked up in the vocabulary.
//
// Sources: the chat templates published with DeepSeek-V2, V3, R1, V3.1, Qwen2.5, SmolLM2 and Llama 3 on the hub.
// Immutable, thread-safe.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/tokenizer.h"

namespace fathom {

enum class Role { kSystem, kUser, kAssistant };

struct ChatMessage {
  Role role = Role::kUser;
  std::string content;
  std::string reasoning_content;  // of an assistant turn; each format decides whether history keeps it
};

enum class ChatFormat { kDeepseekV2, kDeepseekV3, kDeepseekR1, kDeepseekV31, kChatML, kLlama3, kPlain };

struct ChatOptions {
  bool add_generation_prompt = true;
  bool thinking = false;  // V3.1: <think> or </think> after the assistant mark; R1 always thinks
  // Plain ChatML of Qwen2/SmolLM2 adds this default system message when the conversation has none; empty: no default.
  std::string default_system;
};

std::string_view ChatFormatName(ChatFormat format);
std::optional<ChatFormat> ParseChatFormat(std::string_view name);  // "deepseek-v3", "chatml", …

/// Which format a model speaks, from its Jinja template and vocabulary; kPlain when it has none.
ChatFormat DetectChatFormat(std::string_view jinja_template, const Tokenizer& tokenizer);
/// The default system message that the template has built in (SmolLM2, Qwen2.5); empty when none.
std::string DefaultSystemMessage(std::string_view jinja_template);
/// Whether a hybrid model's template thinks unless it is told not to: it sets `thinking` to true where a caller did not.
bool DefaultThinking(std::string_view jinja_template);

/// The conversation as token ids, BOS included where the format has it. Errors: kUnsupported when the vocabulary
/// lacks one of the format's marks (the message names it); kInvalidArgument for an empty conversation.
Result<std::vector<TokenId>> EncodeChat(ChatFormat format, const Tokenizer& tokenizer,
                                        const std::vector<ChatMessage>& messages, const ChatOptions& options);
/// The same as text, for goldens and `--show-prompt`.
std::string RenderChat(ChatFormat format, const std::vector<ChatMessage>& messages, const ChatOptions& options);

/// Splits a model's output into reasoning and answer while it streams: `<think>` … `</think>` at the start (or
/// already open, when the prompt ended inside a think block). Marks may arrive split over several pieces; nothing
/// that could be the beginning of a mark is emitted early. One per stream.
class ReasoningParser {
 public:
  explicit ReasoningParser(bool starts_inside) : inside_(starts_inside) {}
  struct Piece {
    std::string reasoning;
    std::string content;
  };
  Piece Push(std::string_view text);
  Piece Flush();
  bool inside() const { return inside_; }

 private:
  bool inside_;
  bool started_ = false;  // something other than white space has come: a later <think> is ordinary text
  std::string pending_;
};

/// Whether ChatOptions::thinking changes this format's prompts.
bool HasThinkingSwitch(ChatFormat format);
/// True when generation continues inside a think block after this prompt (R1, V3.1 with thinking).
bool PromptEndsInThinking(ChatFormat format, const ChatOptions& options);

/// Finds stop strings in streamed text, also when split over pieces. One per stream.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {}
  /// Text that is safe to show; sets stopped() when a stop string was completed (it is not shown).
  std::string Push(std::string_view text);
  std::string Flush();
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string pending_;
  bool stopped_ = false;
};

}  // namespace fathom
