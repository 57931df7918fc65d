// Least recently used.
#include "cache/eviction_base.h"

namespace fathom {
namespace {

class LruPolicy final : public LeafFirstPolicy {
 public:
  std::optional<CacheEntryId> Victim(const std::function<bool(CacheEntryId)>& may_go) override {
    std::vector<Entry*> tired;
    Entry* victim = FirstThatMayGo(order_, may_go, &tired);
    for (Entry* entry : tired) Renew(*entry);
    return Chosen(victim);
  }

 private:
  void OnInsert(Entry& entry, double) override { entry.stamp = NextStamp(); }
  void OnTouch(Entry& entry, double) override { Renew(entry); }
  void OnRemove(Entry&, bool) override {}
  void PutInOrder(Entry& entry) override { order_.emplace(entry.stamp, &entry); }
  void TakeFromOrder(Entry& entry) override { order_.erase({entry.stamp, &entry}); }

  void Renew(Entry& entry) {
    Leave(entry);
    entry.stamp = NextStamp();
    entry.refused = 0;
    Enter(entry);
  }

  Order order_;
};

}  // namespace

std::unique_ptr<EvictionPolicy> MakeLruPolicy() { return std::make_unique<LruPolicy>(); }

}  // namespace fathom
