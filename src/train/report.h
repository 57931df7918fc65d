// A training run as one HTML page: its curves, its cost, its configuration. Everything is in the file (drawn by a small
// script from data beside it; a policy in the page forbids every connection), light and dark.
//
// The page holds at most some thousand points a curve, whatever the number of steps: buckets with their mean and range.
// Plain functions; thread-safe.
#pragma once

#include <string>

#include "base/result.h"
#include "io/env.h"
#include "train/metrics.h"

namespace fathom {

/// What the run's last "start" event says of it (its field "run").
ReportInfo ReportInfoOf(const RunMetrics& metrics);

/// The page. Pure.
std::string ReportHtml(const RunMetrics& metrics, const ReportInfo& info);

/// Reads the metrics and writes the page, whole or not at all. Errors: kNotFound without metrics, kCorrupt when there
/// is no step in them, kIo, kResource.
Status WriteReport(const std::string& metrics_path, const ReportInfo& info, const std::string& html_path,
                   Env& env = Env::Default());
/// With ReportInfoOf the file itself.
Status WriteReport(const std::string& metrics_path, const std::string& html_path, Env& env = Env::Default());

}  // namespace fathom
