// What leaning to resident experts costs in right answers and gains in speed: `fathom eval --expert-bias X,X…`.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "eval/report.h"
#include "experts/expert_store.h"

namespace fathom {

/// All suites once, with one strength of the gates' bias.
struct EvalRun {
  EvalSetting setting;
  std::vector<SuiteResult> results;
  std::optional<ExpertStoreStats> experts;  // where they are streamed
};

/// A line a strength and suite, differences against the first strength. REQUIRES: every run has experts and a bias, and the
/// suites of the first.
std::string BiasTable(std::span<const EvalRun> runs);

}  // namespace fathom
