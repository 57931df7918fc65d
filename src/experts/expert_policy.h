// Which resident expert gives up its slot: policies behind one seam, used by the store and by the simulator alike.
//
// LRU and S3-FIFO are the KV cache's own (base/eviction_policy.h). LFU counts all uses. Predicted gives up the expert
// whose next use is expected farthest away (Belady's rule with an expectation in place of the future): decayed
// frequencies of each expert, what the next layers' routers say early, heat from earlier runs, and how many layers there
// are to go until an expert's layer comes again.
//
// Pure and deterministic. Not thread-safe. Ids are those of the geometry (REQUIRED).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "experts/expert_id.h"

namespace fathom {

class ExpertPolicy {
 public:
  virtual ~ExpertPolicy() = default;
  /// The pass is at this MoE layer now; a layer that is not above the one before begins a new pass.
  virtual void AtLayer(int32_t layer) = 0;
  /// The router chose it in this layer and pass, resident or not.
  virtual void Use(ExpertId id) = 0;
  /// A pass of `tokens` rows was in this layer; share [experts]: of its rows, those that chose each expert. In place of
  /// Use(), where nearly all are used and what differs is how often.
  virtual void UseOfMany(int32_t layer, std::span<const float> share, int64_t tokens) = 0;
  /// It will be used, with this probability, when its layer comes next.
  virtual void Predict(ExpertId id, double probability) { (void)id, (void)probability; }
  /// The pass in which `layer` comes next uses about all experts of every layer.
  virtual void ExpectAll(int32_t layer) { (void)layer; }
  virtual void Insert(ExpertId id) = 0;
  virtual void Remove(ExpertId id) = 0;
  /// The resident to give up first among those for which may_go(id). Does not remove it.
  virtual std::optional<ExpertId> Victim(const std::function<bool(ExpertId)>& may_go) = 0;
};

enum class ExpertPolicyKind { kPredicted, kLru, kLfu, kS3Fifo };
inline constexpr ExpertPolicyKind kExpertPolicies[] = {ExpertPolicyKind::kPredicted, ExpertPolicyKind::kLru,
                                                       ExpertPolicyKind::kLfu, ExpertPolicyKind::kS3Fifo};
std::string_view ExpertPolicyName(ExpertPolicyKind kind);  // "predicted", "lru", "lfu", "s3-fifo"
/// Errors: kInvalidArgument with the names there are.
Result<ExpertPolicyKind> ParseExpertPolicy(std::string_view name);

/// slots: that there are, for policies that divide them. heat: how often each expert is used a pass, in [0, 1], measured
/// in earlier runs; empty when nothing is known. REQUIRES: geometry.Check(), heat of geometry.count() values or none.
std::unique_ptr<ExpertPolicy> MakeExpertPolicy(ExpertPolicyKind kind, const ExpertGeometry& geometry, int64_t slots,
                                               std::span<const float> heat = {});

}  // namespace fathom
