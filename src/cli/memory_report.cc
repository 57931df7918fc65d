#include "cli/memory_report.h"

#include <fmt/format.h>

#include "base/process_memory.h"
#include "cli/terminal.h"

namespace fathom {

std::string PlanTable(const MemoryPlan& plan, double read_rate) {
  std::string text = fmt::format("memory {}:\n", HumanBytes(plan.budget));
  const auto row = [&](const char* what, int64_t bytes, const std::string& note) {
    if (bytes > 0) text += fmt::format("  {:<22} {:>10}  {}\n", what, HumanBytes(bytes), note);
  };
  row("weights", plan.weights,
      plan.experts == 0 ? "all of them" : plan.all_resident ? "all of them, experts too" : "all but the routed experts");
  if (plan.slots > 0) {
    row("experts", plan.slot_memory(),
        fmt::format("{} of {}; the others are read when they are wanted", plan.slots, plan.experts));
  }
  row("keys and values", plan.kv_memory, fmt::format("a context of {} tokens", plan.context));
  row("buffers", plan.scratch,
      fmt::format("passes of {} rows{}", plan.rows,
                  plan.lent_slots > 0 ? fmt::format("; lent to {} more experts while it answers", plan.lent_slots) : ""));
  row("the program", plan.process + plan.extra, "tokenizer, logits");
  row("reserve", plan.reserve, "");
  row("free", plan.spare(), "");
  if (plan.slots == 0) return text;
  if (plan.page_cache_outside)
    text += "  beside it, not promised: what the page cache holds of the experts read (--io buffered)\n";
  text += plan.hot_share >= 0
              ? fmt::format("expected: {:.0f} % of experts resident by earlier runs' routing ({:.0f} % if all are used alike); ",
                            100 * plan.hot_share, 100 * plan.hit_share)
              : fmt::format("expected: {:.0f} % of experts resident if all are used alike; ", 100 * plan.hit_share);
  text += fmt::format("{} a token from disk", HumanBytes(static_cast<int64_t>(plan.missing_bytes())));
  if (const double bound = plan.disk_bound(read_rate); bound > 0) {
    text += fmt::format(", which at {:.1f} GB/s (measured) allows {:.1f} tokens/s", read_rate / 1e9, bound);
  }
  return text + "\n";
}

std::optional<PromiseKept> MeasurePromise(const Engine& engine) {
  const auto plan = engine.memory_plan();
  if (!plan) return std::nullopt;
  return PromiseKept{plan->budget, ReadProcessMemory().peak, engine.page_cache_growth(), plan->page_cache_outside};
}

std::string PromiseLine(const PromiseKept& promise) {
  std::string cached;
  if (promise.page_cache > 0) {
    cached = fmt::format(", and {} of the model in the page cache{}", HumanBytes(promise.page_cache),
                         promise.page_cache_outside ? ", which was not promised (--io buffered)" : "");
  }
  return fmt::format("memory: {} of {} promised{}{}", HumanBytes(promise.peak), HumanBytes(promise.promised), cached,
                     promise.kept() ? "" : ": NOT KEPT, please report this");
}

}  // namespace fathom
