#include "experts/expert_policy.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/eviction_policy.h"

namespace fathom {
namespace {

/// The KV cache's policies: every expert is as large as any other and has no parent.
class SharedPolicy final : public ExpertPolicy {
 public:
  SharedPolicy(const ExpertGeometry& geometry, std::unique_ptr<EvictionPolicy> policy)
      : geometry_(geometry), policy_(std::move(policy)) {}

  void AtLayer(int32_t) override { ++now_; }
  void Use(ExpertId id) override { policy_->Touch(Key(id), now_); }
  void UseOfMany(int32_t layer, std::span<const float> share, int64_t) override {
    for (int32_t e = 0; e < geometry_.experts; ++e)
      if (share[e] > 0) Use(geometry_.Id(layer, e));
  }
  void Insert(ExpertId id) override { policy_->Insert(Key(id), {.bytes = 1}, now_); }
  void Remove(ExpertId id) override { policy_->Remove(Key(id)); }
  std::optional<ExpertId> Victim(const std::function<bool(ExpertId)>& may_go) override {
    const auto victim = policy_->Victim([&](CacheEntryId key) { return may_go(static_cast<ExpertId>(key - 1)); });
    return victim ? std::optional(static_cast<ExpertId>(*victim - 1)) : std::nullopt;
  }

 private:
  static CacheEntryId Key(ExpertId id) { return static_cast<CacheEntryId>(id) + 1; }  // 0 is no entry

  const ExpertGeometry geometry_;
  std::unique_ptr<EvictionPolicy> policy_;
  double now_ = 0;
};

/// Residents in an array, for policies that look at all of them when a victim is sought.
class ScanPolicy : public ExpertPolicy {
 public:
  explicit ScanPolicy(const ExpertGeometry& geometry) : geometry_(geometry), place_(geometry.count(), kNone) {}

  void Insert(ExpertId id) override {
    if (place_[id] != kNone) return;
    place_[id] = static_cast<int32_t>(residents_.size());
    residents_.push_back(id);
  }
  void Remove(ExpertId id) override {
    const int32_t at = place_[id];
    if (at == kNone) return;
    residents_[at] = residents_.back();
    place_[residents_[at]] = at;
    residents_.pop_back();
    place_[id] = kNone;
  }

 protected:
  /// The resident with the largest score (double, or anything with <).
  template <typename Score>
  std::optional<ExpertId> Largest(const std::function<bool(ExpertId)>& may_go, Score&& score) const {
    std::optional<ExpertId> best;
    decltype(score(ExpertId{})) best_score{};
    for (const ExpertId id : residents_) {
      const auto value = score(id);
      if (best && !(best_score < value)) continue;
      if (!may_go(id)) continue;
      best = id;
      best_score = value;
    }
    return best;
  }

  const ExpertGeometry geometry_;

 private:
  static constexpr int32_t kNone = -1;
  std::vector<ExpertId> residents_;
  std::vector<int32_t> place_;
};

/// Least often used since the program started; of equals the one unused for longest.
class LfuPolicy final : public ScanPolicy {
 public:
  explicit LfuPolicy(const ExpertGeometry& geometry)
      : ScanPolicy(geometry), uses_(geometry.count(), 0), last_(geometry.count(), 0) {}

  void AtLayer(int32_t) override { ++now_; }
  void Use(ExpertId id) override {
    ++uses_[id];
    last_[id] = now_;
  }
  void UseOfMany(int32_t layer, std::span<const float> share, int64_t tokens) override {
    for (int32_t e = 0; e < geometry_.experts; ++e) {
      if (!(share[e] > 0)) continue;
      uses_[geometry_.Id(layer, e)] += std::llround(share[e] * static_cast<double>(tokens));
      last_[geometry_.Id(layer, e)] = now_;
    }
  }
  std::optional<ExpertId> Victim(const std::function<bool(ExpertId)>& may_go) override {
    return Largest(may_go, [&](ExpertId id) { return std::pair(-uses_[id], -last_[id]); });
  }

 private:
  std::vector<int64_t> uses_, last_;
  int64_t now_ = 0;
};

/// A sum of events that fades by a factor every pass, for every expert, without touching those that nothing happens to.
class Fading {
 public:
  Fading(int32_t count, double passes) : keep_(1 - 1 / passes), values_(count, 0) {}
  void NextPass() {
    unit_ /= keep_;
    if (unit_ < 1e12) return;
    for (double& value : values_) value /= unit_;
    unit_ = 1;
  }
  void Add(ExpertId id) { values_[id] += unit_; }
  /// As if this share of the last so many passes had been events.
  void AddShare(ExpertId id, double share, double passes) {
    const double kept = std::pow(keep_, passes);
    values_[id] = values_[id] * kept + share * unit_ * (1 - kept) / (1 - keep_);
  }
  /// In [0, 1]: the share of recent passes.
  double Share(ExpertId id) const { return values_[id] / unit_ * (1 - keep_); }

