// What expert slots of some number and policy would have hit on a recorded routing.
//
// Walks the passes layer by layer as the store does: the experts that a pass chose in a layer are used together, those
// not resident are loaded, and none of them is given up for another one of the same layer and pass. Pure and
// deterministic; not thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "experts/expert_policy.h"
#include "experts/routing_trace.h"

namespace fathom {

struct ExpertSimulatorOptions {
  ExpertPolicyKind policy = ExpertPolicyKind::kPredicted;
  int64_t slots = 0;
  int64_t warm_passes = 0;      // passes at the beginning that fill the slots and are not counted
  std::span<const float> heat;  // as for MakeExpertPolicy; the hottest are resident at the start
  /// Recall of an imagined early router: one layer ahead, each expert that will be chosen is predicted with this
  /// probability (and as many wrong ones as are missing). 0: no predictions. Only kPredicted listens.
  double prediction = 0;
};

struct ExpertSimulatorReport {
  int64_t uses = 0, hits = 0;                     // an expert chosen by a pass in a layer is one use
  int64_t first_uses = 0;                         // misses that no number of slots avoids
  std::vector<int64_t> layer_uses, layer_hits;

  double hit_ratio() const { return uses > 0 ? static_cast<double>(hits) / static_cast<double>(uses) : 0; }
};

/// Errors: kInvalidArgument (fewer slots than one layer of a pass needs).
Result<ExpertSimulatorReport> SimulateExperts(const RoutingTrace& trace, const ExpertSimulatorOptions& options);

/// Hits that no policy can exceed without knowing more than the future: Belady's MIN, with the same counting.
ExpertSimulatorReport BeladyExperts(const RoutingTrace& trace, int64_t slots, int64_t warm_passes = 0);

/// How often each expert is used a pass, [geometry.count()], over the passes [0, passes).
std::vector<float> HeatOf(const RoutingTrace& trace, int64_t passes);

}  // namespace fathom
