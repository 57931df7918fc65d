#include "experts/simulator.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>
#include <set>

namespace fathom {
namespace {

/// The experts that a pass uses in a layer, each once, by number.
class Uses {
 public:
  explicit Uses(const RoutingTrace& trace) : trace_(trace), chosen_(trace.geometry.experts) {}
  const std::vector<ExpertId>& Of(int64_t first_token, int32_t tokens, int32_t layer) {
    std::fill(chosen_.begin(), chosen_.end(), false);
    for (int64_t t = first_token; t < first_token + tokens; ++t)
      for (const uint16_t expert : trace_.Of(t, layer)) chosen_[expert] = true;
    ids_.clear();
    for (int32_t e = 0; e < trace_.geometry.experts; ++e)
      if (chosen_[e]) ids_.push_back(trace_.geometry.Id(layer, e));
    return ids_;
  }

 private:
  const RoutingTrace& trace_;
  std::vector<bool> chosen_;
  std::vector<ExpertId> ids_;
};

/// Calls fn(pass, layer, ids) for every layer of every pass.
template <typename Fn>
void ForEachLayer(const RoutingTrace& trace, Fn&& fn) {
  Uses uses(trace);
  int64_t token = 0;
  for (size_t pass = 0; pass < trace.passes.size(); ++pass) {
    for (int32_t layer = 0; layer < trace.geometry.layers; ++layer)
      fn(static_cast<int64_t>(pass), layer, uses.Of(token, trace.passes[pass], layer));
    token += trace.passes[pass];
  }
}

ExpertSimulatorReport Empty(const RoutingTrace& trace) {
  ExpertSimulatorReport report;
  report.layer_uses.assign(trace.geometry.layers, 0);
  report.layer_hits.assign(trace.geometry.layers, 0);
  return report;
}

void Count(ExpertSimulatorReport& report, int32_t layer, bool hit, bool first) {
  ++report.uses;
  ++report.layer_uses[layer];
  report.hits += hit;
  report.layer_hits[layer] += hit;
  report.first_uses += first;
}

}  // namespace

Result<ExpertSimulatorReport> SimulateExperts(const RoutingTrace& trace, const ExpertSimulatorOptions& options) {
  const ExpertGeometry& geometry = trace.geometry;
  int64_t most = 0;
  ForEachLayer(trace, [&](int64_t, int32_t, const std::vector<ExpertId>& ids) {
    most = std::max(most, static_cast<int64_t>(ids.size()));
  });
  if (options.slots < most) {
    return Fail(ErrorCode::kInvalidArgument, "{} slots; a layer of this trace needs {} experts at once", options.slots,
                most);
  }
  ExpertSimulatorReport report = Empty(trace);
  const auto policy = MakeExpertPolicy(options.policy, geometry, options.slots, options.heat);
  std::vector<bool> resident(geometry.count()), touched(geometry.count()), in_use(geometry.count());
  int64_t free = options.slots;
  auto insert = [&](ExpertId id) {
    resident[id] = true;
    policy->Insert(id);
    --free;
  };
  if (!options.heat.empty()) {
    std::vector<ExpertId> order(geometry.count());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](ExpertId a, ExpertId b) { return options.heat[a] > options.heat[b]; });
    for (const ExpertId id : order) {
      if (free == 0 || options.heat[id] <= 0) break;
      insert(id);
    }
  }
  std::mt19937_64 random(1);
  struct Group {
    int64_t pass;
    int32_t layer;
    std::vector<ExpertId> ids;
  };
  std::vector<Group> groups;
  ForEachLayer(trace, [&](int64_t pass, int32_t layer, const std::vector<ExpertId>& ids) {
    groups.push_back({pass, layer, ids});
  });
  for (size_t g = 0; g < groups.size(); ++g) {
    const auto& [pass, layer, ids] = groups[g];
    policy->AtLayer(layer);
    // The next layer's router, run early.
    if (options.prediction > 0 && g + 1 < groups.size()) {
      for (const ExpertId id : groups[g + 1].ids) {
        const bool right = std::uniform_real_distribution<>()(random) < options.prediction;
        const auto other = static_cast<int32_t>(random() % static_cast<uint64_t>(geometry.experts));
        policy->Predict(right ? id : geometry.Id(groups[g + 1].layer, other), options.prediction);
      }
    }
    for (const ExpertId id : ids) in_use[id] = true;
    for (const ExpertId id : ids) {
      const bool hit = resident[id];
      if (pass >= options.warm_passes) Count(report, layer, hit, !hit && !touched[id]);
      touched[id] = true;
      policy->Use(id);
      if (hit) continue;
      if (free == 0) {
        const auto victim = policy->Victim([&](ExpertId other) { return !in_use[other]; });
        if (!victim) continue;  // cannot be: there are as many slots as a layer needs
        policy->Remove(*victim);
        resident[*victim] = false;
        ++free;
      }
      insert(id);
    }
    for (const ExpertId id : ids) in_use[id] = false;
  }
  return report;
}

ExpertSimulatorReport BeladyExperts(const RoutingTrace& trace, int64_t slots, int64_t warm_passes) {
  constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
  ExpertSimulatorReport report = Empty(trace);
  const int32_t count = trace.geometry.count();
  // next[i]: when the i-th use's expert is used again, counted in uses.
  std::vector<ExpertId> order;
  ForEachLayer(trace, [&](int64_t, int32_t, const std::vector<ExpertId>& ids) {
    order.insert(order.end(), ids.begin(), ids.end());
  });
  std::vector<int64_t> next(order.size()), soonest(count, kNever);
  for (size_t i = order.size(); i-- > 0;) {
    next[i] = soonest[order[i]];
    soonest[order[i]] = static_cast<int64_t>(i);
  }
  std::set<std::pair<int64_t, ExpertId>> held;
  std::vector<int64_t> next_of(count, -1);  // -1: not held
  std::vector<bool> touched(count);
  size_t at = 0;
  ForEachLayer(trace, [&](int64_t pass, int32_t layer, const std::vector<ExpertId>& ids) {
    for (size_t i = 0; i < ids.size(); ++i, ++at) {
      const ExpertId id = order[at];
      const bool hit = next_of[id] >= 0;
      if (pass >= warm_passes) Count(report, layer, hit, !hit && !touched[id]);
      touched[id] = true;
      if (hit) held.erase({next_of[id], id});
      next_of[id] = -1;
      if (next[at] == kNever) continue;
      held.insert({next[at], id});
      next_of[id] = next[at];
      if (static_cast<int64_t>(held.size()) > slots) {
        const auto farthest = std::prev(held.end());
        next_of[farthest->second] = -1;
        held.erase(farthest);
      }
    }
  });
  return report;
}

std::vector<float> HeatOf(const RoutingTrace& trace, int64_t passes) {
  std::vector<float> heat(trace.geometry.count(), 0);
  passes = std::min(passes, static_cast<int64_t>(trace.passes.size()));
  if (passes <= 0) return heat;
  ForEachLayer(trace, [&](int64_t pass, int32_t, const std::vector<ExpertId>& ids) {
    if (pass < passes)
      for (const ExpertId id : ids) heat[id] += 1;
  });
  for (float& value : heat) value /= static_cast<float>(passes);
  return heat;
}

}  // namespace fathom
