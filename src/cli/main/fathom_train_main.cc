// fathom-train: the trainer as a program of its own, so that `fathom` never loads libtorch. `fathom train` starts it.
#include <dlfcn.h>
#include <malloc.h>

#include <CLI/CLI.hpp>
#include <clocale>
#include <cstdio>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/train_options.h"
#include "cli/main/train_progress.h"
#include "train/torch/trainer.h"

namespace fathom {
namespace {

/// libtorch asks malloc for large tensors again and again; giving them back to the kernel each time costs a tenth of the
/// run in page faults. And a BLAS with threads of its own would fight libtorch's for the cores.
void TuneProcess() {
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, 0x7fffffff);
  mallopt(M_TOP_PAD, 64 << 20);
  using SetThreads = void (*)(int);
  if (auto set = reinterpret_cast<SetThreads>(dlsym(RTLD_DEFAULT, "openblas_set_num_threads"))) set(1);
}

Status RunTrain(const TrainCommand& command) {
  FATHOM_TRY(const Recipe recipe, LoadRecipe(command.recipe, command.overrides));
  TuneProcess();
  InterruptScope interrupt(InterruptBy::kAnyEnd);
  TrainProgress progress(recipe, command.quiet);
  train::TrainOptions options;
  options.recipe = recipe;
  options.device = command.device;
  options.threads = command.threads;
  options.restart = command.restart;
  options.init_from = command.init_from;
  options.stop_after_steps = command.steps;
  options.interrupted = [] { return Interrupted(); };
  options.on_start = [&](const train::RunInfo& info) { progress.Start(info); };
  options.on_step = [&](const train::StepInfo& info) { progress.Step(info); };
  options.on_validation = [&](const train::ValidationInfo& info) { progress.Validation(info); };
  options.on_checkpoint = [&](const std::string& path, int64_t step) { progress.Checkpoint(path, step); };
  options.on_message = [&](const std::string& message) { progress.Message(message); };
  FATHOM_TRY(const train::RunResult result, train::Train(options));
  progress.Finish(result);
  if (!result.finished && Interrupted()) {
    return Fail(ErrorCode::kCancelled, "stopped at step {}; everything is in {}\nThe same command goes on from there.",
                result.step, result.checkpoint);
  }
  return {};
}

int TrainMain(int argc, char** argv) {
  std::setlocale(LC_CTYPE, "C.UTF-8");
  IgnoreFileSizeSignal();
  InitLog();
  CLI::App app("", "fathom train");
  TrainCommand command;
  DescribeTrain(app, command);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& request) {
    return app.exit(request);
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "fathom: %s\n  Try 'fathom train --help'.\n", error.what());
    return 2;
  }
  const Status status = RunTrain(command);
  if (status) return 0;
  std::fputs(FormatError(status.error()).c_str(), stderr);
  return ExitStatus(status.error());
}

}  // namespace
}  // namespace fathom

int main(int argc, char** argv) { return fathom::TrainMain(argc, argv); }
