#include "cli/chat_loop.h"

#include <algorithm>
#include <charconv>

#include "cli/chat_store.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/terminal.h"

namespace fathom {
namespace {

constexpr char kHelp[] =
    "  /help             this\n"
    "  /clear            forget the conversation\n"
    "  /system [TEXT]    show or set the system message (\"/system -\": none); starts afresh\n"
    "  /regen            answer the last message again\n"
    "  /think [on|off]   ask a hybrid model to reason first\n"
    "  /set NAME=VALUE   temp, top-k, top-p, min-p, repeat-penalty, presence-penalty, frequency-penalty, seed, max-tokens\n"
    "  /save FILE        write the conversation as JSON\n"
    "  /load FILE        take one up again\n"
    "  /stats            speed, memory and room left\n"
    "  /exit             end (or Ctrl-D)\n"
    "A message of several lines: end lines with \\, or put \"\"\" before and after it. Ctrl-C stops an answer.\n";

std::string Trim(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

template <typename T>
bool ParseNumber(const std::string& text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

Status ApplySetting(const std::string& assignment, int32_t vocab_size, GenerationParams& params) {
  const size_t equals = assignment.find('=');
  std::string name = Trim(assignment.substr(0, equals));
  const std::string value = equals == std::string::npos ? "" : Trim(assignment.substr(equals + 1));
  std::replace(name.begin(), name.end(), '_', '-');
  if (name.empty() || value.empty()) {
    return Fail(ErrorCode::kInvalidArgument, "/set needs NAME=VALUE, e.g. /set temp=0.7");
  }
  GenerationParams changed = params;
  SamplingParams& sampling = changed.sampling;
  bool good = false;
  if (name == "temp" || name == "temperature") {
    good = ParseNumber(value, sampling.temperature);
  } else if (name == "top-k") {
    good = ParseNumber(value, sampling.top_k);
  } else if (name == "top-p") {
    good = ParseNumber(value, sampling.top_p);
  } else if (name == "min-p") {
    good = ParseNumber(value, sampling.min_p);
  } else if (name == "repeat-penalty") {
    good = ParseNumber(value, sampling.repetition_penalty);
  } else if (name == "presence-penalty") {
    good = ParseNumber(value, sampling.presence_penalty);
  } else if (name == "frequency-penalty") {
    good = ParseNumber(value, sampling.frequency_penalty);
  } else if (name == "seed") {
    good = ParseNumber(value, sampling.seed);
  } else if (name == "max-tokens" || name == "n") {
    good = ParseNumber(value, changed.max_tokens) && changed.max_tokens >= -1;
  } else {
    return Fail(ErrorCode::kInvalidArgument, "/set {}: no such setting; /help names them", name);
  }
  if (!good) return Fail(ErrorCode::kInvalidArgument, "/set {}: {} is not a value for it", name, value);
  FATHOM_CHECK_OK(ValidateSampling(sampling, vocab_size));
  params = std::move(changed);
  return {};
}

void ChatLoop::Note(const std::string& text) const {
  if (settings_.quiet || text.empty()) return;
  const bool color = UseColor(err_);
  std::fprintf(err_, "%s%s%s\n", color ? "\033[2m" : "", text.c_str(), color ? "\033[0m" : "");
  std::fflush(err_);
}

void ChatLoop::Complain(const Error& error) const {
  std::fprintf(err_, "fathom: %s\n", SafeForTerminal(error.message).c_str());
  std::fflush(err_);
}

std::string ChatLoop::PromptText() const {
  return UseColor(out_) ? "\1\033[1;36m\1> \1\033[0m\1" : "> ";
}

Status ChatLoop::Run() {
  FATHOM_TRY(session_, engine_.NewSession());
  InterruptScope scope;
  if (reader_.interactive()) Note("Type a message; /help for commands, Ctrl-D to end.");
  bool asked_to_leave = false;
  for (;;) {
    // A Ctrl-C that came since the last answer, while nobody was reading, is answered like one at the prompt.
    const LineReader::Line line = ReadMessage(reader_, PromptText(), ". ");
    if (line.kind == LineReader::Kind::kEnd) break;
    if (line.kind == LineReader::Kind::kInterrupt) {
      ClearInterrupt();
      if (!line.text.empty()) {  // it threw away what was typed
        asked_to_leave = false;
        continue;
      }
      if (asked_to_leave) break;
      asked_to_leave = true;
      Note("(Ctrl-C again or Ctrl-D to end)");
      continue;
    }
    asked_to_leave = false;
    const std::string text = Trim(line.text);
    if (text.empty()) continue;
    reader_.Remember(line.text);
    if (text.front() == '/') {
      if (Command(text) == Next::kExit) break;
    } else {
      Turn(line.text);
    }
  }
  if (answers_ > 0) Statistics();
  return {};
}

ChatLoop::Next ChatLoop::Command(const std::string& line) {
  const size_t space = line.find_first_of(" \t\n");
  const std::string name = line.substr(0, space);
  const std::string argument = space == std::string::npos ? "" : Trim(line.substr(space));
  if (name == "/exit" || name == "/quit" || name == "/bye") return Next::kExit;
  Status status;
  if (name == "/help" || name == "/?") {
    std::fputs(kHelp, err_);
  } else if (name == "/clear") {
    messages_.clear();
    session_->Truncate(0);
    Note("(forgotten)");
  } else if (name == "/system") {
    if (argument.empty()) {
      const std::string& shown = settings_.system.empty() && settings_.default_system ? engine_.default_system()
                                                                                      : settings_.system;
      Note(shown.empty() ? "(no system message)" : "system: " + SafeForTerminal(shown));
    } else if (settings_.format == ChatFormat::kPlain) {
      status = Fail(ErrorCode::kInvalidArgument, "this model has no chat format, so no system message");
    } else {
      settings_.default_system = false;
      settings_.system = argument == "-" ? "" : argument;
      messages_.clear();
      Note("(system message set; the conversation starts afresh)");
    }
  } else if (name == "/regen" || name == "/regenerate") {
    Regenerate();
  } else if (name == "/think") {
    if (!argument.empty() && argument != "on" && argument != "off") {
      status = Fail(ErrorCode::kInvalidArgument, "/think takes on or off");
    } else {
      settings_.thinking = argument.empty() ? !settings_.thinking : argument == "on";
      Note(settings_.thinking ? "(thinking on)" : "(thinking off)");
      if (settings_.format != ChatFormat::kDeepseekV31) Note("(this model's format does not have the choice)");
    }
  } else if (name == "/set") {
    status = ApplySetting(argument, engine_.config().vocab_size, settings_.params);
    if (status) Note("(" + argument + ")");
  } else if (name == "/save") {
    status = Save(argument);
    if (status) Note(fmt::format("({} messages written to {})", messages_.size(), argument));
  } else if (name == "/load") {
    status = Load(argument);
    if (status) Note(fmt::format("({} messages)", messages_.size()));
  } else if (name == "/stats") {
    Statistics();
  } else {
    status = Fail(ErrorCode::kInvalidArgument, "{}: no such command; /help names them (put a space before a message that "
                                               "starts with a slash)", OneLine(name, 40));
  }
  if (!status) Complain(status.error());
  return Next::kGoOn;
}

void ChatLoop::Turn(std::string text) {
  regenerations_ = 0;
  messages_.push_back({Role::kUser, std::move(text), {}});
  Answer();
}

void ChatLoop::Regenerate() {
  if (messages_.empty()) {
    Complain({ErrorCode::kInvalidArgument, "there is no message to answer again"});
    return;
  }
  if (messages_.back().role == Role::kAssistant) messages_.pop_back();
  ++regenerations_;
  Answer();
}

Result<Prompt> ChatLoop::PromptNow() const {
  std::vector<ChatMessage> all;
  if (!settings_.system.empty()) all.push_back({Role::kSystem, settings_.system, {}});
  all.insert(all.end(), messages_.begin(), messages_.end());
  return BuildPrompt(engine_, settings_.format, all, settings_.thinking, settings_.default_system);
}

/// Forgets the oldest exchanges until there is room for an answer, and says so.
Status ChatLoop::MakeRoom(Prompt& prompt) {
  const int64_t context = session_->context_length();
  int64_t reserve = std::min<int64_t>(256, context / 8);
  if (settings_.params.max_tokens >= 0) reserve = std::min<int64_t>(reserve, settings_.params.max_tokens);
  size_t forgotten = 0;
  while (static_cast<int64_t>(prompt.ids.size()) + reserve > context) {
    // The oldest user message and its answer; the newest message stays.
    size_t end = 1;
    while (end < messages_.size() && messages_[end].role != Role::kUser) ++end;
    if (end >= messages_.size()) break;
    messages_.erase(messages_.begin(), messages_.begin() + static_cast<std::ptrdiff_t>(end));
    forgotten += end;
    FATHOM_TRY(prompt, PromptNow());
  }
  if (forgotten > 0) {
    Note(fmt::format("[the context of {} tokens is full: the oldest {} messages are forgotten]", context, forgotten));
  }
  return {};
}

void ChatLoop::Answer() {
  const auto give_up = [&](const Error& error) {
    Complain(error);
    // An unanswered message would be sent again with the next one.
    messages_.pop_back();
  };
  auto prompt = PromptNow();
  if (prompt) {
    if (const Status room = MakeRoom(*prompt); !room) return give_up(room.error());
  } else {
    return give_up(prompt.error());
  }
  GenerationParams params = settings_.params;
  params.starts_in_thinking = prompt->starts_in_thinking;
  // The same seed would give the same answer again.
  if (params.sampling.seed != 0) params.sampling.seed += regenerations_;

  const bool out_terminal = IsTerminal(out_);
  std::FILE* thoughts = out_terminal ? out_ : err_;
  AnswerPrinter printer(out_, thoughts, out_terminal, UseColor(thoughts), settings_.show_thinking);
  Progress::Options progress_options;
  progress_options.quiet = settings_.quiet;
  progress_options.stream = err_;
  Progress progress("reading", std::move(progress_options));
  auto result = session_->Generate(
      prompt->ids, params,
      [&](const Emission& emission) {
        progress.Finish();
        printer.Show(emission);
        return !Interrupted();
      },
      [&](int64_t done, int64_t total) {
        progress.Update(done, total, "tokens");
        return !Interrupted();
      });
  progress.Finish();
  printer.Finish();
  ClearInterrupt();  // it stopped this answer and means nothing more
  if (!result) {
    if (result.error().code == ErrorCode::kCancelled) {
      Note("[stopped]");
      messages_.pop_back();
      return;
    }
    return give_up(result.error());
  }
  if (const std::string note = FinishNote(*result, *session_); !note.empty()) Note("[" + note + "]");
  ++answers_;
  total_.prompt_tokens += result->timings.prompt_tokens;
  total_.cached_tokens += result->timings.cached_tokens;
  total_.generated_tokens += result->timings.generated_tokens;
  total_.prompt_seconds += result->timings.prompt_seconds;
  total_.decode_seconds += result->timings.decode_seconds;
  total_.draft_tokens += result->timings.draft_tokens;
  total_.draft_accepted += result->timings.draft_accepted;
  if (result->timings.generated_tokens > 1) decode_steps_ += static_cast<double>(result->timings.generated_tokens - 1);
  if (result->content.empty() && result->reasoning.empty()) {
    if (result->finish_reason != FinishReason::kCancelled) Note("[the model had nothing to say]");
    messages_.pop_back();
    return;
  }
  messages_.push_back({Role::kAssistant, result->content, result->reasoning});
}

void ChatLoop::Statistics() const {
  if (settings_.quiet) return;
  const MemoryUse memory = engine_.memory();
  std::string line = fmt::format("[{} answer{}, {} tokens", answers_, answers_ == 1 ? "" : "s", total_.generated_tokens);
  if (total_.decode_seconds > 0) line += fmt::format(" at {:.1f} tokens/s", decode_steps_ / total_.decode_seconds);
  line += fmt::format("; prompts {} tokens", total_.prompt_tokens);
  if (total_.prompt_seconds > 0) line += fmt::format(" at {:.1f} tokens/s", total_.prompt_rate());
  if (total_.cached_tokens > 0) line += fmt::format(", {} reused", total_.cached_tokens);
  line += fmt::format("; context {} of {}", session_->tokens().size(), session_->context_length());
  line += fmt::format("; memory {} weights, {} KV, peak {}]", HumanBytes(memory.weights_mapped + memory.weights_derived),
                      HumanBytes(memory.kv_allocated), HumanBytes(PeakMemory()));
  Note(line);
}

Status ChatLoop::Save(const std::string& path) const {
  if (path.empty()) return Fail(ErrorCode::kInvalidArgument, "/save needs a file name");
  return SaveChat(path, {settings_.system, settings_.default_system, messages_});
}

Status ChatLoop::Load(const std::string& path) {
  if (path.empty()) return Fail(ErrorCode::kInvalidArgument, "/load needs a file name");
  FATHOM_TRY(StoredChat stored, LoadChat(path));
  settings_.system = std::move(stored.system);
  settings_.default_system = stored.default_system;
  messages_ = std::move(stored.messages);
  return {};
}

}  // namespace fathom
