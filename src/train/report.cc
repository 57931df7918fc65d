#include "train/report.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <span>

#include "io/file_writer.h"
#include "train/report_page.h"

namespace fathom {
namespace {

using Json = nlohmann::json;

constexpr size_t kBuckets = 800;      // points of a curve
constexpr size_t kLoadBuckets = 160;  // columns of the load over time

Json Number(double value) {
  if (!std::isfinite(value) || std::abs(value) >= 1e307) return nullptr;
  return std::strtod(fmt::format("{:.5g}", value).c_str(), nullptr);
}

// Of the steps of one bucket; values that are not there do not count.
struct Range {
  double sum = 0, low = INFINITY, high = -INFINITY;
  int64_t count = 0;
  void Add(double value) {
    if (!std::isfinite(value) || std::abs(value) >= 1e307) return;
    sum += value;
    low = std::min(low, value);
    high = std::max(high, value);
    ++count;
  }
  Json Mean() const { return count > 0 ? Number(sum / static_cast<double>(count)) : Json(nullptr); }
};

// [first, last) of bucket i of `count` items in `buckets` buckets.
std::pair<size_t, size_t> Bucket(size_t i, size_t count, size_t buckets) {
  return {i * count / buckets, (i + 1) * count / buckets};
}

using Field = std::function<double(const StepMetrics&)>;

// {"mean": […], "low": […], "high": […]}; the range only where a bucket is more than a step. Null when no step has it.
Json Series(const std::vector<StepMetrics>& steps, const Field& field) {
  const size_t buckets = std::min(kBuckets, steps.size());
  Json mean = Json::array(), low = Json::array(), high = Json::array();
  bool any = false;
  for (size_t i = 0; i < buckets; ++i) {
    Range range;
    const auto [first, last] = Bucket(i, steps.size(), buckets);
    for (size_t s = first; s < last; ++s) range.Add(field(steps[s]));
    any |= range.count > 0;
    mean.push_back(range.Mean());
    low.push_back(range.count > 0 ? Number(range.low) : Json(nullptr));
    high.push_back(range.count > 0 ? Number(range.high) : Json(nullptr));
  }
  if (!any) return nullptr;
  Json out = {{"mean", std::move(mean)}};
  if (buckets < steps.size()) out["low"] = std::move(low), out["high"] = std::move(high);
  return out;
}

// What stands at the end of each bucket.
Json Ends(const std::vector<StepMetrics>& steps, const Field& field) {
  const size_t buckets = std::min(kBuckets, steps.size());
  Json out = Json::array();
  bool any = false;
  for (size_t i = 0; i < buckets; ++i) {
    const double value = field(steps[Bucket(i, steps.size(), buckets).second - 1]);
    any |= std::isfinite(value);
    out.push_back(Number(value));
  }
  return any ? out : Json(nullptr);
}

// The running mean that the eye wants: over a hundredth of the run, and less at its beginning, where the loss falls.
std::vector<double> Smoothed(const std::vector<StepMetrics>& steps, const Field& field) {
  const double longest = std::max(1.0, static_cast<double>(steps.size()) / 100.0);
  std::vector<double> out;
  double sum = 0, weight = 0;
  for (const StepMetrics& step : steps) {
    const double window = std::clamp(static_cast<double>(out.size()) / 10.0, 1.0, longest), keep = 1.0 - 1.0 / window;
    if (const double value = field(step); std::isfinite(value)) {
      sum = keep * sum + value;
      weight = keep * weight + 1;
    }
    out.push_back(weight > 0 ? sum / weight : StepMetrics::kNone);
  }
  return out;
}

// How evenly a layer's experts are used; 1 is even.
struct Evenness {
  double busiest = 0, idlest = 0, variation = 0;
};

Evenness EvennessOf(std::span<const float> shares) {
  const double experts = static_cast<double>(shares.size());
  Evenness out{0, INFINITY, 0};
  for (const float share : shares) {
    const double load = share * experts;
    out.busiest = std::max(out.busiest, load);
    out.idlest = std::min(out.idlest, load);
    out.variation += (load - 1) * (load - 1);
  }
  out.variation = std::sqrt(out.variation / experts);
  return out;
}

// Load of the experts: over time, a layer a row, and at the end, expert by expert.
Json ExpertLoad(const std::vector<StepMetrics>& steps) {
  std::vector<const StepMetrics*> with;
  size_t layers = 0;
  for (const StepMetrics& step : steps) {
    const bool same_shape = with.empty() || step.expert_load.size() == layers;
    if (step.expert_load.empty() || step.expert_load.front().empty() || !same_shape) continue;
    layers = step.expert_load.size();
    with.push_back(&step);
  }
  if (with.empty()) return nullptr;
  const size_t buckets = std::min(kLoadBuckets, with.size());
  Json tokens = Json::array(), step_numbers = Json::array(), hours = Json::array();
  Json busiest = Json::array(), idlest = Json::array(), variation = Json::array(), rows = Json::array();
  for (size_t layer = 0; layer < layers; ++layer) rows.push_back(Json::array());
  for (size_t i = 0; i < buckets; ++i) {
    const auto [first, last] = Bucket(i, with.size(), buckets);
    Range all_busiest, all_idlest, all_variation;
    for (size_t layer = 0; layer < layers; ++layer) {
      Range row;
      for (size_t s = first; s < last; ++s) {
        if (with[s]->expert_load[layer].empty()) continue;
        const Evenness e = EvennessOf(with[s]->expert_load[layer]);
        row.Add(e.busiest);
        all_busiest.Add(e.busiest);
        all_idlest.Add(e.idlest);
        all_variation.Add(e.variation);
      }
      rows[layer].push_back(row.Mean());
    }
    busiest.push_back(all_busiest.Mean());
    idlest.push_back(all_idlest.Mean());
    variation.push_back(all_variation.Mean());
    tokens.push_back(with[last - 1]->tokens);
    step_numbers.push_back(with[last - 1]->step);
    hours.push_back(Number(with[last - 1]->seconds / 3600));
  }
  // The end: the mean of the last twentieth, at most 100 steps.
  const size_t tail = std::clamp<size_t>(with.size() / 20, 1, 100);
  Json experts = Json::array();
  for (size_t layer = 0; layer < layers; ++layer) {
    const size_t count = with.back()->expert_load[layer].size();
    std::vector<double> sums(count);
    double used = 0;
    for (size_t s = with.size() - tail; s < with.size(); ++s) {
      if (with[s]->expert_load[layer].size() != count) continue;
      for (size_t e = 0; e < count; ++e) sums[e] += with[s]->expert_load[layer][e];
      ++used;
    }
    Json row = Json::array();
    for (const double sum : sums) row.push_back(Number(sum / used * static_cast<double>(count)));
    experts.push_back(std::move(row));
  }
  return {{"tokens", tokens}, {"step", step_numbers}, {"hours", hours}, {"busiest", busiest}, {"idlest", idlest},
          {"variation", variation}, {"layers", rows}, {"experts", experts}};
}

double FieldOf(const Json& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_number() ? found->get<double>() : StepMetrics::kNone;
}

// The step at which an event happened, for its place on the axes.
const StepMetrics& StepAt(const std::vector<StepMetrics>& steps, int64_t step) {
  const auto at = std::lower_bound(steps.begin(), steps.end(), step,
                                   [](const StepMetrics& m, int64_t wanted) { return m.step < wanted; });
  return at == steps.end() ? steps.back() : *at;
}

Json Validations(const RunMetrics& metrics) {
  Json out = Json::array();
  for (const MetricsEvent& event : metrics.events) {
    if (event.event != "validation" || !std::isfinite(FieldOf(event.fields, "loss"))) continue;
    const StepMetrics& at = StepAt(metrics.steps, event.step);
    out.push_back({{"step", event.step}, {"tokens", at.tokens}, {"hours", Number(at.seconds / 3600)},
                   {"loss", Number(FieldOf(event.fields, "loss"))},
                   {"bits", Number(FieldOf(event.fields, "bits_per_byte"))}});
  }
  return out;
}

Json Stages(const std::vector<StepMetrics>& steps) {
  Json out = Json::array();
  const std::string* name = nullptr;
  for (size_t i = 0; i < steps.size(); ++i) {
    if (name != nullptr && *name == steps[i].stage) continue;
    name = &steps[i].stage;
    const StepMetrics& begin = i == 0 ? steps[0] : steps[i - 1];
    out.push_back({{"name", *name}, {"step", i == 0 ? 0 : begin.step}, {"tokens", i == 0 ? 0 : begin.tokens},
                   {"hours", i == 0 ? Json(0) : Number(begin.seconds / 3600)}});
  }
  return out;
}

Json PageData(const RunMetrics& metrics, const ReportInfo& info) {
  const std::vector<StepMetrics>& steps = metrics.steps;
  const std::vector<double> smooth = Smoothed(steps, [](const StepMetrics& m) { return m.loss; });
  const auto ends = [&](const Field& field) { return Ends(steps, field); };
  const auto series = [&](const Field& field) { return Series(steps, field); };
  const auto smooth_at = [&](const StepMetrics& m) { return smooth[static_cast<size_t>(&m - steps.data())]; };
  Json data = {
      {"info", ToJson(info)},
      {"x", {{"tokens", ends([](const StepMetrics& m) { return static_cast<double>(m.tokens); })},
             {"step", ends([](const StepMetrics& m) { return static_cast<double>(m.step); })},
             {"hours", ends([](const StepMetrics& m) { return m.seconds / 3600; })}}},
      {"loss", series([](const StepMetrics& m) { return m.loss; })},
      {"smooth", ends(smooth_at)},
      {"mtp_loss", series([](const StepMetrics& m) { return m.mtp_loss; })},
      {"balance_loss", series([](const StepMetrics& m) { return m.balance_loss; })},
      {"gradient_norm", series([](const StepMetrics& m) { return m.gradient_norm; })},
      {"learning_rate", series([](const StepMetrics& m) { return m.learning_rate; })},
      {"tokens_per_second", series([](const StepMetrics& m) { return m.tokens_per_second; })},
      {"flops_per_second", series([](const StepMetrics& m) { return m.flops_per_second; })},
      {"peak_share", series([](const StepMetrics& m) { return m.peak_share; })},
      {"cost", ends([](const StepMetrics& m) { return m.cost; })},
      {"validation", Validations(metrics)},
      {"stages", Stages(steps)},
      {"load", ExpertLoad(steps)},
  };
  const StepMetrics& last = steps.back();
  int64_t starts = 0;
  std::string state = "running, or stopped";
  for (const MetricsEvent& event : metrics.events) {
    if (event.event == "start") {
      ++starts;
      state = "running, or stopped";
    }
    if (event.event == "end") {
      const auto finished = event.fields.find("finished");
      state = finished != event.fields.end() && *finished == Json(true) ? "finished" : "interrupted, saved";
    }
  }
  data["now"] = {{"step", last.step}, {"tokens", last.tokens}, {"seconds", Number(last.seconds)},
                 {"cost", Number(last.cost)}, {"loss", Number(smooth.back())}, {"state", state},
                 {"resumed", std::max<int64_t>(0, starts - 1)}, {"skipped", metrics.skipped_lines}};
  return data;
}

std::string Escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '&': out += "&amp;"; break;
      case '"': out += "&quot;"; break;
      default: out += c;
    }
  }
  return out;
}

