// fathom run: one prompt, one answer.
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/answer.h"
#include "cli/command.h"
#include "cli/expert_report.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/memory_report.h"
#include "cli/progress.h"
#include "cli/run_report.h"
#include "cli/terminal.h"

namespace fathom {
namespace {

struct RunOptions {
  ModelOptions model;
  GenerationOptions generation;
  std::vector<std::string> words;
  std::string file;
  bool raw = false, json = false, hide_thinking = false, show_prompt = false;
};

/// The words, then the file's text; standard input when neither is given and it is not a terminal.
Result<std::string> PromptText(const RunOptions& options) {
  std::string text;
  for (const std::string& word : options.words) {
    if (word == "-" && options.words.size() == 1) return ReadInput("-");
    text += (text.empty() ? "" : " ") + word;
  }
  std::string file = options.file;
  if (text.empty() && file.empty()) {
    if (isatty(STDIN_FILENO)) {
      return Fail(ErrorCode::kInvalidArgument,
                  "no prompt: give it as words, with -f FILE, or on standard input\nFor a conversation: fathom chat");
    }
    file = "-";
  }
  if (!file.empty()) {
    FATHOM_TRY(const std::string from_file, ReadInput(file));
    text += (text.empty() ? "" : "\n\n") + from_file;
  }
  if (text.empty()) return Fail(ErrorCode::kInvalidArgument, "the prompt is empty");
  return text;
}

Status Run(const RunOptions& options) {
  // Words first: a wrong command line should not wait for a model to load.
  FATHOM_TRY(const std::string text, PromptText(options));
  const auto load_started = std::chrono::steady_clock::now();
  FATHOM_TRY(const auto engine, LoadEngine(options.model));
  const double load_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - load_started).count();

  FATHOM_TRY(const ChatFormat format, ChooseChatFormat(*engine, options.generation.chat_format));
  const bool raw = options.raw || format == ChatFormat::kPlain;
  if (raw && !options.generation.system.empty()) {
    return Fail(ErrorCode::kInvalidArgument, "--system needs a chat format, and {}",
                options.raw ? "--raw asks for none" : "this model has none");
  }
  GenerationOptions generation = options.generation;
  if (options.raw) generation.chat_format = "plain";  // asked for, so no format is missed
  for (const std::string& warning : FormatWarnings(*engine, generation, raw ? ChatFormat::kPlain : format))
    std::fprintf(stderr, "warning: %s\n", warning.c_str());
  Prompt prompt;
  if (raw) {
    FATHOM_TRY(prompt, BuildRawPrompt(*engine, text));
  } else {
    std::vector<ChatMessage> messages;
    if (!options.generation.system.empty()) messages.push_back({Role::kSystem, options.generation.system, {}});
    messages.push_back({Role::kUser, text, {}});
    FATHOM_TRY(prompt, BuildPrompt(*engine, format, messages, WantsThinking(options.generation, *engine),
                                   !options.generation.no_system));
  }
  if (options.show_prompt) {
    const std::string shown = SafeUtf8(engine->tokenizer()->Decode(prompt.ids, true));
    std::fprintf(stderr, "%s\n---\n", shown.c_str());
  }
  FATHOM_TRY(GenerationParams params, ToGenerationParams(options.generation, engine->config().vocab_size));
  params.starts_in_thinking = prompt.starts_in_thinking;
  params.parse_reasoning = !options.raw;

  FATHOM_TRY(const auto session, engine->NewSession());
  AnswerPrinter printer = AnswerPrinter::ForStdout(!options.hide_thinking);
  Progress::Options progress_options;
  progress_options.quiet = options.model.quiet;
  Progress progress("reading the prompt", std::move(progress_options));
  InterruptScope interrupt;
  auto result = session->Generate(
      prompt.ids, params,
      [&](const Emission& emission) {
        progress.Finish();
        if (!options.json) printer.Show(emission);
        return !Interrupted();
      },
      [&](int64_t done, int64_t total) {
        progress.Update(done, total, "tokens");
        return !Interrupted();
      });
  progress.Finish();
  if (!result) {
    if (result.error().code == ErrorCode::kCancelled) return Fail(ErrorCode::kCancelled, "interrupted");
    return std::unexpected(result.error());
  }
  if (options.json) {
    const std::string report = RunReport(*engine, *session, prompt, *result, load_seconds);
    std::printf("%s\n", report.c_str());
  } else {
    printer.Finish();
    if (!options.model.quiet) {
      if (const std::string note = FinishNote(*result, *session); !note.empty()) {
        std::fprintf(stderr, "[%s]\n", note.c_str());
      }
      if (IsTerminal(stderr)) {
        std::fprintf(stderr, "%s\n", StatisticsLine(result->timings, engine->memory()).c_str());
        if (const auto experts = engine->expert_stats(); experts && experts->uses > 0) {
          std::fprintf(stderr, "[%s]\n", ExpertReport(*experts).c_str());
        }
      }
      if (const auto promise = MeasurePromise(*engine)) std::fprintf(stderr, "[%s]\n", PromiseLine(*promise).c_str());
    }
  }
  if (result->finish_reason == FinishReason::kCancelled) return Fail(ErrorCode::kCancelled, "interrupted");
  return {};
}

}  // namespace

void RegisterRun(CLI::App& app, Action& selected) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* command = AddCommand(app, selected, "run", "answer one prompt and end",
                                 "The prompt is the words of the command line, then the text of -f FILE; without "
                                 "either, standard input. It is put\n"
                                 "into the model's chat format unless --raw is given. The answer goes to stdout; when "
                                 "stdout is not a terminal, the\n"
                                 "model's reasoning goes to stderr.\n"
                                 "\n"
                                 "Examples:\n"
                                 "  fathom run \"Name three rivers\"\n"
                                 "  fathom run -m model.gguf --temp 0 -n 32 --json \"What is 2+2?\"\n"
                                 "  fathom run -m model.gguf -f report.txt \"Summarise this:\"\n"
                                 "  echo 'def fib(n):' | fathom run -m model.gguf --raw --temp 0.2 -n 100\n"
                                 "\n"
                                 "--json prints one object: text, reasoning, prompt_tokens and tokens (ids), "
                                 "finish_reason (stop, length, context or\n"
                                 "cancelled), seed, timings, memory and, where they are streamed, experts.",
                                 options, Run);
  command->add_option("PROMPT", options->words,
                      "the prompt; several words are joined by spaces, '-' is standard input");
  AddModelOptions(*command, options->model);
  AddSpeculationOption(*command, options->model);
  command->add_option("-f,--file", options->file, "prompt text from a file ('-': standard input), after the words");
  command->add_flag("--raw", options->raw, "plain completion: no chat format, no recognition of reasoning");
  command->add_flag("--json", options->json, "print one JSON object instead of the text");
  command->add_flag("--hide-thinking", options->hide_thinking, "do not show the model's reasoning");
  command->add_flag("--show-prompt", options->show_prompt, "print the formatted prompt to stderr first");
  AddGenerationOptions(*command, options->generation);
}

}  // namespace fathom
