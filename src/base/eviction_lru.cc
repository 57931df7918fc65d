// Least recently used.
#include "base/eviction_base.h"

namespace fathom {
namespace {

class LruPolicy final : public LeafFirstPolicy {
 public:
  std::optional<CacheEntryId> Victim(const std::function<bool(CacheEntryId)>& may_go) override {
    std::vector<Entry*> tired;
    Entry* victim = FirstThatMayGo(order_, may_go, &tired);
    for (Entry* entry : tired) Renew(*entry, latest());
    return Chosen(victim);
  }

 private:
  void OnInsert(Entry& entry, double now) override { PlaceAt(entry, now); }
  void OnTouch(Entry& entry, double now) override { Renew(entry, now); }
  void OnRemove(Entry&, bool) override {}
  void PutInOrder(Entry& entry) override { order_.insert(Place(entry)); }
  void TakeFromOrder(Entry& entry) override { order_.erase(Place(entry)); }

  void Renew(Entry& entry, double time) {
    Leave(entry);
    PlaceAt(entry, time);
    Enter(entry);
  }

  Order order_;
};

}  // namespace

std::unique_ptr<EvictionPolicy> MakeLruPolicy() { return std::make_unique<LruPolicy>(); }

}  // namespace fathom
