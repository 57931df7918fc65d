#include "engine/memory_plan.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <vector>

namespace fathom {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kHugePage = 2 * kMiB;
constexpr int64_t kMost = int64_t{1} << 50;  // a petabyte: sums of a dozen stay far from overflowing
// KvPool takes memory in slabs of so much, each of whole huge pages.
constexpr int64_t kSlab = 32 * kMiB;
// Fewer slots than this part of what there are would not be noticed.
constexpr int64_t kWorthLending = 100;
// A model that could be resident is not made so at the price of smaller passes than these.
constexpr int32_t kLeastRowsForAll = 128;

int64_t Reserve(int64_t budget) { return 24 * kMiB + budget / 50; }

int64_t SlotMemoryOf(int64_t slots, int64_t slot_bytes, int32_t classes) {
  return slots > 0 ? slots * slot_bytes + classes * kHugePage : 0;
}

int64_t KvMemoryOf(const MemoryPlanInput& in, int64_t bytes) { return bytes + KvOverhead(in.shared_pool, bytes); }

int64_t KvBytesOf(const MemoryPlanInput& in, int64_t context) {
  return (context + in.kv_block_tokens - 1) / in.kv_block_tokens * in.kv_block_bytes;
}

/// The largest pool whose memory is at most so much.
int64_t KvBytesWithin(const MemoryPlanInput& in, int64_t memory) {
  int64_t blocks = std::max<int64_t>(memory, 0) / in.kv_block_bytes;
  while (blocks > 0 && KvMemoryOf(in, blocks * in.kv_block_bytes) > memory) blocks -= std::max<int64_t>(1, blocks / 64);
  return blocks * in.kv_block_bytes;
}

Status Check(const MemoryPlanInput& in) {
  const auto check = [](const char* field, int64_t value, int64_t low, int64_t high) -> Status {
    if (value >= low && value <= high) return {};
    return Fail(ErrorCode::kInvalidArgument, "memory plan: {} is {}, it must lie in [{}, {}]", field, value, low, high);
  };
  FATHOM_CHECK_OK(check("budget", in.budget, 1, kMost));
  FATHOM_CHECK_OK(check("process", in.process, 0, kMost));
  FATHOM_CHECK_OK(check("peak", in.peak, 0, kMost));
  FATHOM_CHECK_OK(check("extra", in.extra, 0, kMost));
  FATHOM_CHECK_OK(check("dense", in.dense, 0, kMost));
  FATHOM_CHECK_OK(check("whole", in.whole, in.dense, kMost));
  FATHOM_CHECK_OK(check("experts", in.experts, 0, int64_t{1} << 26));
  FATHOM_CHECK_OK(check("slot_bytes", in.slot_bytes, in.experts > 0 ? 1 : 0, int64_t{1} << 36));
  if (in.experts * in.slot_bytes > kMost) {  // at most 2^62
    return Fail(ErrorCode::kInvalidArgument, "memory plan: {} experts of {} bytes", in.experts, in.slot_bytes);
  }
  FATHOM_CHECK_OK(check("slot_classes", in.slot_classes, 1, 1 << 16));
  FATHOM_CHECK_OK(check("least_slots", in.least_slots, 0, in.experts));
  FATHOM_CHECK_OK(check("fixed_slots", in.fixed_slots, 0, in.experts));
  FATHOM_CHECK_OK(check("expert_bytes", in.expert_bytes, 0, in.slot_bytes));
  FATHOM_CHECK_OK(check("experts_per_token", in.experts_per_token, 0, in.experts));
  FATHOM_CHECK_OK(check("kv_block_bytes", in.kv_block_bytes, 1, int64_t{1} << 36));
  FATHOM_CHECK_OK(check("kv_block_tokens", in.kv_block_tokens, 1, 1 << 20));
  FATHOM_CHECK_OK(check("context", in.context, 0, 1 << 27));
  FATHOM_CHECK_OK(check("most_context", in.most_context, in.context > 0 ? 0 : 1, 1 << 27));
  if (KvBytesOf(in, std::max(in.context, in.most_context)) > kMost / 8)
    return Fail(ErrorCode::kInvalidArgument, "memory plan: blocks of {} bytes for such a context", in.kv_block_bytes);
  FATHOM_CHECK_OK(check("kv_bytes", in.kv_bytes, -1, kMost));
  FATHOM_CHECK_OK(check("rows", in.rows, 1, 1 << 20));
  FATHOM_CHECK_OK(check("least_rows", in.least_rows, 1, in.rows));
  if (!in.scratch) return Fail(ErrorCode::kInvalidArgument, "memory plan: no scratch");
  return {};
}

/// What can be chosen freely, and what all of it comes to.
struct Choice {
  bool whole = false;
  int32_t context = 0, rows = 0;
};

class Planner {
 public:
  explicit Planner(const MemoryPlanInput& in) : in_(in) {}

