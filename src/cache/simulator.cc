#include "cache/simulator.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <set>

#include "cache/admission.h"

namespace fathom {
namespace {

/// One tier: what is in it, and who goes.
class SimulatedTier {
 public:
  SimulatedTier(const CacheTrace& trace, EvictionKind kind, int64_t capacity, int64_t block_bytes)
      : trace_(trace),
        capacity_(capacity / block_bytes),
        block_bytes_(block_bytes),
        policy_(MakeEvictionPolicy(kind, capacity)),
        present_(trace.blocks.size(), false) {}

  bool Has(int32_t block) const { return present_[block]; }
  void Touch(int32_t block, double now) { policy_->Touch(Id(block), now); }
  /// False: there is no room that may be made. in_use(block): must stay.
  bool Insert(int32_t block, double saved_seconds, double now, const std::function<bool(int32_t)>& in_use) {
    if (capacity_ == 0) return false;
    while (held_ >= capacity_) {
      const auto victim = policy_->Victim([&](CacheEntryId id) { return !in_use(static_cast<int32_t>(id - 1)); });
      if (!victim) return false;
      policy_->Remove(*victim);
      present_[*victim - 1] = false;
      --held_, ++evicted_;
    }
    const int32_t parent = trace_.blocks[block].parent;
    policy_->Insert(Id(block),
                    {.bytes = block_bytes_,
                     .saved_seconds = saved_seconds,
                     .parent = parent == CacheTrace::kNone ? kNoCacheEntry : Id(parent)},
                    now);
    present_[block] = true;
    peak_ = std::max(peak_, ++held_);
    return true;
  }
  int64_t evicted() const { return evicted_; }
  int64_t peak_bytes() const { return peak_ * block_bytes_; }

 private:
  static CacheEntryId Id(int32_t block) { return static_cast<CacheEntryId>(block) + 1; }

  const CacheTrace& trace_;
  const int64_t capacity_, block_bytes_;  // capacity: in blocks
  std::unique_ptr<EvictionPolicy> policy_;
  std::vector<bool> present_;
  int64_t held_ = 0, evicted_ = 0, peak_ = 0;
};

}  // namespace

int64_t CacheTrace::TokensOf(const Request& request, size_t i) const {
  return std::min(block_tokens, request.tokens - static_cast<int64_t>(i) * block_tokens);
}

SimulatorReport Simulate(const CacheTrace& trace, const SimulatorOptions& options) {
  SimulatorReport report;
  const int64_t block_bytes = trace.block_tokens * options.bytes_per_token;
  SimulatedTier memory(trace, options.policy, options.memory_bytes, block_bytes);
  SimulatedTier disk(trace, options.policy, options.disk_bytes, block_bytes);
  WriteBudget budget(options.daily_write_bytes);
  std::vector<int64_t> touches(trace.blocks.size(), 0), used_by(trace.blocks.size(), -1);

  for (const CacheTrace::Request& request : trace.requests) {
    const int64_t number = report.requests++;
    const double now = request.seconds;
    report.tokens += request.tokens;
    report.blocks += static_cast<int64_t>(request.blocks.size());
    for (const int32_t block : request.blocks) used_by[block] = number;
    auto in_use = [&](int32_t block) { return used_by[block] == number; };
    bool hitting = true, any = false;
    for (size_t i = 0; i < request.blocks.size(); ++i) {
      const int32_t block = request.blocks[i];
      const int64_t tokens = trace.TokensOf(request, i), begin = static_cast<int64_t>(i) * trace.block_tokens;
      const double seconds = options.compute.Seconds(begin, begin + tokens);
      report.compute_seconds += seconds;
      if (touches[block]++ > 0) report.ceiling_tokens += tokens, report.ceiling_seconds += seconds;
      const bool in_memory = memory.Has(block), stored = disk.Has(block);
      hitting &= in_memory || stored;
      if (hitting) {
        any = true;
        (in_memory ? report.memory_hit_tokens : report.disk_hit_tokens) += tokens;
        report.saved_seconds += seconds;
      }
      if (in_memory) {
        memory.Touch(block, now);
      } else {
        memory.Insert(block, seconds, now, in_use);
      }
      if (stored) {
        disk.Touch(block, now);
      } else if (options.disk_bytes >= block_bytes && (i == 0 || disk.Has(request.blocks[i - 1]))) {
        if (!budget.Admit(block_bytes, touches[block], now)) {
          ++report.not_admitted;
        } else if (!disk.Insert(block, seconds, now, in_use)) {
          budget.Refund(block_bytes);
        } else {
          report.disk_written_bytes += block_bytes;
        }
      }
    }
    report.hit_requests += any;
  }
  report.evicted_memory = memory.evicted();
  report.evicted_disk = disk.evicted();
  report.peak_memory_bytes = memory.peak_bytes();
  report.peak_disk_bytes = disk.peak_bytes();
  return report;
}

int64_t BeladyHitTokens(const CacheTrace& trace, int64_t bytes, int64_t bytes_per_token) {
  constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
  const int64_t capacity = bytes / (trace.block_tokens * bytes_per_token);
  if (capacity == 0) return 0;
  // next[k]: the request that uses the k-th block of the trace, in order of use, again.
  std::vector<int64_t> next, soonest(trace.blocks.size(), kNever);
  for (const auto& request : trace.requests) next.resize(next.size() + request.blocks.size());
  size_t at = next.size();
  for (size_t r = trace.requests.size(); r-- > 0;) {
    const auto& blocks = trace.requests[r].blocks;
    for (size_t i = blocks.size(); i-- > 0;) {
      next[--at] = soonest[blocks[i]];
      soonest[blocks[i]] = static_cast<int64_t>(r);
    }
  }
  // Farthest next use last; of equals the deepest, which is what keeps the tree whole.
  struct Held {
    int64_t next;
    int32_t depth, block;
    auto operator<=>(const Held&) const = default;
  };
  std::set<Held> held;
  std::vector<int64_t> next_of(trace.blocks.size(), -1);  // -1: not held
  int64_t hit_tokens = 0;
  for (size_t r = 0; r < trace.requests.size(); ++r) {
    const auto& request = trace.requests[r];
    for (size_t i = 0; i < request.blocks.size(); ++i, ++at) {
      const int32_t block = request.blocks[i], depth = trace.blocks[block].depth;
      if (next_of[block] >= 0) {
        hit_tokens += trace.TokensOf(request, i);
        held.erase({next_of[block], depth, block});
        next_of[block] = -1;
      }
      if (next[at] == kNever) continue;
      held.insert({next[at], depth, block});
      next_of[block] = next[at];
      if (static_cast<int64_t>(held.size()) > capacity) {
        const auto farthest = std::prev(held.end());
        next_of[farthest->block] = -1;
        held.erase(farthest);
      }
    }
  }
  return hit_tokens;
}

}  // namespace fathom
