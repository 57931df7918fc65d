// Load or recompute: how much of a known prefix to take, so that the first token comes soonest.
//
// A request takes the leading `take` of its known tokens: those in memory cost nothing, those in a slower tier must be
// loaded, and the rest of the prompt is computed. In this model the first token comes after
//
//   f(take) = wait + max(load/L + first, load + first/L) + rest
//
//   wait    the tier's latency and what is queued before us         0 when nothing is loaded
//   load    bytes of taken tokens in the tier / its rate * 1.1      (a tenth of caution against its noise)
//   first   computing the first chunk after `take`; its layers run while later layers' rows still arrive (L layers)
//   rest    computing what follows that chunk
//
// and the plan is the block boundary (or the end of a run) with the least f, of equals the longest; but nothing is
// loaded for a gain of less than a twentieth. Nothing being taken is among them, so a plan is never slower than
// recomputing. Where the logits after the whole prompt are known too, the first token waits for no rows at all, so taking
// everything is preferred while it costs at most a quarter more. Where compute grows with position and a disk is slow, the best may lie in the middle: the load is split,
// and the rest of the known tokens is computed.
//
// Pure, plain values.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "cache/kv_cache.h"

namespace fathom {

/// Consecutive known tokens that are in the same place.
struct KnownRun {
  int64_t tokens = 0;
  bool in_memory = false;
};

struct TierRates {
  double bytes_per_second = 0;  // 0: not measured yet
  double latency_seconds = 0;   // until the first byte
  double queued_bytes = 0;      // demand reads that come before
  double age_seconds = 0;       // since the rate was last measured
};

struct LoadRequest {
  std::span<const KnownRun> runs;  // from the first token on
  int64_t prompt_tokens = 0;
  int64_t bytes_per_token = 0;     // in the tier
  int64_t layers = 1;
  int64_t chunk_tokens = 512;      // of one prefill step; 0: loads do not overlap computing
  bool logits_known = false;       // those after the last of prompt_tokens
  ComputeRates compute;
  TierRates tier;
};

struct LoadPlan {
  int64_t take_tokens = 0;                    // use these and begin computing here
  int64_t memory_tokens = 0, tier_tokens = 0; // of those taken
  int64_t known_tokens = 0;
  double seconds = 0;            // f(take); 0 where compute rates are not known
  double recompute_seconds = 0;  // f(0)
  std::string reason;            // in words
};

/// Where the tier's rate is not known, 100 MB/s and 10 ms are assumed; where the compute rates are not, everything
/// known is taken. Where a rate that was only assumed, or measured more than a minute ago, speaks against loading, one
/// block is loaded all the same, to measure, if that costs at most a twentieth of what computing costs.
LoadPlan PlanLoad(const LoadRequest& request);

}  // namespace fathom