  std::optional<MemoryPlan> Plan() const {
    if (in_.peak > in_.budget) return std::nullopt;
    for (const bool whole : {true, false}) {
      if (whole ? !MayBeWhole() : in_.experts == 0) continue;
      for (const int32_t context : Contexts(whole)) {
        for (const int32_t rows : Rows(whole)) {
          const Choice choice{whole, context, rows};
          if (Least(choice, in_.budget) <= in_.budget) return Fill(choice);
        }
      }
    }
    return std::nullopt;
  }

  int64_t LeastBudget() const {
    int64_t sum = INT64_MAX;
    for (const bool whole : {true, false}) {
      if (whole ? !MayBeWhole() : in_.experts == 0) continue;
      sum = std::min(sum, Least({whole, Contexts(whole).back(), Rows(whole).back()}, 0));
    }
    // budget - budget / 50 >= sum, where sum holds the rest of the reserve.
    int64_t budget = std::max(sum + sum / 49, in_.peak) / kMiB * kMiB;
    while (budget < in_.peak || budget - Reserve(budget) + Reserve(0) < sum) budget += kMiB;
    return budget;
  }

  /// Of a plan with the least of everything, for the message.
  std::string Parts() const {
    const auto mib = [](int64_t bytes) { return fmt::format("{} MiB", (bytes + kMiB - 1) / kMiB); };
    const bool whole = in_.experts == 0 || (in_.fixed_slots == 0 && in_.whole <= in_.dense + SlotMemory());
    const int32_t context = Contexts(whole).back(), rows = Rows(whole).back();
    std::string text = fmt::format("weights {}", mib(whole ? in_.whole : in_.dense));
    if (!whole) {
      const int64_t slots = in_.fixed_slots > 0 ? in_.fixed_slots : in_.least_slots;
      text += fmt::format(", {} experts at a time {}", slots, mib(SlotMemory()));
    }
    text += in_.kv_bytes >= 0 ? fmt::format(", keys and values {}", mib(Kv(context)))
                              : fmt::format(", keys and values of {} tokens {}", context, mib(Kv(context)));
    text += fmt::format(", buffers of a pass {}, the program {}, reserve {}", mib(in_.scratch(rows, context)),
                        mib(in_.process + in_.extra), mib(Reserve(in_.budget)));
    return text;
  }

 private:
  bool MayBeWhole() const { return in_.experts == 0 || in_.fixed_slots == 0; }

  /// The context that is wished for first.
  std::vector<int32_t> Contexts(bool whole) const {
    if (in_.context > 0) return {in_.context};
    const int32_t floor = std::min(in_.most_context, kFloorContext);
    if (whole && in_.experts > 0) return {floor};  // Fill() makes more of it
    std::vector<int32_t> contexts = {floor};
    if (!whole) {
      // A sixteenth of all is a fair share of what a long conversation may come to need.
      const int64_t blocks = KvBytesWithin(in_, in_.budget / 16) / in_.kv_block_bytes;
      const auto fair = static_cast<int32_t>(std::min<int64_t>(in_.most_context, blocks * in_.kv_block_tokens));
      if (fair > floor) contexts.insert(contexts.begin(), fair);
    }
    for (int32_t shorter = floor / 2; shorter >= kLeastContext; shorter /= 2) contexts.push_back(shorter);
    return contexts;
  }

  std::vector<int32_t> Rows(bool whole) const {
    const int32_t least = whole && in_.experts > 0 ? std::max(in_.least_rows, std::min(in_.rows, kLeastRowsForAll))
                                                   : in_.least_rows;
    std::vector<int32_t> all;
    for (int32_t rows = in_.rows; rows > least; rows /= 2) {
      // Slots want memory more than a pass of many rows does.
      if (whole || in_.scratch(rows, std::max(in_.context, 1)) <= in_.budget / 8) all.push_back(rows);
    }
    all.push_back(least);
    return all;
  }

  int64_t SlotMemory() const {
    return SlotMemoryOf(in_.fixed_slots > 0 ? in_.fixed_slots : in_.least_slots, in_.slot_bytes, in_.slot_classes);
  }
  int64_t Kv(int32_t context) const {
    return KvMemoryOf(in_, in_.shared_pool && in_.kv_bytes >= 0 ? in_.kv_bytes : KvBytesOf(in_, context));
  }
  int64_t Least(const Choice& choice, int64_t budget) const {
    return in_.process + in_.extra + Reserve(budget) + (choice.whole ? in_.whole : in_.dense + SlotMemory()) +
           Kv(choice.context) + in_.scratch(choice.rows, choice.context);
  }

