// The words of `fathom train`, shared by fathom (which shows the help and starts the trainer) and fathom-train.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

namespace fathom {

struct TrainCommand {
  std::string recipe, device = "cpu", init_from;
  std::vector<std::string> overrides;
  int threads = 0;
  int64_t steps = 0;
  bool restart = false, quiet = false;
};

void DescribeTrain(CLI::App& app, TrainCommand& command);

}  // namespace fathom
