// The store's slots as a whole: how many there are, who is in them, what is told of them.
#include <algorithm>
#include <cstring>

#include "experts/expert_store_impl.h"

namespace fathom {

void ExpertStoreImpl::RebuildFree() {
  free_.clear();
  for (auto i = static_cast<int32_t>(std::min<int64_t>(target_slots_, static_cast<int64_t>(slots_.size()))); i-- > 0;)
    if (slots_[i].id == kNone && slots_[i].pins == 0) free_.push_back(i);
}

Status ExpertStoreImpl::Resize(int64_t slots) {
  const int64_t most = options_.most_slots > 0 ? options_.most_slots : geometry_.count();
  if (!options_.resizable) return Fail(ErrorCode::kInvalidArgument, "these expert slots are fixed");
  if (slots < geometry_.top_k || slots > most) {
    return Fail(ErrorCode::kInvalidArgument, "{} expert slots are not in [{}, {}]", slots, geometry_.top_k, most);
  }
  Requests requests;
  {
    const Lock lock(mutex_);
    if (slots > static_cast<int64_t>(slots_.size())) {
      FATHOM_CHECK_OK(memory_->Resize(slots));
      slots_.resize(slots);
    }
    target_slots_ = slots;
    RebuildFree();
    Shrink();
    PumpPrefetch(&requests);
    changed_.notify_all();
  }
  Submit(std::move(requests));
  return {};
}

void ExpertStoreImpl::Shrink() {
  if (static_cast<int64_t>(slots_.size()) <= target_slots_) return;
  int64_t occupied = 0;
  for (const Slot& slot : slots_) occupied += slot.id != kNone || slot.pins > 0;
  while (occupied > target_slots_) {
    const auto victim = policy_->Victim([&](ExpertId id) { return MayGo(id, true); });
    if (!victim) break;
    Drop(slot_of_[*victim]);
    --occupied;
  }
  RebuildFree();
  // Those that stay move down.
  for (auto i = static_cast<int32_t>(slots_.size()); i-- > target_slots_ && !free_.empty();) {
    if (slots_[i].id == kNone || !slots_[i].ready || slots_[i].pins > 0) continue;
    const int32_t to = free_.back();
    free_.pop_back();
    std::memcpy(memory_->slot(to), memory_->slot(i), static_cast<size_t>(layout_.slot_bytes()));
    slots_[to] = std::exchange(slots_[i], Slot{});
    slot_of_[slots_[to].id] = to;
  }
  while (static_cast<int64_t>(slots_.size()) > target_slots_ && slots_.back().id == kNone && slots_.back().pins == 0)
    slots_.pop_back();
  (void)memory_->Resize(static_cast<int64_t>(slots_.size()));  // smaller: cannot fail
}

int64_t ExpertStoreImpl::slots() const {
  const Lock lock(mutex_);
  return static_cast<int64_t>(slots_.size());
}

ExpertStoreStats ExpertStoreImpl::stats() const {
  const Lock lock(mutex_);
  ExpertStoreStats stats = stats_;
  stats.slots = static_cast<int64_t>(slots_.size());
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
