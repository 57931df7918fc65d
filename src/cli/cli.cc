#include "cli/cli.h"

#include <clocale>
#include <csignal>
#include <cstdio>
#include <new>

#include "base/log.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/terminal.h"

namespace fathom {
namespace {

constexpr char kDescription[] =
    "fathom answers prompts from DeepSeek-family model files (GGUF, Hugging Face directories) on this machine's CPU.\n"
    "Nothing that you type leaves it.";

constexpr char kExamples[] =
    "Examples:\n"
    "  fathom pull smollm2-135m                      get a small model to begin with (95 MB)\n"
    "  fathom chat                                   talk to it\n"
    "  fathom run -m model.gguf \"Why is the sky blue?\" one answer, then end\n"
    "  fathom serve                                  an OpenAI-compatible API and a web page on this machine\n"
    "  git diff | fathom run -m model.gguf \"Review this change:\" -f -\n"
    "  fathom inspect model.gguf                     what is in a file and what it needs\n"
    "  fathom bench -m model.gguf                    how fast it is here\n"
    "\n"
    "'fathom COMMAND --help' tells more about each. A model is a .gguf file (any part of a split one), a Hugging Face\n"
    "directory, or the name of a pulled model.";

/// CLI11's own words, first line only, in our form.
std::string UsageError(const CLI::App& app, const CLI::ParseError& error, const std::string& first_word) {
  std::string what = error.what();
  if (const size_t end = what.find('\n'); end != std::string::npos) what.resize(end);
  std::string name = "fathom";
  const auto chosen = app.get_subcommands();
  if (chosen.empty() && !first_word.empty() && first_word.front() != '-') {
    return fmt::format("fathom: {}: no such command\n  'fathom --help' names them.\n", OneLine(first_word, 40));
  }
  if (!chosen.empty()) name += " " + chosen.front()->get_name();
  return fmt::format("fathom: {}\n  Try '{} --help'.\n", what, name);
}

int Dispatch(int argc, char** argv) {
  CLI::App app(kDescription, "fathom");
  app.footer(kExamples);
  app.require_subcommand(1);
  app.set_version_flag("--version", "fathom " FATHOM_VERSION, "print the version and end");
  app.set_help_flag("-h,--help", "print this help and end");

  Action selected;
  RegisterRun(app, selected);
  RegisterChat(app, selected);
  RegisterServe(app, selected);
  RegisterPull(app, selected);
  RegisterInspect(app, selected);
  RegisterTokenize(app, selected);
  RegisterPerplexity(app, selected);
  RegisterEval(app, selected);
  RegisterBench(app, selected);
  RegisterTrain(app, selected);
  RegisterTrainTokenizer(app, selected);
  RegisterSynth(app, selected);
  RegisterTasks(app, selected);
  RegisterConvert(app, selected);
  RegisterPlan(app, selected);
  RegisterTrainReport(app, selected);
  RegisterCache(app, selected);
  RegisterExperts(app, selected);
  RegisterDoctor(app, selected);
  RegisterVersion(app, selected);

  if (argc <= 1) {
    std::fputs("fathom: no command given\n", stderr);
    std::fputs(app.help().c_str(), stderr);
    return 2;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& request) {  // --help, --version
    return app.exit(request);
  } catch (const CLI::ParseError& error) {
    std::fputs(UsageError(app, error, argv[1]).c_str(), stderr);
    return 2;
  }

  const Status status = selected();
  if (!status) {
    std::fflush(stdout);
    std::fputs(FormatError(status.error()).c_str(), stderr);
    return ExitStatus(status.error());
  }
  // A full disk or a closed pipe behind stdout must not look like success.
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    std::fputs("fathom: could not write all output (is the disk full?)\n", stderr);
    return 1;
  }
  return 0;
}

}  // namespace

std::string FormatError(const Error& error) {
  std::string text = "fathom: ";
  for (const char c : error.message) {
    text += c;
    if (c == '\n') text += "  ";
  }
  return text + "\n";
}

int ExitStatus(const Error& error) {
  switch (error.code) {
    case ErrorCode::kInvalidArgument: return 2;
    case ErrorCode::kCancelled: return 128 + InterruptSignal();
    default: return 1;
  }
}

void IgnoreFileSizeSignal() { std::signal(SIGXFSZ, SIG_IGN); }

int Main(int argc, char** argv) {
  std::setlocale(LC_CTYPE, "C.UTF-8");  // line editing counts characters; numbers stay with points
  IgnoreFileSizeSignal();
  try {
    InitLog();
    return Dispatch(argc, argv);
  } catch (const std::bad_alloc&) {
    std::fputs("fathom: out of memory\n  Try a smaller --ctx, or 'fathom inspect MODEL' to see what it needs.\n",
               stderr);
    return 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fathom: internal error: %s\n", error.what());
    return 1;
  }
}

}  // namespace fathom
