#include "cli/answer.h"

#include <sys/resource.h>

#include "cli/terminal.h"

namespace fathom {
namespace {

constexpr char kDim[] = "\033[2m";
constexpr char kPlainText[] = "\033[0m";

Status NeedTokenizer(const Engine& engine) {
  if (engine.tokenizer() != nullptr) return {};
  return Fail(ErrorCode::kUnsupported, "this model's tokenizer cannot be used: {}", engine.tokenizer_error());
}

}  // namespace

Result<ChatFormat> ChooseChatFormat(const Engine& engine, const std::string& requested) {
  if (requested.empty()) return engine.chat_format();
  if (const auto format = ParseChatFormat(requested)) return *format;
  return Fail(
      ErrorCode::kInvalidArgument,
      "--chat-format {}: unknown; there are deepseek-v2, deepseek-v3, deepseek-r1, deepseek-v3.1, chatml, llama3",
      requested);
}

std::string UnknownTemplateWarning(const Engine& engine) {
  if (!engine.unknown_chat_template()) return {};
  return "the model's chat template is of a format that fathom does not know: prompts go in as plain text";
}

std::vector<std::string> FormatWarnings(const Engine& engine, const GenerationOptions& options, ChatFormat format) {
  std::vector<std::string> warnings;
  const std::string unknown = UnknownTemplateWarning(engine);
  if (options.chat_format.empty() && !unknown.empty()) warnings.push_back(unknown + "; --chat-format NAME chooses another");
  // R1 reasons whether it is asked to or not.
  const bool satisfied = options.think && format == ChatFormat::kDeepseekR1;
  if ((options.think || options.no_think) && !HasThinkingSwitch(format) && !satisfied) {
    warnings.push_back(fmt::format("{} has no effect: the prompt format {} has no switch for reasoning",
                                   options.think ? "--think" : "--no-think", ChatFormatName(format)));
  }
  return warnings;
}

Result<Prompt> BuildRawPrompt(const Engine& engine, std::string_view text) {
  FATHOM_CHECK_OK(NeedTokenizer(engine));
  Prompt prompt;
  prompt.ids = EncodePrompt(*engine.tokenizer(), text);
  if (prompt.ids.empty()) return Fail(ErrorCode::kInvalidArgument, "the prompt is empty");
  return prompt;
}

Result<Prompt> BuildPrompt(const Engine& engine, ChatFormat format, const std::vector<ChatMessage>& messages,
                           bool thinking, bool default_system) {
  FATHOM_CHECK_OK(NeedTokenizer(engine));
  if (format == ChatFormat::kPlain) return BuildRawPrompt(engine, messages.empty() ? "" : messages.back().content);
  ChatOptions options;
  options.thinking = thinking;
  if (default_system) options.default_system = engine.default_system();
  Prompt prompt;
  FATHOM_TRY(prompt.ids, EncodeChat(format, *engine.tokenizer(), messages, options));
  prompt.starts_in_thinking = PromptEndsInThinking(format, options);
  return prompt;
}

AnswerPrinter AnswerPrinter::ForStdout(bool show_thinking) {
  const bool terminal = IsTerminal(stdout);
  std::FILE* thoughts = terminal ? stdout : stderr;
  return AnswerPrinter(stdout, thoughts, terminal, UseColor(thoughts), show_thinking);
}

void AnswerPrinter::Write(std::FILE* stream, std::string_view text) {
  if (text.empty()) return;
  const bool to_terminal = stream == out_ ? terminal_ : IsTerminal(stream);
  const std::string safe = to_terminal ? SafeForTerminal(text) : SafeUtf8(text);
  std::fwrite(safe.data(), 1, safe.size(), stream);
  std::fflush(stream);
  if (!safe.empty()) ends_in_newline_ = safe.back() == '\n';
}

void AnswerPrinter::EndThinking() {
  if (!in_thoughts_) return;
  in_thoughts_ = false;
  if (color_) std::fputs(kPlainText, thoughts_);
  std::fputs(ends_in_newline_ ? "\n" : "\n\n", thoughts_);
  std::fflush(thoughts_);
  ends_in_newline_ = true;
  skip_space_ = true;
}

void AnswerPrinter::Show(const Emission& emission) {
  if (show_thinking_ && !emission.reasoning.empty()) {
    if (!in_thoughts_) {
      in_thoughts_ = true;
      if (color_) {
        std::fputs(kDim, thoughts_);
      } else {
        std::fputs("[thinking]\n", thoughts_);
      }
    }
    Write(thoughts_, emission.reasoning);
  }
  std::string_view content = emission.content;
  if (content.empty()) return;
  EndThinking();
  if (skip_space_) {
    const size_t begin = content.find_first_not_of(" \n\r\t");
    if (begin == std::string_view::npos) return;
    content.remove_prefix(begin);
    skip_space_ = false;
  }
  any_content_ = true;
  Write(out_, content);
}

void AnswerPrinter::Finish() {
  if (in_thoughts_) {
    EndThinking();
  } else if (any_content_ && !ends_in_newline_) {
    std::fputc('\n', out_);
    std::fflush(out_);
  }
}

std::string StatisticsLine(const Timings& timings, const MemoryUse& memory) {
  std::string line = fmt::format("[{} prompt tokens", timings.prompt_tokens);
  if (timings.cached_tokens > 0) line += fmt::format(" ({} more known)", timings.cached_tokens);
  if (timings.prompt_seconds > 0) line += fmt::format(" at {:.1f}/s", timings.prompt_rate());
  line += fmt::format(", {} generated", timings.generated_tokens);
  if (timings.generated_tokens > 1) line += fmt::format(" at {:.1f}/s", timings.decode_rate());
  if (timings.draft_tokens > 0) {
    line += fmt::format(" ({} of {} guesses right)", timings.draft_accepted, timings.draft_tokens);
  }
  const int64_t total = memory.weights() + memory.kv_allocated + memory.scratch;
  line += fmt::format(", memory {}: weights {}, KV {}]", HumanBytes(total),
                      HumanBytes(memory.weights()), HumanBytes(memory.kv_allocated));
  return line;
}

std::string FinishNote(const GenerationResult& result, const Session& session) {
  switch (result.finish_reason) {
    case FinishReason::kContext:
      return fmt::format("the context of {} tokens is full; --ctx N makes it longer", session.context_length());
    case FinishReason::kLength: return "the answer was cut at the token limit";
    case FinishReason::kCancelled: return "stopped";
    case FinishReason::kStop: break;
  }
  return {};
}

int64_t PeakMemory() {
  rusage usage{};
  return getrusage(RUSAGE_SELF, &usage) == 0 ? int64_t{usage.ru_maxrss} * 1024 : 0;
}

}  // namespace fathom
