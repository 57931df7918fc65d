// Results of `fathom eval` for people (a table) and programs (JSON), and samples as JSON lines.
//
// Pure functions, thread-safe. Text from models and files goes into JSON as valid UTF-8 (broken bytes as U+FFFD).
#pragma once

#include <optional>
#include <span>
#include <string>

#include "eval/runner.h"

namespace fathom {

struct EvalSetting {
  std::string model;
  std::string chat_format;
  bool thinking = true;  // meant only for formats that have the switch
  uint64_t seed = 1;
  int64_t n = 0;
  int32_t batch = 0;
  // Where experts are streamed: how much gates leaned to resident ones, and the share of uses that found one.
  std::optional<float> expert_bias = {};
  double expert_hit_ratio = 0;
};

/// One suite's table: a line a family, then the whole, then what it cost.
std::string ResultTable(const SuiteResult& result);

/// One object. "suites" holds every suite by name; when there is one suite only, its "accuracy", "families" and so on
/// stand at the top as well. Keys: docs/eval.md.
std::string ResultJson(std::span<const SuiteResult> results, const EvalSetting& setting);

/// One JSON object without line breaks: suite, id, family, prompt, output, reasoning, gold, parsed, score, …
std::string SampleJson(std::string_view suite, const Sample& sample);

}  // namespace fathom
