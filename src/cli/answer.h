// What `run` and `chat` share: a conversation to token ids as the model wants them, an answer to the screen while it
// comes, and the closing line of statistics.
//
// One of each per answer, from one thread.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/options.h"
#include "engine/engine.h"
#include "text/chat.h"

namespace fathom {

/// How this model is spoken to: its own format, or what --chat-format says. Errors: kInvalidArgument for an unknown
/// name.
Result<ChatFormat> ChooseChatFormat(const Engine& engine, const std::string& requested);

/// That a template is unknown and plain text takes its place; empty where it is not so.
std::string UnknownTemplateWarning(const Engine& engine);
/// What of the options has no effect on prompts in `format`, and UnknownTemplateWarning where no format was named; each a
/// line for stderr.
std::vector<std::string> FormatWarnings(const Engine& engine, const GenerationOptions& options, ChatFormat format);

struct Prompt {
  std::vector<TokenId> ids;
  bool starts_in_thinking = false;
};

/// The whole conversation as a prompt for the next answer. A kPlain format takes the last user message as raw text.
/// Errors: kUnsupported when the model has no usable tokenizer, as EncodeChat.
Result<Prompt> BuildPrompt(const Engine& engine, ChatFormat format, const std::vector<ChatMessage>& messages,
                           bool thinking, bool default_system);
/// Text to ids without any format.
Result<Prompt> BuildRawPrompt(const Engine& engine, std::string_view text);

/// Shows emissions as they come. The answer goes to stdout; reasoning goes there dimmed when stdout is a terminal, else
/// to stderr, so that a pipe gets the answer and nothing else.
class AnswerPrinter {
 public:
  AnswerPrinter(std::FILE* out, std::FILE* thoughts, bool out_terminal, bool color, bool show_thinking)
      : out_(out), thoughts_(thoughts), terminal_(out_terminal), color_(color), show_thinking_(show_thinking) {}
  /// Streams chosen by what stdout is.
  static AnswerPrinter ForStdout(bool show_thinking);

  void Show(const Emission& emission);
  /// Closes the dimming and the last line.
  void Finish();

 private:
  void Write(std::FILE* stream, std::string_view text);
  void EndThinking();

  std::FILE* out_;
  std::FILE* thoughts_;
  bool terminal_, color_, show_thinking_;
  bool in_thoughts_ = false;
  bool any_content_ = false;
  bool ends_in_newline_ = true;
  bool skip_space_ = false;  // white space between </think> and the answer
};

/// "[123 prompt tokens (40 known) at 85.3/s, 64 generated at 12.1/s, memory 1.2 GiB]"
std::string StatisticsLine(const Timings& timings, const MemoryUse& memory);
/// Why it ended, when that deserves a word ("the context of 4096 tokens is full"); empty otherwise.
std::string FinishNote(const GenerationResult& result, const Session& session);

/// Peak resident memory of this process in bytes, 0 when unknown.
int64_t PeakMemory();

}  // namespace fathom
