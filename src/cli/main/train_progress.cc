#include "cli/main/train_progress.h"

#include <fmt/format.h>

#include <cstdio>

namespace fathom {

TrainProgress::TrainProgress(const Recipe& recipe, bool quiet)
    : recipe_(recipe), quiet_(quiet), progress_(recipe.name, {.quiet = quiet}) {}

void TrainProgress::Say(const std::string& line) {
  if (quiet_) return;
  progress_.Finish();
  std::fprintf(stderr, "%s\n", line.c_str());
}

void TrainProgress::Start(const train::RunInfo& info) {
  run_ = info;
  Say(fmt::format("{}: {:.1f} M parameters, {:.1f} M active ({:.1f} %); {:.1f} M tokens in {} steps on {} ({} rank(s), "
                  "{} thread(s), matrix product {:.0f} GFLOP/s)",
                  recipe_.name, info.parameters_total / 1e6, info.parameters_active / 1e6,
                  100.0 * info.parameters_active / info.parameters_total, info.total_tokens / 1e6, info.total_steps,
                  info.device, info.ranks, info.threads, info.peak_flops / 1e9));
  if (info.first_step > 0) Say(fmt::format("going on from {}", info.resumed_from));
}

void TrainProgress::Step(const train::StepInfo& info) {
  seconds_ += info.seconds;
  const double rate = recipe_.batch_tokens / info.seconds;
  tokens_per_second_ = tokens_per_second_ == 0 ? rate : 0.95 * tokens_per_second_ + 0.05 * rate;
  progress_.Update(info.tokens, run_.total_tokens,
                   fmt::format("{} loss {:.3f} mtp {:.3f} norm {:.2f} {:.0f} tok/s {:.0f} GFLOP/s",
                               recipe_.stages[info.stage].name, info.loss, info.mtp_loss, info.gradient_norm,
                               tokens_per_second_, info.flops / info.seconds / 1e9));
}

void TrainProgress::Validation(const train::ValidationInfo& info) {
  Say(fmt::format("step {}: validation loss {:.4f}{}", info.step, info.loss,
                  info.bits_per_byte > 0 ? fmt::format(", {:.3f} bits per byte", info.bits_per_byte) : ""));
}

void TrainProgress::Checkpoint(const std::string& path, int64_t step) {
  Say(fmt::format("step {}: saved {}", step, path));
}

void TrainProgress::Message(const std::string& text) { Say(text); }

void TrainProgress::Finish(const train::RunResult& result) {
  if (result.finished) Say(fmt::format("done: {} steps, the model is in {}", result.step, result.exported));
}

}  // namespace fathom
