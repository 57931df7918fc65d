// fathom chat: a conversation.
#include <cstdio>

#include "cli/answer.h"
#include "cli/chat_loop.h"
#include "cli/command.h"
#include "cli/memory_report.h"
#include "cli/terminal.h"

namespace fathom {
namespace {

struct ChatCommandOptions {
  ModelOptions model;
  GenerationOptions generation;
  bool hide_thinking = false;
};

Status RunChat(const ChatCommandOptions& options) {
  FATHOM_TRY(const auto engine, LoadEngine(options.model));
  ChatSettings settings;
  FATHOM_TRY(settings.format, ChooseChatFormat(*engine, options.generation.chat_format));
  FATHOM_TRY(settings.params, ToGenerationParams(options.generation, engine->config().vocab_size));
  settings.system = options.generation.system;
  settings.default_system = !options.generation.no_system && settings.system.empty();
  settings.thinking = WantsThinking(options.generation, *engine);
  settings.show_thinking = !options.hide_thinking;
  settings.quiet = options.model.quiet;
  if (engine->tokenizer() == nullptr) {
    return Fail(ErrorCode::kUnsupported, "this model's tokenizer cannot be used: {}", engine->tokenizer_error());
  }
  const auto warnings = FormatWarnings(*engine, options.generation, settings.format);
  for (const std::string& warning : warnings) std::fprintf(stderr, "warning: %s\n", warning.c_str());
  if (!options.model.quiet) {
    const std::string& name = engine->config().name;
    std::fprintf(stderr, "%s, context %d tokens%s\n",
                 name.empty() ? engine->config().architecture.c_str() : OneLine(name, 60).c_str(),
                 engine->context_length(),
                 settings.format == ChatFormat::kPlain
                     ? "; it has no chat format, so it just continues each message and forgets the ones before"
                     : "");
  }
  const auto reader = MakeLineReader();
  ChatLoop loop(*engine, std::move(settings), *reader, stdout, stderr);
  FATHOM_CHECK_OK(loop.Run());
  if (const auto promise = MeasurePromise(*engine); promise && !options.model.quiet)
    std::fprintf(stderr, "[%s]\n", PromiseLine(*promise).c_str());
  return {};
}

}  // namespace

void RegisterChat(CLI::App& app, Action& selected) {
  auto options = std::make_shared<ChatCommandOptions>();
  CLI::App* command = AddCommand(app, selected, "chat", "hold a conversation",
                                 "Examples:\n"
                                 "  fathom chat\n"
                                 "  fathom chat -m model.gguf --system \"Answer in one sentence.\" --temp 0.6\n"
                                 "  fathom chat -m model.gguf < questions.txt   one message a line, answers to stdout\n"
                                 "\n"
                                 "Inside: /help lists the commands, Ctrl-C stops an answer, Ctrl-D ends.",
                                 options, RunChat);
  AddModelOptions(*command, options->model);
  AddSpeculationOption(*command, options->model);
  command->add_flag("--hide-thinking", options->hide_thinking, "do not show the model's reasoning");
  AddGenerationOptions(*command, options->generation);
}

}  // namespace fathom
