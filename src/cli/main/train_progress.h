// What a person sees of a training run, and what stays of it: the progress line, metrics.jsonl and report.html.
//
// On rank 0, from the training thread.
#pragma once

#include <memory>
#include <string>

#include "cli/progress.h"
#include "train/recipe.h"
#include "train/torch/trainer.h"

namespace fathom {

class TrainProgress {
 public:
  TrainProgress(const Recipe& recipe, bool quiet);

  void Start(const train::RunInfo& info);
  void Step(const train::StepInfo& info);
  void Validation(const train::ValidationInfo& info);
  void Checkpoint(const std::string& path, int64_t step);
  void Message(const std::string& text);
  void Finish(const train::RunResult& result);

 private:
  void Say(const std::string& line);

  const Recipe& recipe_;
  bool quiet_;
  Progress progress_;
  train::RunInfo run_;
  double tokens_per_second_ = 0;  // smoothed
  double seconds_ = 0;
};

}  // namespace fathom
