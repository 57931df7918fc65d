// Saved time: gives up what is expected to save the least time for the room it takes and the time it would take it.
//
//   value = saved seconds / bytes * ReuseModel::Index(class, seconds since the last use)
//
// A class is how often an entry was hit (0, 1, 2, more). Entries whose saved time per byte differs by less than an
// eighth stand in one order by last use, of which only the oldest is looked at: the index falls with age almost
// everywhere. What was evicted is remembered by name for a while, so that the model learns of uses that came too late
// to be hits; without that, a small cache would never see that waiting longer pays, and behave like LRU
// (docs/cache.md).
#include <algorithm>
#include <cmath>
#include <deque>
#include <map>

#include "base/eviction_base.h"
#include "cache/eviction.h"
#include "cache/reuse_model.h"

namespace fathom {
namespace {

class SavedTimePolicy final : public LeafFirstPolicy {
 public:
  SavedTimePolicy() : model_(kClasses) {}

  std::optional<CacheEntryId> Victim(const std::function<bool(CacheEntryId)>& may_go) override {
    const auto known = static_cast<int64_t>(size() + ghosts_.size());
    if (model_.fresh() > std::max<int64_t>(kLeastEvents, known / 4)) Learn();
    std::vector<Entry*> tired;
    Entry* victim = nullptr;
    double least = 0;
    for (const auto& [group, order] : orders_) {
      Entry* entry = FirstThatMayGo(order, may_go, &tired);
      if (entry == nullptr) continue;
      const double value = SavedPerByte(*entry) * model_.Index(ClassOf(entry->group), latest() - entry->last_use);
      if (victim == nullptr || value < least || (value == least && Place(*entry) < Place(*victim)))
        victim = entry, least = value;
    }
    for (Entry* entry : tired) Renew(*entry, latest());
    return Chosen(victim);
  }

 private:
  static constexpr uint32_t kClasses = 4;
  static constexpr int64_t kLeastEvents = 256;  // between two lessons
  static constexpr double kFade = 0.95;         // of what is known, at every lesson
  static constexpr size_t kGhostsPerEntry = 16, kMostGhosts = 250'000;
  static constexpr double kLevelsPerOctave = 6, kMostLevel = 1000;

  struct Ghost {
    uint64_t birth = 0;
    uint32_t cls = 0;
    int32_t hits = 0;
    double last_use = 0;
  };

  static double SavedPerByte(const Entry& entry) {
    const double value = entry.cost.saved_seconds / static_cast<double>(std::max<int64_t>(entry.cost.bytes, 1));
    return value > 0 ? value : 0;
  }
  static int ClassOf(uint32_t group) { return static_cast<int>(group % kClasses); }

  void Classify(Entry& entry) {
    const double per_byte = SavedPerByte(entry);
    uint32_t level = 0;
    if (per_byte > 0) {
      const double exact = std::floor(std::log2(per_byte) * kLevelsPerOctave);
      level = static_cast<uint32_t>(std::clamp(exact, -kMostLevel, kMostLevel) + kMostLevel + 1);
    }
    entry.group = level * kClasses + std::min<uint32_t>(static_cast<uint32_t>(entry.hits), kClasses - 1);
  }
  void Learn() {
    model_.Rebuild(
        [&](const auto& here) {
          for (const auto& [id, entry] : entries()) here(ClassOf(entry.group), latest() - entry.last_use);
          for (const auto& [id, ghost] : ghosts_) here(static_cast<int>(ghost.cls), latest() - ghost.last_use);
        },
        kFade);
  }

  void OnInsert(Entry& entry, double now) override {
    PlaceAt(entry, now);
    if (const auto it = ghosts_.find(entry.id); it != ghosts_.end()) {
      const Ghost& ghost = it->second;
      model_.Used(static_cast<int>(ghost.cls), latest() - ghost.last_use);
      entry.hits = ghost.hits + 1;
      ghosts_.erase(it);
    }
    Classify(entry);
  }
  void OnTouch(Entry& entry, double now) override {
    model_.Used(ClassOf(entry.group), now - entry.last_use);
    Renew(entry, now);
  }
  void OnCost(Entry& entry) override { Classify(entry); }
  void OnRemove(Entry& entry, bool evicted) override {
    if (!evicted) {
      model_.Gone(ClassOf(entry.group), latest() - entry.last_use);
      return;
    }
    ghosts_[entry.id] = {.birth = entry.birth,
                         .cls = static_cast<uint32_t>(ClassOf(entry.group)),
                         .hits = std::min(entry.hits, static_cast<int32_t>(kClasses)),
                         .last_use = entry.last_use};
    ghost_order_.emplace_back(entry.id, entry.birth);
    // The names of ghosts that came back stand in ghost_order_ until their turn comes.
    const size_t most = std::min(kGhostsPerEntry * (size() + 64), kMostGhosts);
    while (ghosts_.size() > most || ghost_order_.size() > 2 * most) {
      const auto [id, birth] = ghost_order_.front();
      ghost_order_.pop_front();
      const auto it = ghosts_.find(id);
      if (it == ghosts_.end() || it->second.birth != birth) continue;
      model_.Gone(static_cast<int>(it->second.cls), latest() - it->second.last_use);
      ghosts_.erase(it);
    }
  }
  void PutInOrder(Entry& entry) override { orders_[entry.group].insert(Place(entry)); }
  void TakeFromOrder(Entry& entry) override {
    const auto it = orders_.find(entry.group);
    it->second.erase(Place(entry));
    if (it->second.empty()) orders_.erase(it);
  }

  void Renew(Entry& entry, double time) {
    Leave(entry);
    PlaceAt(entry, time);
    Classify(entry);
    Enter(entry);
  }

  ReuseModel model_;
  std::map<uint32_t, Order> orders_;  // by group: level of saved time per byte and class
  std::unordered_map<CacheEntryId, Ghost> ghosts_;
  std::deque<std::pair<CacheEntryId, uint64_t>> ghost_order_;
};

}  // namespace

std::unique_ptr<EvictionPolicy> MakeSavedTimePolicy() { return std::make_unique<SavedTimePolicy>(); }

}  // namespace fathom
