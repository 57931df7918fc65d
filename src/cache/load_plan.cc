#include "cache/load_plan.h"

#include <algorithm>
#include <vector>

namespace fathom {
namespace {

constexpr double kCaution = 1.1;
constexpr double kAssumedRate = 100e6, kAssumedLatency = 0.01;
constexpr double kOldRateSeconds = 60;
constexpr double kProbeShare = 0.05;  // of the time to compute
constexpr double kLogitsWorth = 1.25;  // how much later all rows may be there for a first token that waits for none
constexpr double kWorthwhile = 0.05;  // the least gain, as a share, for which a tier is asked at all

struct Candidate {
  int64_t take = 0, tier_tokens = 0;
};

/// Every place where the taking may end: block boundaries and the ends of runs.
std::vector<Candidate> Candidates(const LoadRequest& request, int64_t known) {
  std::vector<Candidate> all = {{}};
  int64_t at = 0, tier = 0;
  for (const KnownRun& run : request.runs) {
    const int64_t end = std::min(at + std::max<int64_t>(run.tokens, 0), known);
    while (at < end) {
      const int64_t next = std::min(end, (at / KvLayout::kBlockTokens + 1) * KvLayout::kBlockTokens);
      if (!run.in_memory) tier += next - at;
      at = next;
      all.push_back({at, tier});
    }
  }
  return all;
}

/// f() of the header.
double Seconds(const LoadRequest& request, const TierRates& tier, const Candidate& at, double caution) {
  const int64_t end = request.prompt_tokens;
  if (at.tier_tokens == 0) return request.compute.Seconds(at.take, end);
  const double bytes = static_cast<double>(at.tier_tokens) * static_cast<double>(request.bytes_per_token);
  const double wait = tier.latency_seconds + tier.queued_bytes / tier.bytes_per_second * caution;
  const double load = bytes / tier.bytes_per_second * caution;
  const int64_t chunk_end = std::min(end, at.take + std::max<int64_t>(request.chunk_tokens, 0));
  const double first = request.compute.Seconds(at.take, chunk_end), rest = request.compute.Seconds(chunk_end, end);
  const auto layers = static_cast<double>(std::max<int64_t>(request.layers, 1));
  return wait + std::max(load / layers + first, load + first / layers) + rest;
}

std::string Words(const LoadPlan& plan, const LoadRequest& request, const TierRates& tier, bool probe) {
  if (plan.known_tokens == 0) return "nothing of it is known";
  const int64_t beyond = plan.known_tokens - plan.take_tokens;
  std::string words;
  if (plan.tier_tokens == 0) {
    words = plan.take_tokens == 0 ? "nothing taken" : fmt::format("{} tokens taken from memory", plan.memory_tokens);
  } else if (plan.memory_tokens == 0) {
    words = fmt::format("{} tokens loaded", plan.tier_tokens);
  } else {
    words = fmt::format("{} tokens taken from memory and {} loaded", plan.memory_tokens, plan.tier_tokens);
  }
  if (request.compute.seconds_per_token <= 0) {
    return plan.tier_tokens == 0 ? words : words + " (how fast this model computes is not known yet)";
  }
  if (plan.tier_tokens > 0) {
    words += fmt::format(": {:.3g} s to the first token, {:.3g} s by computing all of it", plan.seconds,
                         plan.recompute_seconds);
  }
  if (beyond > 0) {
    words += fmt::format("; {} more known tokens are computed again, which is sooner than loading them at {:.3g} "
                         "MB/s{}", beyond, tier.bytes_per_second / 1e6,
                         request.tier.bytes_per_second <= 0 ? " (assumed, not measured yet)" : "");
  }
  if (probe) words += "; one block is loaded to measure the tier";
  return words;
}

}  // namespace

LoadPlan PlanLoad(const LoadRequest& request) {
  LoadPlan plan;
  for (const KnownRun& run : request.runs)
    plan.known_tokens += std::clamp<int64_t>(run.tokens, 0, request.prompt_tokens - plan.known_tokens);
  const std::vector<Candidate> candidates = Candidates(request, plan.known_tokens);
  TierRates tier = request.tier;
  if (tier.bytes_per_second <= 0) tier.bytes_per_second = kAssumedRate, tier.latency_seconds = kAssumedLatency;

  const Candidate* best = &candidates.back();
  bool probe = false;
  if (request.compute.seconds_per_token > 0) {
    double least = Seconds(request, tier, *best, kCaution);
    for (auto it = candidates.rbegin(); it != candidates.rend(); ++it) {
      const double seconds = Seconds(request, tier, *it, kCaution);
      if (seconds < least) best = &*it, least = seconds;
    }
    if (best->tier_tokens > 0) {
      const Candidate* free = candidates.data();  // the longest that loads nothing
      while (free + 1 < candidates.data() + candidates.size() && free[1].tier_tokens == 0) ++free;
      const double without = Seconds(request, tier, *free, kCaution);
      if (least > (1 - kWorthwhile) * without) best = free, least = without;
    }
    const Candidate& all = candidates.back();
    if (request.logits_known && all.take == request.prompt_tokens && best != &all) {
      const double seconds = Seconds(request, tier, all, kCaution);
      if (seconds <= kLogitsWorth * least) best = &all, least = seconds;
    }
    plan.recompute_seconds = request.compute.Seconds(0, request.prompt_tokens);
    const bool unsure = request.tier.bytes_per_second <= 0 || request.tier.age_seconds > kOldRateSeconds;
    if (unsure && best->tier_tokens == 0) {
      const Candidate* next = best + 1;
      if (next < candidates.data() + candidates.size() &&
          Seconds(request, tier, *next, kCaution) <= least + kProbeShare * plan.recompute_seconds) {
        best = next, probe = true;
        least = Seconds(request, tier, *next, kCaution);
      }
    }
    plan.seconds = least;
  }
  plan.take_tokens = best->take;
  plan.tier_tokens = best->tier_tokens;
  plan.memory_tokens = best->take - best->tier_tokens;
  plan.reason = Words(plan, request, tier, probe);
  return plan;
}

}  // namespace fathom
