// A run's metrics as JSON lines (docs/formats/metrics.md): one a step, and one for each event (start, validation,
// checkpoint, end). What report.h draws and what other tools read.
//
// Each line reaches the file in one write, so a killed run loses at most the line being written; a torn last line is
// dropped at the next opening. A resumed run drops the lines after its checkpoint, so that every step is there once.
// Not thread-safe. Errors: those of io/env.h, naming the file.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "io/env.h"

namespace fathom {

/// After a step. Fields that are NaN, and an empty expert_load or stage, are left out of the line.
struct StepMetrics {
  int64_t step = 0, tokens = 0;  // tokens of the whole run so far
  std::string stage;
  double loss = kNone, mtp_loss = kNone, balance_loss = kNone;  // nats a counted token
  double gradient_norm = kNone;                                  // before clipping
  double learning_rate = kNone;                                  // the first of the optimiser's, as it was in this step
  double tokens_per_second = kNone, flops_per_second = kNone;
  double peak_share = kNone;                                     // of the measured matrix ceiling, 0 … 1
  double seconds = kNone, cost = kNone;                          // of the whole run so far
  // [MoE layer][expert], shares of a layer that sum to 1. Every tenth step or so is enough: it is most of a line.
  std::vector<std::vector<float>> expert_load;

  static constexpr double kNone = __builtin_nan("");
};

/// What a reader of the report wants to know of the run as a whole; goes into the "start" event.
struct ReportInfo {
  std::string name;
  std::string device;              // "2 CPU cores", "NVIDIA H100"
  int64_t parameters_total = 0, parameters_active = 0;
  int64_t total_tokens = 0;        // planned
  double flops_per_token = 0;      // training, forward and backward
  double peak_flops = 0;           // measured; 0: not
  double price_per_hour = 0;
  std::string currency = "USD";
  std::vector<std::pair<std::string, std::string>> config;  // rows of a table, in order
};
nlohmann::json ToJson(const ReportInfo& info);
/// Fields of another type than ToJson's are left at their defaults.
ReportInfo ReportInfoFromJson(const nlohmann::json& json);

class MetricsLog {
 public:
  /// after_step: the checkpoint's step when resuming; lines of later steps are dropped. 0: a new run; what was there is
  /// dropped.
  static Result<std::unique_ptr<MetricsLog>> Open(const std::string& path, int64_t after_step,
                                                  Env& env = Env::Default());

  Status Step(const StepMetrics& metrics);
  /// fields: an object, written beside "event" and "step". Durable when this returns.
  Status Event(const std::string& event, int64_t step, nlohmann::json fields = nlohmann::json::object());

 private:
  MetricsLog(std::string path, std::unique_ptr<WritableFile> file) : path_(std::move(path)), file_(std::move(file)) {}
  Status Append(const nlohmann::json& line);

  std::string path_;
  std::unique_ptr<WritableFile> file_;
};

struct MetricsEvent {
  std::string event;
  int64_t step = 0;
  nlohmann::json fields;  // the whole line
};

struct RunMetrics {
  std::vector<StepMetrics> steps;
  std::vector<MetricsEvent> events;
  int64_t skipped_lines = 0;  // neither
};

/// A line that is no JSON object with the fields of a step or an event is counted and skipped. Errors: kNotFound, kIo,
/// kResource for a file above 4 GiB.
Result<RunMetrics> ReadMetrics(const std::string& path, Env& env = Env::Default());

}  // namespace fathom