  MemoryPlan Fill(Choice choice) const {
    if (choice.whole && in_.context == 0) {
      // The longest context that still fits.
      int64_t low = choice.context, high = in_.most_context;
      while (low < high) {
        const int64_t middle = (low + high + 1) / 2;
        const bool fits = Least({true, static_cast<int32_t>(middle), choice.rows}, in_.budget) <= in_.budget;
        if (fits) {
          low = middle;
        } else {
          high = middle - 1;
        }
      }
      choice.context = static_cast<int32_t>(low);
    }
    MemoryPlan plan{.budget = in_.budget,
                    .process = in_.process,
                    .extra = in_.extra,
                    .reserve = Reserve(in_.budget),
                    .weights = choice.whole ? in_.whole : in_.dense,
                    .all_resident = choice.whole,
                    .slot_bytes = in_.slot_bytes,
                    .experts = in_.experts,
                    .slot_classes = in_.slot_classes,
                    .scratch = in_.scratch(choice.rows, choice.context),
                    .context = choice.context,
                    .rows = choice.rows,
                    .bytes_per_token = in_.experts_per_token * in_.expert_bytes};
    SetKv(plan, in_.shared_pool && in_.kv_bytes >= 0 ? in_.kv_bytes : KvBytesOf(in_, choice.context));
    if (!choice.whole) plan.slots = in_.fixed_slots > 0 ? in_.fixed_slots : in_.least_slots;
    if (in_.shared_pool && in_.kv_bytes < 0) {
      // Known prefixes are worth memory as experts are: an eighth of what both can have, and all when experts have theirs.
      const int64_t both = plan.spare() + plan.kv_memory + plan.slot_memory();
      const bool to_kv = choice.whole || in_.fixed_slots > 0;
      SetKv(plan, std::max(plan.kv_bytes, KvBytesWithin(in_, to_kv ? plan.spare() + plan.kv_memory
                                                                   : std::min(both / 8, plan.spare() + plan.kv_memory))));
    }
    if (!choice.whole && in_.fixed_slots == 0)
      plan.slots = std::min(in_.experts, plan.slots + std::max<int64_t>(plan.spare(), 0) / in_.slot_bytes);
    if (!choice.whole) {
      plan.lent_slots = LentSlots(plan);
      plan.hit_share = static_cast<double>(plan.slots + plan.lent_slots) / static_cast<double>(in_.experts);
    }
    return plan;
  }

  /// Slots that the long passes' buffers would be in between them.
  int64_t LentSlots(const MemoryPlan& plan) const {
    if (in_.short_rows == 0 || in_.fixed_slots > 0 || plan.rows <= in_.short_rows) return 0;
    const int64_t bytes = plan.scratch - in_.scratch(in_.short_rows, plan.context) + std::max<int64_t>(plan.spare(), 0);
    const int64_t slots = std::min(bytes / in_.slot_bytes, in_.experts - plan.slots);
    return slots * kWorthLending >= plan.slots ? slots : 0;
  }

  void SetKv(MemoryPlan& plan, int64_t bytes) const {
    plan.kv_bytes = bytes;
    plan.kv_memory = KvMemoryOf(in_, bytes);
  }

  const MemoryPlanInput& in_;
};

}  // namespace

// Logits as in cache/kv_keeper.cc.
int64_t KvOverhead(bool shared_pool, int64_t bytes) {
  const int64_t logits = shared_pool ? std::clamp(bytes / 32, 4 * kMiB, 256 * kMiB) : 0;
  return (bytes / kSlab + 1) * std::min(bytes, kHugePage) + logits;
}

int64_t MemoryPlan::slot_memory() const { return SlotMemoryOf(slots, slot_bytes, slot_classes); }

int64_t LeastMemory(const MemoryPlanInput& input) { return Planner(input).LeastBudget(); }

Result<MemoryPlan> PlanMemory(const MemoryPlanInput& input) {
  FATHOM_CHECK_OK(Check(input));
  if (const auto plan = Planner(input).Plan()) return *plan;
  std::string text = fmt::format("{} MiB do not hold this model, which needs at least {} MiB\nThat is: {}.",
                                 input.budget / kMiB, LeastMemory(input) / kMiB, Planner(input).Parts());
  if (input.fixed_slots > 0) {
    MemoryPlanInput other = input;
    other.fixed_slots = 0;
    text += fmt::format("\nWithout --expert-memory {} MiB would do.", LeastMemory(other) / kMiB);
  }
  if (input.context > kLeastContext) {
    // The longest context that fits, in blocks of 64 tokens.
    MemoryPlanInput other = input;
    int32_t low = 0, high = input.context / 64;
    while (low < high) {
      const int32_t middle = low + (high - low + 1) / 2;
      other.context = middle * 64;
      if (Planner(other).Plan()) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    if (low > 0) {
      text += fmt::format("\nWith --ctx {} it fits.", low * 64);
    } else {
      other.context = std::min(input.context, kFloorContext);
      text += fmt::format("\nWith --ctx {} {} MiB would do.", other.context, LeastMemory(other) / kMiB);
    }
  }
  return Fail(ErrorCode::kResource, "{}", text);
}

double HotShare(std::span<const float> heat, int64_t slots) {
  std::vector<float> sorted(heat.begin(), heat.end());
  const auto count = static_cast<std::ptrdiff_t>(std::clamp<int64_t>(slots, 0, static_cast<int64_t>(sorted.size())));
  std::partial_sort(sorted.begin(), sorted.begin() + count, sorted.end(), std::greater<>());
  const double all = std::accumulate(sorted.begin(), sorted.end(), 0.0);
  return all > 0 ? std::accumulate(sorted.begin(), sorted.begin() + count, 0.0) / all : -1;
}

}  // namespace fathom