 private:
  const double keep_;
  double unit_ = 1;
  std::vector<double> values_;
};

// How the estimate of an expert's use in one pass is mixed, and over how many passes each part looks back. Found with
// `fathom experts simulate` on the recorded traces; see docs/experts.md.
constexpr double kFastPasses = 6, kSlowPasses = 60;
constexpr double kFastWeight = 0.35, kSlowWeight = 0.65;
constexpr double kHeatPasses = 40;    // passes of this run that weigh as much as the heat of earlier ones
constexpr double kLeastShare = 2e-3;  // what nothing is known of
constexpr double kUnpredicted = 0.5;  // of its share: what an expert keeps that its layer's early router did not name

class PredictedPolicy final : public ScanPolicy {
 public:
  PredictedPolicy(const ExpertGeometry& geometry, std::span<const float> heat)
      : ScanPolicy(geometry),
        fast_(geometry.count(), kFastPasses),
        slow_(geometry.count(), kSlowPasses),
        heat_(heat.begin(), heat.end()),
        predicted_(geometry.count()),
        predicted_pass_(geometry.layers, kNever) {}

  void AtLayer(int32_t layer) override {
    if (layer <= layer_) {
      ++pass_;
      ++tokens_;
      fast_.NextPass();
      slow_.NextPass();
    }
    layer_ = layer;
  }
  void Use(ExpertId id) override {
    fast_.Add(id);
    slow_.Add(id);
  }
  void UseOfMany(int32_t layer, std::span<const float> share, int64_t tokens) override {
    for (int32_t e = 0; e < geometry_.experts; ++e) {
      fast_.AddShare(geometry_.Id(layer, e), share[e], static_cast<double>(tokens));
      slow_.AddShare(geometry_.Id(layer, e), share[e], static_cast<double>(tokens));
    }
    if (layer == 0) tokens_ += tokens - 1;
  }
  void Predict(ExpertId id, double probability) override {
    const int32_t layer = geometry_.LayerOf(id);
    const int64_t pass = layer > layer_ ? pass_ : pass_ + 1;
    predicted_pass_[layer] = pass;
    predicted_[id] = {pass, static_cast<float>(std::clamp(probability, 0.0, 1.0))};
  }
  void ExpectAll(int32_t layer) override { pass_of_all_ = layer > layer_ ? pass_ : pass_ + 1; }
  std::optional<ExpertId> Victim(const std::function<bool(ExpertId)>& may_go) override {
    return Largest(may_go, [&](ExpertId id) { return Distance(id); });
  }

 private:
  static constexpr int64_t kNever = -1;
  struct Prediction {
    int64_t pass = kNever;
    float probability = 0;
  };

  /// Probability that a pass uses it.
  double Share(ExpertId id) const {
    // What a sum over so few passes still lacks; the heat of earlier runs fills in.
    double share = kFastWeight * fast_.Share(id) + kSlowWeight * slow_.Share(id);
    if (!heat_.empty()) {
      const double old = kHeatPasses / (kHeatPasses + static_cast<double>(tokens_));
      share += old * heat_[id];
    }
    return std::clamp(share, kLeastShare, 1.0);
  }
  /// Layers expected until its next use: those until its layer comes, and a pass for every time that it is not chosen.
  double Distance(ExpertId id) const {
    const int32_t layer = geometry_.LayerOf(id), layers = geometry_.layers;
    const bool this_pass = layer > layer_;
    const double steps = this_pass ? layer - layer_ : layer - layer_ + layers;
    const double share = Share(id);
    double next = share;
    const int64_t pass = this_pass ? pass_ : pass_ + 1;
    if (pass == pass_of_all_) return steps + (1 - share) / 2;  // of a layer, those that are used seldom go first
    if (predicted_pass_[layer] == pass) {
      next = predicted_[id].pass == pass ? std::max<double>(predicted_[id].probability, share) : share * kUnpredicted;
    }
    return steps + (1 - next) * layers / share;
  }

  Fading fast_, slow_;
  const std::vector<float> heat_;
  std::vector<Prediction> predicted_;
  std::vector<int64_t> predicted_pass_;  // for which pass a layer's early router has spoken
  int64_t pass_ = 0;
  int64_t tokens_ = 0;  // passes, but a pass of many rows is as many
  int64_t pass_of_all_ = kNever;
  int32_t layer_ = std::numeric_limits<int32_t>::max();
};

}  // namespace

std::string_view ExpertPolicyName(ExpertPolicyKind kind) {
  switch (kind) {
    case ExpertPolicyKind::kPredicted: return "predicted";
    case ExpertPolicyKind::kLru: return "lru";
    case ExpertPolicyKind::kLfu: return "lfu";
    case ExpertPolicyKind::kS3Fifo: return "s3-fifo";
  }
  return "?";
}

Result<ExpertPolicyKind> ParseExpertPolicy(std::string_view name) {
  for (const ExpertPolicyKind kind : kExpertPolicies) {
    if (ExpertPolicyName(kind) == name) return kind;
  }
  return Fail(ErrorCode::kInvalidArgument,
              "there is no expert policy '{}'; there are predicted, lru, lfu and s3-fifo", name);
}

std::unique_ptr<ExpertPolicy> MakeExpertPolicy(ExpertPolicyKind kind, const ExpertGeometry& geometry, int64_t slots,
                                               std::span<const float> heat) {
  switch (kind) {
    case ExpertPolicyKind::kLru: return std::make_unique<SharedPolicy>(geometry, MakeLruPolicy());
    case ExpertPolicyKind::kLfu: return std::make_unique<LfuPolicy>(geometry);
    case ExpertPolicyKind::kS3Fifo: return std::make_unique<SharedPolicy>(geometry, MakeS3FifoPolicy(slots));
    case ExpertPolicyKind::kPredicted: break;
  }
  return std::make_unique<PredictedPolicy>(geometry, heat);
}

}  // namespace fathom
