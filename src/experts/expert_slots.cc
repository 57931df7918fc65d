// The store's slots as a whole: how many there are, who is in them, what is told of them.
#include <algorithm>
#include <cstring>

#include "experts/expert_store_impl.h"

namespace fathom {

void ExpertStoreImpl::RebuildFree(Slots& slots) {
  slots.free.clear();
  for (int32_t i = slots.first + std::min(slots.target, slots.count); i-- > slots.first;)
    if (slots_[i].id == kNone && slots_[i].pins == 0) slots.free.push_back(i);
}

Status ExpertStoreImpl::Resize(int64_t slots) {
  const int64_t most = options_.most_slots > 0 ? options_.most_slots : geometry_.count();
  if (!options_.resizable) return Fail(ErrorCode::kInvalidArgument, "these expert slots are fixed");
  if (slots < geometry_.top_k || slots > most) {
    return Fail(ErrorCode::kInvalidArgument, "{} expert slots are not in [{}, {}]", slots, geometry_.top_k, most);
  }
  const std::vector<int64_t> wanted = layout_.SlotsByClass(slots);
  Requests requests;
  {
    const Lock lock(mutex_);
    for (size_t c = 0; c < classes_.size(); ++c) {
      if (wanted[c] <= classes_[c].count) continue;
      const Status grown = classes_[c].memory->Resize(wanted[c]);
      if (grown) continue;
      for (size_t before = 0; before < c; ++before) (void)classes_[before].memory->Resize(classes_[before].count);
      return grown;
    }
    for (size_t c = 0; c < classes_.size(); ++c) {
      classes_[c].target = static_cast<int32_t>(wanted[c]);
      classes_[c].count = std::max(classes_[c].count, classes_[c].target);
      RebuildFree(classes_[c]);
      Shrink(classes_[c]);
    }
    PumpPrefetch(&requests);
    changed_.notify_all();
  }
  Submit(std::move(requests));
  return {};
}

void ExpertStoreImpl::Shrink(Slots& slots) {
  if (slots.count <= slots.target) return;
  const auto in_use = [](const Slot& slot) { return slot.id != kNone || slot.pins > 0; };
  const auto all = std::span(slots_).subspan(slots.first, slots.count);
  int64_t occupied = std::ranges::count_if(all, in_use);
  while (occupied > slots.target) {
    const auto victim = policy_->Victim([&](ExpertId id) { return &SlotsFor(id) == &slots && MayGo(id, true); });
    if (!victim) break;
    Drop(slot_of_[*victim]);
    --occupied;
  }
  RebuildFree(slots);
  // Those that stay move down.
  for (int32_t i = slots.first + slots.count; i-- > slots.first + slots.target && !slots.free.empty();) {
    if (slots_[i].id == kNone || !slots_[i].ready || slots_[i].pins > 0) continue;
    const int32_t to = slots.free.back();
    slots.free.pop_back();
    std::memcpy(slots.memory->slot(to - slots.first), slots.memory->slot(i - slots.first),
                static_cast<size_t>(slots.memory->slot_bytes()));
    slots_[to] = std::exchange(slots_[i], Slot{});
    slot_of_[slots_[to].id] = to;
  }
  while (slots.count > slots.target && !in_use(slots_[slots.first + slots.count - 1])) --slots.count;
  (void)slots.memory->Resize(slots.count);  // smaller: cannot fail
}

int64_t ExpertStoreImpl::slots() const {
  const Lock lock(mutex_);
  int64_t count = 0;
  for (const Slots& slots : classes_) count += slots.count;
  return count;
}

ExpertStoreStats ExpertStoreImpl::stats() const {
  const Lock lock(mutex_);
  ExpertStoreStats stats = stats_;
  for (const Slots& slots : classes_) stats.slots += slots.count;
  stats.slot_bytes = layout_.slot_bytes();
  stats.io.direct = files_->direct();
  if (in_flight_ > 0) {
    stats.busy_seconds += std::chrono::duration<double>(ExpertLoad::Clock::now() - busy_since_).count();
  }
  for (const Slot& slot : slots_) {
    stats.resident += slot.ready;
    stats.leased += slot.pins > 0;
  }
  return stats;
}

void ExpertStoreImpl::Residents(int32_t layer, std::span<uint8_t> out) const {
  const Lock lock(mutex_);
  for (int32_t e = 0; e < geometry_.experts; ++e) out[e] = slot_of_[geometry_.Id(layer, e)] >= 0 ? 1 : 0;
}

std::vector<float> ExpertStoreImpl::Heat() const {
  const Lock lock(mutex_);
  std::vector<float> heat(geometry_.count());
  // The earlier heat counts as kEarlier passes.
  constexpr double kEarlier = 200;
  const double earlier = options_.heat.empty() ? 0 : kEarlier, passes = static_cast<double>(pass_) + 1;
  for (int32_t id = 0; id < geometry_.count(); ++id) {
    const double before = options_.heat.empty() ? 0 : options_.heat[id];
    const double uses = std::min(use_counts_[id], passes);
    heat[id] = static_cast<float>((uses + before * earlier) / (passes + earlier));
  }
  return heat;
}

}  // namespace fathom
