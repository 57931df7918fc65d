// What `fathom cache simulate` and `fathom experts simulate` have in common: policies run over recorded traces, timed, and
// told on standard output as a table for each trace, or all of it as one JSON document at the end. One thread.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "base/result.h"
#include "cli/interrupt.h"

namespace fathom {

/// Seconds that run(), which returns a Status, took. Errors: its own; kCancelled, when Ctrl-C came before it began.
template <typename Fn>
Result<double> TimeRun(Fn&& run) {
  if (Interrupted()) return Fail(ErrorCode::kCancelled, "stopped");
  const auto start = std::chrono::steady_clock::now();
  FATHOM_CHECK_OK(run());
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

class SimulationReport {
 public:
  struct Column {
    const char* title;
    int width;
    bool left = false;  // words; numbers stand to the right
  };
  /// head: what the document says before its "traces". columns: outlive this.
  SimulationReport(bool json, nlohmann::ordered_json head, std::span<const Column> columns);

  /// A trace: what the document says of it before its "runs"; or `summary`, whole lines, and the table's head.
  void Trace(nlohmann::ordered_json fields, const std::string& summary);
  /// A run over the last trace, one cell a column; `after`: whole lines.
  void Run(nlohmann::ordered_json fields, std::span<const std::string> cells, const std::string& after = "");
  /// Once, when all has been said.
  void End();

 private:
  void PrintRow(std::span<const std::string> cells) const;

  const bool json_;
  nlohmann::ordered_json document_;
  const std::span<const Column> columns_;
};

}  // namespace fathom
