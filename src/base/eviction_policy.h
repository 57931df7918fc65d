// Who must go when room is short: the seam that the KV cache's tiers and the expert slots share, and the two policies
// that suit both. Pure and deterministic, used by the real thing and by its simulator alike.
//
// Entries are known by an id; one that comes back with the same id is recognised by policies that remember. Blocks form
// trees, and a block is of no use without those before it: an entry that names its parent is always offered before that
// parent, at no cost for the parents in between (experts name none). Time comes from the caller (seconds on any clock
// that does not go back). Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

namespace fathom {

using CacheEntryId = uint64_t;

inline constexpr CacheEntryId kNoCacheEntry = 0;

struct CacheEntryCost {
  int64_t bytes = 0;
  double saved_seconds = 0;  // what a hit saves: time to compute the block's rows less time to load them
  CacheEntryId parent = kNoCacheEntry;  // the block before it; not counted unless it is inserted already
};

class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;
  /// A new entry; for one that is there already, its cost is replaced.
  virtual void Insert(CacheEntryId id, const CacheEntryCost& cost, double now) = 0;
  /// A hit. An id that is not inserted is ignored.
  virtual void Touch(CacheEntryId id, double now) = 0;
  /// It is gone; as evicted if it was the last victim. An id that is not inserted is ignored.
  virtual void Remove(CacheEntryId id) = 0;
  /// The entry to give up first among those that have no children here and for which may_go(id); nothing when there is
  /// none. Does not remove it. may_go is for what the policy cannot know (pinned, in use), and costs when it refuses
  /// many: an entry refused again and again is treated as if just used.
  virtual std::optional<CacheEntryId> Victim(const std::function<bool(CacheEntryId)>& may_go) = 0;
  virtual size_t size() const = 0;
};

std::unique_ptr<EvictionPolicy> MakeLruPolicy();
/// capacity_bytes: of all entries together.
std::unique_ptr<EvictionPolicy> MakeS3FifoPolicy(int64_t capacity_bytes);

}  // namespace fathom
