// Who must go when a tier is full: policies behind one seam, pure and deterministic, used by the cache and by the
// simulator alike.
//
// Entries are known by an id; time comes from the caller (seconds on any clock that does not go back). Not thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "base/result.h"

namespace fathom {

using CacheEntryId = uint64_t;

struct CacheEntryCost {
  int64_t bytes = 0;
  double saved_seconds = 0;  // what a hit saves: time to compute the block's rows less time to load them
};

class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;
  virtual void Insert(CacheEntryId id, const CacheEntryCost& cost, double now) = 0;
  /// A hit. REQUIRES: inserted.
  virtual void Touch(CacheEntryId id, double now) = 0;
  virtual void Remove(CacheEntryId id) = 0;
  /// The entry to give up first among those for which may_go(id); nothing when there is none. Does not remove it.
  virtual std::optional<CacheEntryId> Victim(const std::function<bool(CacheEntryId)>& may_go) = 0;
};

enum class EvictionKind { kSavedTime, kLru, kS3Fifo };
std::string_view EvictionKindName(EvictionKind kind);  // "saved-time", "lru", "s3-fifo"
/// Errors: kInvalidArgument with the names there are.
Result<EvictionKind> ParseEvictionKind(std::string_view name);
/// capacity_bytes: of the tier, for policies that divide it.
std::unique_ptr<EvictionPolicy> MakeEvictionPolicy(EvictionKind kind, int64_t capacity_bytes);

}  // namespace fathom
