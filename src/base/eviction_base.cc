#include "base/eviction_base.h"

namespace fathom {

void LeafFirstPolicy::Insert(CacheEntryId id, const CacheEntryCost& cost, double now) {
  const auto [it, made] = entries_.try_emplace(id);
  Entry& entry = it->second;
  if (!made) {
    Leave(entry);  // its place may depend on its cost
    const CacheEntryId parent = entry.cost.parent;
    entry.cost = cost;
    entry.cost.parent = parent;
    OnCost(entry);
    Enter(entry);
    return;
  }
  entry.id = id;
  entry.cost = cost;
  entry.birth = ++births_;
  if (Entry* parent = cost.parent != kNoCacheEntry && cost.parent != id ? Find(cost.parent) : nullptr) {
    entry.parent_birth = parent->birth;
    if (parent->children++ == 0) Leave(*parent);
  }
  OnInsert(entry, now);
  Enter(entry);
}

void LeafFirstPolicy::Touch(CacheEntryId id, double now) {
  Entry* entry = Find(id);
  if (entry == nullptr) return;
  if (entry->hits < INT32_MAX) ++entry->hits;
  OnTouch(*entry, now);
}

void LeafFirstPolicy::Remove(CacheEntryId id) {
  Entry* entry = Find(id);
  if (entry == nullptr) return;
  Leave(*entry);
  OnRemove(*entry, entry == victim_);
  if (entry == victim_) victim_ = nullptr;
  Entry* parent = Parent(*entry);
  entries_.erase(id);
  if (parent != nullptr && --parent->children == 0) Enter(*parent);
}

LeafFirstPolicy::Entry* LeafFirstPolicy::Find(CacheEntryId id) {
  const auto it = entries_.find(id);
  return it == entries_.end() ? nullptr : &it->second;
}

LeafFirstPolicy::Entry* LeafFirstPolicy::Parent(const Entry& entry) {
  if (entry.parent_birth == 0) return nullptr;
  Entry* parent = Find(entry.cost.parent);
  return parent != nullptr && parent->birth == entry.parent_birth ? parent : nullptr;
}

LeafFirstPolicy::Entry* LeafFirstPolicy::FirstThatMayGo(const Order& order,
                                                        const std::function<bool(CacheEntryId)>& may_go,
                                                        std::vector<Entry*>* tired) {
  for (const auto& [time, stamp, entry] : order) {
    if (may_go(entry->id)) return entry;
    if (++entry->refused >= kMostRefusals) tired->push_back(entry);
  }
  return nullptr;
}

}  // namespace fathom
