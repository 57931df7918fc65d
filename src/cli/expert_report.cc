#include "cli/expert_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/terminal.h"

namespace fathom {
namespace {

double Percent(int64_t part, int64_t whole) {
  return whole > 0 ? 100.0 * static_cast<double>(part) / static_cast<double>(whole) : 0.0;
}

/// "31 40 …": percent of each layer's uses that were resident, 20 layers a line.
std::string Layers(const ExpertStoreStats& stats) {
  std::string line;
  for (size_t i = 0; i < stats.layer_uses.size() && i < stats.layer_hits.size(); ++i) {
    if (i > 0) line += i % 20 == 0 ? "\n  " : " ";
    line += stats.layer_uses[i] > 0 ? fmt::format("{:.0f}", Percent(stats.layer_hits[i], stats.layer_uses[i])) : "-";
  }
  return line;
}

}  // namespace

double ExpertHitRatio(const ExpertStoreStats& stats) { return Percent(stats.hits, stats.uses) / 100; }

std::string ExpertReport(const ExpertStoreStats& stats) {
  if (stats.uses == 0) return {};
  std::string text = fmt::format("experts: {} slots of {}; of {} uses {:.1f} % resident, {:.1f} % arriving\n", stats.slots,
                                 HumanBytes(stats.slot_bytes), stats.uses, Percent(stats.hits, stats.uses),
                                 Percent(stats.arriving, stats.uses));
  text += fmt::format("  resident by layer from {}, %: {}\n", stats.first_layer, Layers(stats));
  const int64_t demanded = stats.demand_reads + stats.arriving;
  text += fmt::format("  read {}{}; {} experts when wanted ({:.1f} ms each from issue to arrival, at worst {:.0f}), {} "
                      "whole layers ahead ({:.0f} % used), {} on a guess ({:.0f} % used)\n",
                      HumanBytes(stats.bytes_read),
                      stats.busy_seconds > 0 ? fmt::format(" at {}/s", HumanBytes(static_cast<int64_t>(
                                                   static_cast<double>(stats.bytes_read) / stats.busy_seconds)))
                                             : "",
                      stats.demand_reads,
                      demanded > 0 ? 1e3 * stats.read_seconds / static_cast<double>(demanded) : 0.0,
                      1e3 * stats.slowest_read_seconds, stats.ahead_reads, Percent(stats.ahead_used, stats.ahead_reads),
                      stats.prefetch_reads, Percent(stats.prefetch_used, stats.prefetch_reads));
  text += fmt::format("  {:.1f} s waited for them; ", stats.stall_seconds);
  text += stats.hinted > 0 ? fmt::format("{:.0f} % of early guesses right", Percent(stats.hints_used, stats.hinted))
                           : std::string("no early guesses");
  if (stats.retries + stats.failures > 0) {
    text += fmt::format("; {} reads tried again, {} experts could not be read", stats.retries, stats.failures);
  }
  return text + "\n  " + IoLine(stats.io);
}

nlohmann::ordered_json ExpertIoJson(const IoChoice& io) {
  nlohmann::ordered_json json = {{"asked", ExpertIoName(io.asked)},
                                 {"used", ExpertIoName(io.direct ? ExpertIo::kDirect : ExpertIo::kBuffered)},
                                 {"why", IoLine(io)}};
  if (io.why != IoChoice::Why::kMeasured) return json;
  json["direct_bytes_per_second"] = io.measured.direct_rate;
  json["cold_bytes_per_second"] = io.measured.cold_rate;
  json["warm_bytes_per_second"] = io.measured.warm_rate;
  json["cache_bytes"] = std::max<int64_t>(0, io.measured.cache_bytes);
  json["held_share"] = io.held_share;
  json["buffered_bytes_per_second"] = io.buffered_rate;
  return json;
}

nlohmann::ordered_json ExpertJson(const ExpertStoreStats& stats) {
  return {{"slots", stats.slots},
          {"slot_bytes", stats.slot_bytes},
          {"resident", stats.resident},
          {"uses", stats.uses},
          {"hits", stats.hits},
          {"arriving", stats.arriving},
          {"demand_reads", stats.demand_reads},
          {"prefetch_reads", stats.prefetch_reads},
          {"prefetch_used", stats.prefetch_used},
          {"ahead_reads", stats.ahead_reads},
          {"ahead_used", stats.ahead_used},
          {"hinted", stats.hinted},
          {"hints_used", stats.hints_used},
          {"bytes_read", stats.bytes_read},
          {"retries", stats.retries},
          {"failures", stats.failures},
          {"evictions", stats.evictions},
          {"stall_seconds", stats.stall_seconds},
          {"busy_seconds", stats.busy_seconds},
          {"read_seconds", stats.read_seconds},
          {"slowest_read_seconds", stats.slowest_read_seconds},
          {"io", ExpertIoJson(stats.io)},
          {"first_layer", stats.first_layer},
          {"layer_uses", stats.layer_uses},
          {"layer_hits", stats.layer_hits}};
}

}  // namespace fathom
