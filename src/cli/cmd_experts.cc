// fathom experts: what expert slots of a given number and policy would have hit on a recorded routing.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/simulation_report.h"
#include "cli/terminal.h"
#include "experts/simulator.h"

namespace fathom {
namespace {

using nlohmann::ordered_json;

struct SimulateOptions {
  std::vector<std::string> traces, slots = {"10%", "25%", "50%"};
  std::string policy = "all", heat_from;
  double prediction = 0;
  int64_t warm = 0;
  bool layers = false, json = false;
};

struct Run {
  std::string name;
  int64_t slots = 0;
  ExpertSimulatorReport report;
  double of_best = 1;  // hits, of Belady's
  double seconds = 0;
};

/// "25%" of all experts, or a number of slots.
Result<int64_t> ParseSlots(const std::string& text, const ExpertGeometry& geometry) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  const bool percent = end != nullptr && *end == '%';
  if (percent) ++end;
  if (text.empty() || *end != '\0' || !std::isfinite(value) || value <= 0 || (percent && value > 100) || value > 1e9) {
    return Fail(ErrorCode::kInvalidArgument, "--slots: '{}' is neither a share of the experts such as 25% nor a number",
                OneLine(text, 40));
  }
  const double slots = percent ? value / 100 * geometry.count() : value;
  return std::max<int64_t>(1, std::llround(slots));
}

double Mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

/// Share of a token's experts that the token before had chosen too, in the same layer; top_k / experts when routing is
/// uniform.
double Stickiness(const RoutingTrace& trace) {
  int64_t same = 0, all = 0;
  for (int64_t t = 1; t < trace.tokens(); ++t) {
    for (int32_t l = 0; l < trace.geometry.layers; ++l) {
      const auto before = trace.Of(t - 1, l), now = trace.Of(t, l);
      for (const uint16_t id : now) same += std::find(before.begin(), before.end(), id) != before.end();
      all += static_cast<int64_t>(now.size());
    }
  }
  return all > 0 ? static_cast<double>(same) / static_cast<double>(all) : 0;
}

/// Entropy of each layer's use of its experts, mean over layers, as a share of the entropy of uniform use.
double Evenness(const RoutingTrace& trace) {
  const ExpertGeometry& g = trace.geometry;
  if (g.experts < 2 || trace.tokens() == 0) return 1;
  std::vector<double> layers;
  for (int32_t l = 0; l < g.layers; ++l) {
    std::vector<int64_t> counts(g.experts);
    for (int64_t t = 0; t < trace.tokens(); ++t)
      for (const uint16_t id : trace.Of(t, l)) ++counts[id];
    double entropy = 0;
    const double all = static_cast<double>(trace.tokens() * g.top_k);
    for (const int64_t count : counts)
      if (count > 0) entropy -= static_cast<double>(count) / all * std::log(static_cast<double>(count) / all);
    layers.push_back(entropy / std::log(static_cast<double>(g.experts)));
  }
  return Mean(layers);
}

constexpr SimulationReport::Column kColumns[] = {
    {"slots", 8}, {"share %", 7}, {"policy", 10, true}, {"hit %", 8}, {"of best %", 10}, {"loads/pass", 12}};

std::vector<std::string> Cells(const Run& run, const ExpertGeometry& geometry) {
  const double tokens = static_cast<double>(run.report.uses) / geometry.layers / geometry.top_k;
  return {fmt::format("{}", run.slots),
          fmt::format("{:.1f}", 100.0 * static_cast<double>(run.slots) / geometry.count()),
          run.name,
          fmt::format("{:.2f}", 100 * run.report.hit_ratio()),
          fmt::format("{:.1f}", 100 * run.of_best),
          fmt::format("{:.2f}", static_cast<double>(run.report.uses - run.report.hits) / std::max(1.0, tokens))};
}

std::string ByLayer(const Run& run) {
  std::string line = "         by layer:";
  for (size_t l = 0; l < run.report.layer_uses.size(); ++l) {
    const auto uses = static_cast<double>(std::max<int64_t>(run.report.layer_uses[l], 1));
    line += fmt::format(" {:.0f}", 100 * static_cast<double>(run.report.layer_hits[l]) / uses);
  }
  return line + "\n";
}

ordered_json ToJson(const Run& run, const ExpertGeometry& geometry) {
  return {{"policy", run.name},
          {"slots", run.slots},
          {"slots_share", static_cast<double>(run.slots) / geometry.count()},
          {"uses", run.report.uses},
          {"hits", run.report.hits},
          {"first_uses", run.report.first_uses},
          {"hit_ratio", run.report.hit_ratio()},
          {"of_belady", run.of_best},
          {"layer_uses", run.report.layer_uses},
          {"layer_hits", run.report.layer_hits},
          {"seconds", run.seconds}};
}

Status RunSimulate(const SimulateOptions& options) {
  if (!(options.prediction >= 0) || options.prediction > 1)
    return Fail(ErrorCode::kInvalidArgument, "--prediction: {} is not in [0, 1]", options.prediction);
  if (options.warm < 0) return Fail(ErrorCode::kInvalidArgument, "--warm: {} is below 0", options.warm);
  std::vector<ExpertPolicyKind> kinds(std::begin(kExpertPolicies), std::end(kExpertPolicies));
  if (options.policy != "all") {
    FATHOM_TRY(const ExpertPolicyKind kind, ParseExpertPolicy(options.policy));
    kinds = {kind};
  }
  const InterruptScope interrupt;
  std::optional<RoutingTrace> earlier;
  if (!options.heat_from.empty()) {
    FATHOM_TRY(earlier, ReadRoutingTrace(Env::Default(), options.heat_from));
  }
  SimulationReport report(options.json, {{"prediction", options.prediction}, {"warm_passes", options.warm}}, kColumns);
  for (const std::string& file : options.traces) {
    FATHOM_TRY(const RoutingTrace trace, ReadRoutingTrace(Env::Default(), file));
    const ExpertGeometry& geometry = trace.geometry;
    if (earlier && !(earlier->geometry == geometry)) {
      return Fail(ErrorCode::kInvalidArgument, "--heat-from: {} was recorded from another model than {}",
                  OneLine(options.heat_from, 60), OneLine(file, 60));
    }
    std::vector<float> heat;
    if (earlier) heat = HeatOf(*earlier, static_cast<int64_t>(earlier->passes.size()));
    std::vector<Run> runs;
    for (const std::string& text : options.slots) {
      FATHOM_TRY(const int64_t slots, ParseSlots(text, geometry));
      Run best{.name = "belady", .slots = slots};
      FATHOM_TRY(best.seconds, TimeRun([&]() -> Status {
                   best.report = BeladyExperts(trace, slots, options.warm);
                   return {};
                 }));
      for (const ExpertPolicyKind kind : kinds) {
        Run run{.name = std::string(ExpertPolicyName(kind)), .slots = slots};
        FATHOM_TRY(run.seconds, TimeRun([&]() -> Status {
                     auto simulated = SimulateExperts(trace, {.policy = kind, .slots = slots, .warm_passes = options.warm,
                                                              .heat = heat, .prediction = options.prediction});
                     if (!simulated) return Prefix(simulated.error(), OneLine(file, 60));
                     run.report = std::move(*simulated);
                     return {};
                   }));
        run.of_best = best.report.hits > 0
                          ? static_cast<double>(run.report.hits) / static_cast<double>(best.report.hits) : 1;
        runs.push_back(std::move(run));
      }
      runs.push_back(best);
    }
    const double sticky = Stickiness(trace), even = Evenness(trace);
    report.Trace({{"file", SafeUtf8(file)},
                  {"layers", geometry.layers},
                  {"experts", geometry.experts},
                  {"top_k", geometry.top_k},
                  {"tokens", trace.tokens()},
                  {"passes", trace.passes.size()},
                  {"same_as_before", sticky},
                  {"same_if_uniform", static_cast<double>(geometry.top_k) / geometry.experts},
                  {"entropy", even}},
                 fmt::format("{}: {} tokens in {} passes, {} MoE layers of {} experts, {} a token\n"
                             "  {:.0f} % of a token's experts are the token's before it (uniform routing: {:.0f} %); "
                             "entropy {:.2f} of uniform\n",
                             OneLine(file, 60), trace.tokens(), trace.passes.size(), geometry.layers, geometry.experts,
                             geometry.top_k, 100 * sticky, 100.0 * geometry.top_k / geometry.experts, even));
    for (const Run& run : runs)
      report.Run(ToJson(run, geometry), Cells(run, geometry), options.layers ? ByLayer(run) : "");
  }
  report.End();
  return {};
}

}  // namespace

