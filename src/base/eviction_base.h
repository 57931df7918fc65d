// What the eviction policies share: the entries, who is whose parent, and keeping only entries without children in the
// order that victims come from, so that the inner blocks of a tree cost nothing when a victim is sought.
//
// A policy derives from LeafFirstPolicy, keeps its own order in Enter() and Leave(), and moves an entry by Leave(),
// change, Enter(). Not thread-safe.
#pragma once

#include <algorithm>
#include <set>
#include <unordered_map>
#include <tuple>
#include <utility>
#include <vector>

#include "base/eviction_policy.h"

namespace fathom {

class LeafFirstPolicy : public EvictionPolicy {
 public:
  void Insert(CacheEntryId id, const CacheEntryCost& cost, double now) final;
  void Touch(CacheEntryId id, double now) final;
  void Remove(CacheEntryId id) final;
  size_t size() const final { return entries_.size(); }

 protected:
  struct Entry {
    CacheEntryId id = 0;
    CacheEntryCost cost;
    uint64_t birth = 0;         // of this entry; tells it from another one with the same id
    uint64_t parent_birth = 0;  // 0: no parent here
    int32_t children = 0;
    int32_t refused = 0;        // times that may_go said no since it last moved
    int32_t hits = 0;
    bool ordered = false;       // stands in the order
    // For the policies:
    double last_use = 0;        // first of its place in an order
    uint64_t stamp = 0;         // second
    uint32_t group = 0;         // queue or class
    int64_t counted = 0;        // bytes, as the policy's accounts have them
  };
  /// By time of the last use and, of equal times, by stamp: blocks that a restart found are inserted as of long ago,
  /// and in any order.
  using Order = std::set<std::tuple<double, uint64_t, Entry*>>;
  static Order::value_type Place(Entry& entry) { return {entry.last_use, entry.stamp, &entry}; }
  static constexpr int32_t kMostRefusals = 8;

  /// Has been added (its parent is known, it is not in the order yet).
  virtual void OnInsert(Entry& entry, double now) = 0;
  /// Its cost has changed; it is not in the order now.
  virtual void OnCost(Entry&) {}
  /// Was hit.
  virtual void OnTouch(Entry& entry, double now) = 0;
  /// Is about to go, not in the order any more. evicted: it was the last victim.
  virtual void OnRemove(Entry& entry, bool evicted) = 0;
  virtual void PutInOrder(Entry& entry) = 0;
  virtual void TakeFromOrder(Entry& entry) = 0;

  void Enter(Entry& entry) {
    if (entry.children == 0 && !entry.ordered) entry.ordered = true, PutInOrder(entry);
  }
  void Leave(Entry& entry) {
    if (entry.ordered) entry.ordered = false, TakeFromOrder(entry);
  }
  Entry* Find(CacheEntryId id);
  /// The parent, nullptr if it is not here.
  Entry* Parent(const Entry& entry);
  /// The first entry of `order` that may go. Those refused too often are put into *tired, for the policy to move.
  static Entry* FirstThatMayGo(const Order& order, const std::function<bool(CacheEntryId)>& may_go,
                               std::vector<Entry*>* tired);
  /// Gives it a place behind all others of its time. REQUIRES: it is not in the order.
  void PlaceAt(Entry& entry, double time) {
    now_ = std::max(now_, time);
    entry.last_use = time;
    entry.stamp = ++stamps_;
    entry.refused = 0;
  }
  /// The latest time that was heard of.
  double latest() const { return now_; }
  std::optional<CacheEntryId> Chosen(Entry* entry) {
    victim_ = entry;
    return entry != nullptr ? std::optional(entry->id) : std::nullopt;
  }
  const std::unordered_map<CacheEntryId, Entry>& entries() const { return entries_; }

 private:
  std::unordered_map<CacheEntryId, Entry> entries_;
  uint64_t births_ = 0, stamps_ = 0;
  double now_ = 0;
  const Entry* victim_ = nullptr;
};

}  // namespace fathom
