// fathom train-report: the metrics of a training run as one HTML page.
#include <cstdio>

#include "cli/command.h"
#include "io/env.h"
#include "train/report.h"

namespace fathom {
namespace {

struct TrainReportOptions {
  std::string run;     // the run's folder, or its metrics.jsonl
  std::string output;  // empty: report.html beside the metrics
  bool quiet = false;
};

Status RunTrainReport(const TrainReportOptions& options) {
  Env& env = Env::Default();
  const std::string metrics = env.IsDirectory(options.run) ? JoinPath(options.run, "metrics.jsonl") : options.run;
  if (!env.Exists(metrics)) {
    return Fail(ErrorCode::kNotFound, "{}: not there\nGive the folder of a training run (the recipe's 'output').", metrics);
  }
  const std::string output =
      options.output.empty() ? JoinPath(DirectoryOf(metrics), "report.html") : options.output;
  FATHOM_CHECK_OK(WriteReport(metrics, output));
  if (!options.quiet) std::fprintf(stderr, "%s: open it in a browser; nothing in it is fetched\n", output.c_str());
  return {};
}

}  // namespace

void RegisterTrainReport(CLI::App& app, Action& selected) {
  auto options = std::make_shared<TrainReportOptions>();
  CLI::App* command = AddCommand(
      app, selected, "train-report", "draw the metrics of a training run as one HTML page",
      "Examples:\n"
      "  fathom train-report runs/nano                    writes runs/nano/report.html\n"
      "  fathom train-report runs/nano -o nano.html\n"
      "  fathom train-report metrics.jsonl\n"
      "\n"
      "The page needs no network: curves of loss, MTP loss, expert load, gradient norm, learning rate, tokens and\n"
      "FLOP/s, and cost are drawn from data in it. A run that is still going can be drawn at any time.",
      options, RunTrainReport);
  command->add_option("run", options->run, "the run's folder, or its metrics.jsonl")->required();
  command->add_option("-o,--output", options->output, "the page to write (default: report.html beside the metrics)");
  command->add_flag("-q,--quiet", options->quiet, "say nothing");
}

}  // namespace fathom
