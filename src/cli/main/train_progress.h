// What a person sees of a training run, and what stays of it: the progress line, metrics.jsonl and report.html.
//
// The trainer calls it on rank 0 only, from the training thread.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "cli/progress.h"
#include "train/metrics.h"
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
  /// A metrics file that cannot be written is told once; training goes on without it.
  void Keep(Status status);
  void WriteReportNow();

  const Recipe& recipe_;
  bool quiet_;
  Progress progress_;
  train::RunInfo run_;
  double tokens_per_second_ = 0;  // smoothed
  double seconds_ = 0;            // of the whole run
  std::unique_ptr<MetricsLog> metrics_;
};

}  // namespace fathom
