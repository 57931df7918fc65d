// The cache manager for KV blocks: which prefixes are known, where their rows are, and moving them between memory and
// slower tiers.
//
//   auto prefix = cache->Acquire(tenant, prompt, most);      // longest known prefix, token exact; loads have begun
//   sequence.Adopt(prefix.blocks, prefix.tokens);
//   ... before layer l of a pass that reads those rows: prefix.load->WaitLayer(l)
//   cache->Keep(tenant, tokens so far, sequence.blocks());   // whenever a block has filled, and once at the end
//
// Everything kept is findable at once (memory) and written back in the background (bounded queue), so that it survives
// the process. A block that does not verify when it is read is forgotten, and the request computes its rows: a miss,
// never an answer.
//
// Thread-safe. Lookups and keeps take microseconds a block and never wait for a device.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cache/block_key.h"
#include "cache/eviction.h"
#include "cache/kv_store.h"
#include "cache/tier.h"

namespace fathom {

class Env;

/// What one tenant may take. A tenant at a limit drives out blocks of its own and nobody else's.
struct TenantLimits {
  static constexpr int64_t kNone = -1;  // no limit beside the tier's own size
  int64_t memory_bytes = kNone;  // what is being written to the device may stand above it until it is there
  int64_t disk_bytes = kNone;    // 0: nothing of it goes to the device
  int64_t pinned_bytes = kNone;  // of them, that Pin() may keep from going
  int64_t ttl_seconds = 0;       // 0: for ever; counted from the last use; what is pinned stays
};

/// Says what time it is.
using KvClock = std::function<std::chrono::steady_clock::time_point()>;

struct CacheOptions {
  bool enabled = true;
  int64_t memory_bytes = 0;       // of KV blocks in memory, running sequences included; 0: no limit
  std::string directory;          // of the SSD tier; empty: memory only
  int64_t disk_bytes = 0;         // REQUIRES: > 0 with a directory
  EvictionKind eviction = EvictionKind::kSavedTime;
  int64_t daily_write_bytes = 0;  // to the SSD; 0: no budget
  std::string key_file;           // 32 bytes or 64 hex digits: blocks on disk are encrypted
  bool io_uring = true, direct_io = true;
  bool register_memory = true;  // blocks with io_uring; false where their memory may go back to the system meanwhile
  /// Values of one set of logits (the vocabulary's size). Kept prompts' last logits then live on disk too, in a share of
  /// disk_bytes; 0: in memory only, and what is there on disk is removed.
  int64_t logits_values = 0;
  static constexpr int64_t kLogitsShare = 32;  // one part in so many of disk_bytes
  /// disk_bytes that have room for so many bytes of blocks and of logits.
  static int64_t DiskBytesFor(int64_t blocks, int64_t logits) {
    return blocks + blocks / (kLogitsShare - 1) + logits * kLogitsShare + kLogitsShare;
  }
  /// The tier beneath memory, instead of an SSD's in `directory`: a remote store, a test's. disk_bytes and limits of the disk
  /// are then its own. Without a directory, pins, the day's count of writes and times of use last as long as the process.
  TierOpener tier;
  /// For which opening, Forget, ForgetTenant, Verify, CollectGarbage, Flush and the end of the cache wait for a device that
  /// does nothing; those that fail say so (kIo), and fail at once until it answers again.
  double hang_seconds = 10;
  KvClock clock;  // by which requests' patience with a device is measured; empty: steady_clock
  TenantLimits default_limits;                        // of each tenant that is not named below
  std::map<std::string, TenantLimits> tenant_limits;  // by name
};

struct CacheStats {
  int64_t lookups = 0, lookup_tokens = 0, hit_tokens = 0;  // over all lookups
  int64_t memory_hit_tokens = 0, disk_hit_tokens = 0;
  int64_t memory_blocks = 0, memory_bytes = 0, memory_limit = 0;  // known blocks in memory; of them
  int64_t evicted_memory = 0, evicted_disk = 0, expired = 0, corrupt = 0, not_admitted = 0;
  int64_t pinned_blocks = 0;
  int64_t written_today = 0, daily_write_bytes = 0;
  double load_wait_seconds = 0;  // that requests spent waiting for rows
  TierStats disk;
  TierStats logits;  // on disk; their share is not in `disk`
};

/// Rates that the running engine measures, for load-or-recompute.
struct ComputeRates {
  double seconds_per_token = 0;           // of prefill, at an empty context; 0: not known yet
  double seconds_per_token_position = 0;  // more for every token that stands before
  /// Seconds to compute tokens [begin, end).
  double Seconds(int64_t begin, int64_t end) const {
    const auto count = static_cast<double>(end - begin);
    return count * (seconds_per_token + seconds_per_token_position * static_cast<double>(begin + end) / 2);
  }
};

/// Rows on their way from a slower tier.
class KvLoad {
 public:
  virtual ~KvLoad() = default;
  /// Waits until layer `layer` of every block is there. False: something did not come (did not verify, failed, or took
  /// longer than recomputing would): the rows from valid_tokens() on must be computed, into blocks of one's own.
  virtual bool WaitLayer(int64_t layer) = 0;
  virtual bool Done() const = 0;  // everything is there or has failed
  virtual int64_t valid_tokens() const = 0;
};

/// Logits on their way from a slower tier.
class KvLogits {
 public:
  virtual ~KvLogits() = default;
  enum class State { kWaiting, kThere, kFailed };
  /// Never waits. kFailed also when they took so long that computing them is sooner.
  virtual State state() const = 0;
  /// Once, when they are there.
  virtual std::vector<float> Take() = 0;
};

struct KvPrefix {
  int64_t tokens = 0;  // usable
  int64_t memory_tokens = 0, disk_tokens = 0;
  std::vector<KvBlockRef> blocks;
  std::shared_ptr<KvLoad> load;  // nullptr: all rows are there
  std::string reason;            // in words, for `cache explain` and usage
  // The logits after the last of all tokens asked for, where they were kept and all tokens match: in memory, or coming.
  std::vector<float> last_logits;
  std::shared_ptr<KvLogits> logits;
};

struct CacheEntryInfo {
  BlockKey key, root;
  int32_t first_position = 0, count = 0;
  bool in_memory = false, on_disk = false, pinned = false;
  double age_seconds = 0, idle_seconds = 0;
  int64_t hits = 0;
};

/// Where the last Keep of a sequence ended, so that the next one need not walk there again. One sequence's, whose tokens
/// only grow; made anew when rows are cut or computed again.
struct KeepCursor {
  int64_t blocks = 0;  // whole ones that were kept
  BlockKey last;       // of the last of them
};

class KvCache {
 public:
  /// pool: where blocks in memory come from; the cache becomes its reclaimer, and the pool outlives it. Errors: kInvalidArgument,
  /// kIo (also when the device does nothing for hang_seconds: env must then live on), kResource; a folder in use by another
  /// process says so.
  static Result<std::unique_ptr<KvCache>> Create(Env& env, const KvSpace& space, KvPool& pool,
                                                 const CacheOptions& options);
  /// Flushes; see there.
  virtual ~KvCache() = default;

