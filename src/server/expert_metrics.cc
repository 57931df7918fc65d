#include "server/expert_metrics.h"

#include <numeric>

namespace fathom {

void WriteExpertMetrics(const ExpertStoreStats& stats, MetricsText& text) {
  const auto count = [&](std::string_view name, std::string_view help, int64_t value, std::string_view labels = "") {
    text.Counter(name, help, static_cast<double>(value), labels);
  };
  text.Gauge("fathom_expert_slots", "Slots for experts.", static_cast<double>(stats.slots));
  text.Gauge("fathom_expert_slot_bytes", "Memory of one slot.", static_cast<double>(stats.slot_bytes));
  text.Gauge("fathom_expert_resident", "Experts in slots.", static_cast<double>(stats.resident));

  constexpr std::string_view kUses = "Experts that a pass asked for, by the model's layer.";
  constexpr std::string_view kHits = "Of them, those that were resident.";
  for (size_t i = 0; i < stats.layer_uses.size(); ++i) {
    const std::string layer = MetricsText::Label("layer", std::to_string(static_cast<size_t>(stats.first_layer) + i));
    count("fathom_expert_uses_total", kUses, stats.layer_uses[i], layer);
  }
  for (size_t i = 0; i < stats.layer_hits.size(); ++i) {
    const std::string layer = MetricsText::Label("layer", std::to_string(static_cast<size_t>(stats.first_layer) + i));
    count("fathom_expert_hits_total", kHits, stats.layer_hits[i], layer);
  }
  count("fathom_expert_arriving_total", "Experts asked for that were being read already.", stats.arriving);

  // Why something was read: demanded by a pass; guessed or hot in earlier runs; a whole layer ahead of a long prompt.
  const std::string demand = MetricsText::Label("why", "demand"), guess = MetricsText::Label("why", "guess");
  const std::string ahead = MetricsText::Label("why", "ahead");
  constexpr std::string_view kReads = "Experts read, by why.";
  count("fathom_expert_reads_total", kReads, stats.demand_reads, demand);
  count("fathom_expert_reads_total", kReads, stats.prefetch_reads, guess);
  count("fathom_expert_reads_total", kReads, stats.ahead_reads, ahead);
  constexpr std::string_view kUsed = "Of those read before they were asked for, those that were asked for then.";
  count("fathom_expert_reads_used_total", kUsed, stats.prefetch_used, guess);
  count("fathom_expert_reads_used_total", kUsed, stats.ahead_used, ahead);
  count("fathom_expert_guesses_total", "Experts that the next layer's router, run early, named.", stats.hinted);
  count("fathom_expert_guesses_right_total", "Of them, those that were then asked for.", stats.hints_used);
  count("fathom_expert_read_bytes_total", "Bytes read.", stats.bytes_read);
  count("fathom_expert_read_retries_total", "Reads tried again.", stats.retries);
  count("fathom_expert_read_failures_total", "Experts that could not be read.", stats.failures);
  count("fathom_expert_unanswered_total", "Uses given up because the disk did not answer.", stats.unanswered);
  count("fathom_expert_evictions_total", "Experts that gave up their slot.", stats.evictions);

  std::vector<double> bounds;
  for (int i = 0; i < ExpertStoreStats::kReadTimes; ++i) bounds.push_back(ExpertStoreStats::ReadTimeBound(i));
  const Histogram::Snapshot times{.counts = {stats.read_times.begin(), stats.read_times.end()},
                                  .sum = stats.read_seconds,
                                  .total = std::accumulate(stats.read_times.begin(), stats.read_times.end(), int64_t{0})};
  text.Histogram("fathom_expert_read_seconds", "From a demanded expert's first read to its arrival.", bounds, times);
  text.Counter("fathom_expert_disk_busy_seconds_total", "Seconds in which experts were being read.", stats.busy_seconds);
  text.Counter("fathom_expert_stall_seconds_total", "Seconds that computing waited for experts.", stats.stall_seconds);
}

}  // namespace fathom
