// S3-FIFO: "FIFO queues are all you need for cache eviction" (Yang et al., SOSP 2023, algorithm 1). What is new waits
// in a small queue of a tenth of the room; what is hit there more than once moves to the main queue, the rest leaves
// and is remembered by name: should it come back, it goes to the main queue at once. The main queue is a FIFO with
// reinsertion.
#include <algorithm>
#include <array>
#include <deque>

#include "base/eviction_base.h"

namespace fathom {
namespace {

class S3FifoPolicy final : public LeafFirstPolicy {
 public:
  explicit S3FifoPolicy(int64_t capacity_bytes)
      : small_bytes_(std::max<int64_t>(capacity_bytes / 10, 1)), main_bytes_(capacity_bytes - capacity_bytes / 10) {}

  std::optional<CacheEntryId> Victim(const std::function<bool(CacheEntryId)>& may_go) override {
    // Each turn of the loop moves an entry or lowers a frequency, so this ends.
    while (true) {
      const uint32_t first = bytes_[kSmall] >= small_bytes_ ? kSmall : kMain;
      Entry* entry = Oldest(first, may_go);
      if (entry == nullptr) entry = Oldest(1 - first, may_go);
      if (entry == nullptr) return Chosen(nullptr);
      if (entry->group == kSmall && entry->hits > 1) {
        Move(*entry, 0);
      } else if (entry->group == kMain && entry->hits > 0) {
        Move(*entry, std::min(entry->hits, kMostHits) - 1);
      } else {
        return Chosen(entry);
      }
    }
  }

 private:
  enum : uint32_t { kSmall = 0, kMain = 1 };
  static constexpr int32_t kMostHits = 3;

  void OnInsert(Entry& entry, double now) override {
    const auto ghost = ghosts_.find(entry.id);
    entry.group = ghost != ghosts_.end() ? kMain : kSmall;
    if (ghost != ghosts_.end()) ghosts_.erase(ghost);
    PlaceAt(entry, now);
    Count(entry);
  }
  void OnCost(Entry& entry) override {
    bytes_[entry.group] -= entry.counted;
    Count(entry);
  }
  void OnTouch(Entry& entry, double) override { entry.hits = std::min(entry.hits, kMostHits); }
  void OnRemove(Entry& entry, bool evicted) override {
    bytes_[entry.group] -= entry.counted;
    if (evicted && entry.group == kSmall) Remember(entry);
  }
  void PutInOrder(Entry& entry) override { order_[entry.group].insert(Place(entry)); }
  void TakeFromOrder(Entry& entry) override { order_[entry.group].erase(Place(entry)); }

  /// To the head of the main queue.
  void Move(Entry& entry, int32_t hits) {
    Leave(entry);
    bytes_[entry.group] -= entry.counted;
    entry.group = kMain;
    entry.hits = hits;
    PlaceAt(entry, latest());
    Count(entry);
    Enter(entry);
  }
  Entry* Oldest(uint32_t queue, const std::function<bool(CacheEntryId)>& may_go) {
    std::vector<Entry*> tired;
    Entry* entry = FirstThatMayGo(order_[queue], may_go, &tired);
    for (Entry* other : tired) Move(*other, other->hits);
    return entry;
  }
  void Remember(const Entry& entry) {
    ghosts_[entry.id] = entry.birth;
    ghost_order_.push_back({entry.id, entry.birth, entry.cost.bytes});
    ghost_bytes_ += entry.cost.bytes;
    while (ghost_bytes_ > main_bytes_ && !ghost_order_.empty()) {
      const Ghost& oldest = ghost_order_.front();
      ghost_bytes_ -= oldest.bytes;
      const auto it = ghosts_.find(oldest.id);
      if (it != ghosts_.end() && it->second == oldest.birth) ghosts_.erase(it);
      ghost_order_.pop_front();
    }
  }
  void Count(Entry& entry) {
    entry.counted = entry.cost.bytes;
    bytes_[entry.group] += entry.counted;
  }

  struct Ghost {
    CacheEntryId id;
    uint64_t birth;
    int64_t bytes;
  };
  const int64_t small_bytes_, main_bytes_;
  std::array<Order, 2> order_;
  std::array<int64_t, 2> bytes_{};
  std::unordered_map<CacheEntryId, uint64_t> ghosts_;  // to the birth of the entry that left
  std::deque<Ghost> ghost_order_;
  int64_t ghost_bytes_ = 0;
};

}  // namespace

std::unique_ptr<EvictionPolicy> MakeS3FifoPolicy(int64_t capacity_bytes) {
  return std::make_unique<S3FifoPolicy>(capacity_bytes);
}

}  // namespace fathom