// Data inside a script element: nothing in it may look like a tag.
std::string ScriptSafe(const Json& data) {
  std::string out;
  for (const char c : data.dump(-1, ' ', true, Json::error_handler_t::replace)) {
    if (c == '<') out += "\\u003c";
    else out += c;
  }
  return out;
}

}  // namespace

ReportInfo ReportInfoOf(const RunMetrics& metrics) {
  ReportInfo info;
  for (const MetricsEvent& event : metrics.events) {
    if (const auto run = event.fields.find("run"); event.event == "start" && run != event.fields.end())
      info = ReportInfoFromJson(*run);
  }
  return info;
}

std::string ReportHtml(const RunMetrics& metrics, const ReportInfo& info) {
  if (metrics.steps.empty()) return {};
  std::string page(kReportHead);
  page += fmt::format("<title>{} · fathom train</title>\n", Escaped(info.name.empty() ? "A run" : info.name));
  page += kReportStyle;
  page += "<script type=\"application/json\" id=\"data\">";
  page += ScriptSafe(PageData(metrics, info));
  page += "</script>\n";
  page += kReportScript;
  return page;
}

Status WriteReport(const std::string& metrics_path, const ReportInfo& info, const std::string& html_path, Env& env) {
  FATHOM_TRY(const RunMetrics metrics, ReadMetrics(metrics_path, env));
  if (metrics.steps.empty()) return Fail(ErrorCode::kCorrupt, "{}: has no steps to report", metrics_path);
  const std::string page = ReportHtml(metrics, info);
  return WriteWholeFile(env, html_path, page);
}

Status WriteReport(const std::string& metrics_path, const std::string& html_path, Env& env) {
  FATHOM_TRY(const RunMetrics metrics, ReadMetrics(metrics_path, env));
  return WriteReport(metrics_path, ReportInfoOf(metrics), html_path, env);
}

}  // namespace fathom
