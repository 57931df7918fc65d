// Carries out what the MemoryGovernor decides while a server works: expert slots grow by what is taken from the pool of keys
// and values, and give it back.
//
// The pool is made as large as it may ever become; what it does not have now is ballast: blocks that are taken from it, hold
// nothing, and whose memory has gone back to the system. So the sum of both never grows, and neither side needs to know of
// the other. The pool's memory must not be registered with the kernel (CacheOptions::register_memory).
//
// Used by the service's thread between passes. The store and the pool outlive it.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "cache/kv_cache.h"
#include "cache/kv_store.h"
#include "engine/memory_governor.h"
#include "experts/expert_store.h"

namespace fathom {

class MemoryShare {
 public:
  static constexpr double kPeriod = 5;  // seconds

  struct Parts {
    ExpertStore& experts;
    KvPool& pool;
    int64_t kv_begin = 0;  // bytes of blocks
    int64_t kv_least = 0;
    int64_t least_slots = 1;
    std::function<CacheStats()> cache;  // empty: there is none
  };
  /// The pool's size that leaves experts `least_slots` of `slots`.
  static int64_t MostKvBytes(int64_t kv_begin, int64_t block_bytes, int64_t slots, int64_t least_slots, int64_t slot_bytes);

  /// Takes the ballast. REQUIRES: the pool has a limit and nobody uses it yet.
  explicit MemoryShare(Parts parts);

  /// Looks whether it is time, and moves. now: seconds of any clock; rates: what computing a row costs.
  void Tick(double now, const ComputeRates& rates);
  /// Blocks of the pool's that experts have the memory of.
  int64_t ballast_blocks() const { return static_cast<int64_t>(ballast_.size()); }
  int64_t kv_bytes() const { return governor_.kv_bytes(); }

 private:
  GovernorLimits Limits() const;
  GovernorSample Measure(double seconds, const ComputeRates& rates);
  bool TakeBallast(int64_t blocks);  // as many as can be had; false: none
  void Settle();
  void Move(int64_t bytes);

  Parts parts_;
  const int64_t block_bytes_, slot_bytes_;
  int64_t expert_bytes_;  // what slots may take
  int64_t returning_ = 0;  // blocks of ballast that go when slots have let go of the memory
  std::vector<KvBlockRef> ballast_;
  MemoryGovernor governor_;

  double last_ = -1;
  ExpertStoreStats experts_;
  CacheStats cache_;
  double loaded_ = 0;  // bytes a second from the disk, mean over some periods
};

}  // namespace fathom