void RegisterExperts(CLI::App& app, Action& selected) {
  CLI::App* experts = app.add_subcommand("experts", "experts that do not all fit in memory: what slots would hit");
  experts->require_subcommand(1);
  experts->footer(
      "Examples:\n"
      "  fathom experts simulate trace.jsonl --slots 10%,25%,50%\n"
      "\n"
      "'fathom experts COMMAND --help' tells more about each.");
  auto options = std::make_shared<SimulateOptions>();
  CLI::App* command = AddCommand(
      *experts, selected, "simulate", "what expert slots of some number and policy would have hit on a recorded routing",
      "Examples:\n"
      "  fathom experts simulate trace.jsonl --slots 10%,25%,50%\n"
      "  fathom experts simulate a.routing b.jsonl --slots 400 --policy predicted --layers\n"
      "  fathom experts simulate monday.routing --heat-from sunday.routing --json\n"
      "\n"
      "A trace is a routing record (docs/formats/routing.md), or lines {\"layers\": [[expert numbers], ...]}, one a\n"
      "token.\n"
      "\n"
      "hit: share of the experts wanted that were resident; of best: of the hits that knowing the future gives (Belady's\n"
      "MIN) with as many slots; loads/pass: experts read for a token.",
      options, RunSimulate);
  command->add_option("trace", options->traces, "routing records")->required();
  command->add_option("--slots", options->slots, "a share of all experts (25%) or a number; several, comma separated")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--policy", options->policy, "predicted, lru, lfu, s3-fifo, or all")->capture_default_str();
  command->add_option("--warm", options->warm, "passes at the beginning that are not counted")->capture_default_str();
  command->add_option("--heat-from", options->heat_from, "a record of an earlier run of the same model to begin with");
  command->add_option("--prediction", options->prediction,
                      "recall of an imagined early router, 0 to 1 (0: without predictions)")
      ->capture_default_str();
  command->add_flag("--layers", options->layers, "hits of each layer");
  command->add_flag("--json", options->json, "all figures as JSON");
}

}  // namespace fathom
