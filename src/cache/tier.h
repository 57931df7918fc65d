// A place where KV blocks live that are not in the compute device's memory: an SSD, a remote store. One narrow
// asynchronous interface, batch-wise; everything above it is the same for all of them.
//
// Thread-safe. Callbacks run on a thread of the tier's, in any order, exactly once each, also on error and at shutdown
// (kCancelled); they must be short and must not call back into the tier's destructor. A tier keeps no policy: who is
// admitted and who must go is decided above (cache/eviction.h, cache/admission.h).
//
// What is read is verified (checksum, identity) before the callback says that it is there: a block that does not verify
// is an error (kCorrupt), never data.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cache/block_key.h"
#include "cache/kv_store.h"

namespace fathom {

/// Where a block lies in a tier; opaque to callers, valid until erased or replaced.
using TierHandle = uint64_t;
inline constexpr TierHandle kNoHandle = ~TierHandle{0};

struct TierStats {
  int64_t capacity_bytes = 0, used_bytes = 0;
  int64_t blocks = 0;
  int64_t reads = 0, read_bytes = 0, read_errors = 0, corrupt = 0;
  int64_t writes = 0, written_bytes = 0, write_errors = 0, dropped_writes = 0;
  int64_t queued_writes = 0;
  double read_bytes_per_second = 0;  // measured, an exponential mean over recent reads; 0: unknown
  double write_bytes_per_second = 0;
};

/// Reading rows of several blocks: `layers` of them beginning at `first_layer`, only the block's counted rows need come.
struct TierRead {
  TierHandle handle = kNoHandle;
  BlockMeta meta;       // what is expected there; anything else is kCorrupt
  KvBlockRef into;      // kept alive until the callback has run
  int64_t first_layer = 0, layers = 0;
  std::function<void(Status)> done;
};

/// Counts what a device has answered, so that one that is busy can be told from one that hangs; empty: nobody asks.
using TierProgress = std::shared_ptr<std::atomic<int64_t>>;
inline void Tick(const TierProgress& progress) {
  if (progress) progress->fetch_add(1, std::memory_order_relaxed);
}

enum class IoPriority : uint8_t { kDemand = 0, kPrefetch = 1, kBackground = 2 };

class Tier {
 public:
  virtual ~Tier() = default;
  virtual std::string_view name() const = 0;  // "ssd"

  /// Writes a block. `done` gets its handle, or why not: kResource (full: evict first, or the queue is), kIo.
  /// The block's counted rows must not change until then. A block of the same key that is stored already is replaced:
  /// its handle is valid until `done` is called.
  virtual void Put(const BlockMeta& meta, KvBlockRef block, std::function<void(Result<TierHandle>)> done) = 0;
  /// Reads; kNotFound when the handle is not valid any more. Requests of one call are issued together in the order given; demand reads overtake prefetches and those
  /// overtake write-backs.
  virtual void Get(std::vector<TierRead> reads, IoPriority priority) = 0;
  /// Forgets blocks: they are not read any more, and their room is free, at once; no I/O is waited for. A process that
  /// is killed soon after may find them again (they are still what they say). wipe: overwrites what was stored, and what
  /// blocks forgotten earlier have left, after waiting for reads under way; durable when this returns. Handles that are
  /// not valid any more are passed over. Errors: only of wiping.
  virtual Status Erase(std::span<const TierHandle> handles, bool wipe) = 0;
  /// Bytes that one block takes here.
  virtual int64_t stored_block_bytes() const = 0;
  /// Waits until every write accepted so far is on the device. Errors: the first write's that failed.
  virtual Status Flush() = 0;
  virtual TierStats stats() const = 0;
};

/// A block that a tier was found to hold when it was opened.
struct StoredBlock {
  BlockMeta meta;
  TierHandle handle = kNoHandle;
  int64_t written_at = 0;  // seconds since 1970
};

/// Makes the tier beneath memory and says what it holds already: `found` for each block, in the order of writing. pool:
/// whose blocks will be written and read (their memory may be registered; the pool outlives the tier).
using TierOpener = std::function<Result<std::unique_ptr<Tier>>(KvPool& pool,
                                                               const std::function<void(const StoredBlock&)>& found)>;

}  // namespace fathom
