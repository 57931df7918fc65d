#include "eval/report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace fathom {
namespace {

using Json = nlohmann::ordered_json;

std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

Json Optional(const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); }

Json FamilyJson(const Suite& suite, const FamilyResult& family) {
  Json out;
  const bool any = family.score.n > 0;
  out["accuracy"] = any ? Json(family.score.value) : Json(nullptr);
  out["n"] = family.score.n;
  out["ci_low"] = family.score.low;
  out["ci_high"] = family.score.high;
  out["chance"] = Optional(family.chance);
  out["metric"] = family.info.metric_name;
  if (!suite.extra_name.empty()) out[std::string(suite.extra_name)] = Optional(family.extra);
  return out;
}

Json SuiteJson(const SuiteResult& result) {
  Json out;
  out["accuracy"] = result.score.n > 0 ? Json(result.score.value) : Json(nullptr);
  out["ci_low"] = result.score.low;
  out["ci_high"] = result.score.high;
  out["chance"] = Optional(result.chance);
  if (!result.suite->extra_name.empty()) out[std::string(result.suite->extra_name)] = Optional(result.extra);
  out["average"] = result.suite->mean_of_families ? "families" : "items";
  out["finished"] = result.samples.size();
  out["asked"] = result.asked;
  out["partial"] = result.partial;
  out["errors"] = result.errors;
  out["cut_off"] = result.cut_off;
  Json& families = out["families"] = Json::object();
  for (const FamilyResult& family : result.families) families[family.info.name] = FamilyJson(*result.suite, family);
  out["prompt"] = result.loaded.prompt;
  out["notes"] = result.loaded.notes;
  Json& timings = out["timings"];
  timings["seconds"] = result.seconds;
  timings["prompt_tokens"] = result.work.prompt_tokens;
  timings["cached_tokens"] = result.work.cached_tokens;
  timings["generated_tokens"] = result.work.generated_tokens;
  timings["generated_per_second"] =
      result.seconds > 0 ? static_cast<double>(result.work.generated_tokens) / result.seconds : 0.0;
  return out;
}

std::string Percent(const std::optional<double>& value) {
  return value ? fmt::format("{:5.1f}", 100 * *value) : std::string("    –");
}

}  // namespace

std::string ResultTable(const SuiteResult& result) {
  const Suite& suite = *result.suite;
  size_t width = 8;
  for (const FamilyResult& family : result.families) width = std::max(width, family.info.name.size());
  width = std::min<size_t>(width, 60);
  std::string out =
      fmt::format("{:<{}}  {:>6}  {:>5}  {:>13}  {:>6}", suite.name, width, "n", "%", "95 % interval", "chance");
  if (!suite.extra_name.empty()) out += fmt::format("  {:>6}", suite.extra_name);
  out += "\n";
  const auto line = [&](std::string_view name, const Estimate& score, const std::optional<double>& chance,
                        const std::optional<double>& extra, std::string_view metric) {
    std::optional<double> value;
    if (score.n > 0) value = score.value;
    out += fmt::format("{:<{}}  {:>6}  {}  {:5.1f} – {:5.1f}   {}", name.substr(0, width), width, score.n,
                       Percent(value), 100 * score.low, 100 * score.high, Percent(chance));
    if (!suite.extra_name.empty()) out += fmt::format("   {}", Percent(extra));
    if (!metric.empty() && metric != "accuracy") out += fmt::format("  {}", metric);
    out += "\n";
  };
  for (const FamilyResult& family : result.families) {
    line(family.info.name, family.score, family.chance, family.extra, family.info.metric_name);
  }
  line(suite.mean_of_families ? "mean" : "all", result.score, result.chance, result.extra, {});
  const double seconds = std::max(result.seconds, 1e-9);
  out += fmt::format("{} of {} items{}, {:.1f} s, {} prompt tokens ({} more known), {} generated: {:.1f} tokens/s\n",
                     result.samples.size(), result.asked, result.partial ? " (interrupted)" : "", result.seconds,
                     result.work.prompt_tokens, result.work.cached_tokens, result.work.generated_tokens,
                     static_cast<double>(result.work.prompt_tokens + result.work.generated_tokens) / seconds);
  if (result.errors > 0) out += fmt::format("{} prompts could not be answered and count as wrong\n", result.errors);
  if (result.cut_off > 0) out += fmt::format("{} answers were cut off (see --max-tokens)\n", result.cut_off);
  for (const std::string& note : result.loaded.notes) out += fmt::format("not scored: {}\n", note);
  return out;
}

std::string ResultJson(std::span<const SuiteResult> results, const EvalSetting& setting) {
  Json out;
  out["model"] = setting.model;
  out["chat_format"] = setting.chat_format;
  out["thinking"] = setting.thinking;
  out["seed"] = setting.seed;
  out["n"] = results.size() == 1 ? static_cast<int64_t>(results.front().samples.size()) : setting.n;
  out["batch"] = setting.batch;
  if (setting.expert_bias) {
    out["expert_bias"] = *setting.expert_bias;
    out["expert_hit_ratio"] = setting.expert_hit_ratio;
  }
  if (results.size() == 1) {
    out["suite"] = results.front().suite->name;
    out.update(SuiteJson(results.front()));
  }
  Json& suites = out["suites"] = Json::object();
  for (const SuiteResult& result : results) suites[std::string(result.suite->name)] = SuiteJson(result);
  return Dump(out);
}

std::string SampleJson(std::string_view suite, const Sample& sample) {
  Json out;
  out["suite"] = suite;
  out["id"] = sample.item->id;
  out["family"] = sample.item->family;
  out["prompt"] = sample.prompt;
  out["output"] = sample.output;
  out["reasoning"] = sample.reasoning;
  out["gold"] = sample.item->gold;
  out["parsed"] = sample.score.parsed;
  out["score"] = sample.score.value;
  if (sample.score.extra) out["extra"] = *sample.score.extra;
  out["finish_reason"] = FinishReasonName(sample.finish_reason);
  if (!sample.error.empty()) {
    out["finish_reason"] = "error";
    out["error"] = sample.error;
  }
  out["prompt_tokens"] = sample.prompt_tokens;
  out["generated_tokens"] = sample.generated_tokens;
  return Dump(out);
}

}  // namespace fathom