  /// The longest known prefix of `tokens`, at most `most` tokens of it, and begins loading what is not in memory, where
  /// loading is sooner than computing.
  virtual KvPrefix Acquire(std::string_view tenant, std::span<const int32_t> tokens, int64_t most) = 0;
  /// As Acquire without consequences: what would be found.
  virtual KvPrefix Explain(std::string_view tenant, std::span<const int32_t> tokens) const = 0;
  /// Begins to bring what a waiting request will need into memory.
  virtual void Prefetch(std::string_view tenant, std::span<const int32_t> tokens) = 0;
  /// Makes blocks known: blocks[i] holds the rows of tokens [64 i, 64 i + 64). Those known already are skipped. A last block
  /// that is not full is kept when `tail`. cursor (nullptr: none) saves the walk over blocks that an earlier call has kept,
  /// and is moved on: what has happened to those since (evicted, expired) is then not seen to. One that does not fit, because
  /// its block was forgotten or holds other tokens, counts for nothing.
  virtual void Keep(std::string_view tenant, std::span<const int32_t> tokens, std::span<const KvBlockRef> blocks,
                    bool tail, KeepCursor* cursor) = 0;
  /// The logits after the last of `tokens`, whose rows are known. Later prompts that are just these tokens find them,
  /// also where longer ones have been kept since.
  virtual void KeepLogits(std::string_view tenant, std::span<const int32_t> tokens, std::span<const float> logits) = 0;
  virtual void SetRates(const ComputeRates& rates) = 0;

  /// Keeps a prefix from being evicted, or lets it go again. Returns how many blocks that concerns. Errors: kResource, when
  /// the tenant may not pin so much; nothing is changed then.
  virtual Result<int64_t> Pin(std::string_view tenant, std::span<const int32_t> tokens, bool pinned) = 0;
  /// Erases, in memory and on disk and overwritten there, what only this conversation holds: its blocks that no other
  /// kept sequence shares, from the end on. everything: also shared ones and all that continues them. Returns the blocks
  /// erased. Durable when this returns. kIo: some of it may still stand on the device, and may be found at the next opening.
  virtual Result<int64_t> Forget(std::string_view tenant, std::span<const int32_t> tokens, bool everything) = 0;
  virtual Result<int64_t> ForgetTenant(std::string_view tenant) = 0;
  /// Reads every block on disk, and the logits, and drops what does not verify. Returns (read, dropped).
  virtual Result<std::pair<int64_t, int64_t>> Verify(const std::function<bool(int64_t done, int64_t total)>& progress) = 0;
  /// Drops what is expired or beyond limits now. Returns the blocks dropped.
  virtual Result<int64_t> CollectGarbage() = 0;
  virtual std::vector<CacheEntryInfo> List() const = 0;
  /// Waits until what was kept is on the device. kIo: not all of it came there; also when the device has done nothing
  /// for CacheOptions::hang_seconds. A cache whose device hangs ends all the same: it leaves what the device holds.
  virtual Status Flush() = 0;
  virtual CacheStats stats() const = 0;
  /// Invariants of index, memory and accounts; for tests and idle moments.
  virtual Status Check() const = 0;
};

}  // namespace fathom
