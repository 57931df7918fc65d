// The logits after the last token of kept prompts: in memory, and on the SSD in a small tier of their own, so that a prompt
// that is asked again has its first token without a pass of the model, also after a restart. Internal to cache/.
//
// Logits are found by what they follow: the key of the prefix that ends there, and its last block's tokens, which are
// compared. They do not hang on that block's node: when a longer end of the same block replaces it they stay, and when a
// conversation is forgotten the cache says which ones go (Erase). The least recently used go when there is no room: a
// tenant's own when it is at its share, anybody's when the store is full.
//
// Thread-safe; no call but Erase, Flush, Verify and the destructor waits for a device. What fails (full, unreadable, does
// not verify) is a miss.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cache/kv_cache.h"
#include "cache/ssd_tier.h"

namespace fathom {

class LogitsStore {
 public:
  struct Share {  // of one tenant; -1: no limit, 0: nothing
    int64_t memory_bytes = -1, disk_bytes = -1;
  };
  struct Options {
    int64_t memory_bytes = 0;  // of logits in memory; the latest stay in any case
    std::string directory;     // empty: memory only
    int64_t capacity_bytes = 0, segment_bytes = int64_t{64} << 20;
    int64_t values = 0;        // of one set on disk; others stay in memory
    bool direct_io = true;
    std::string key_file;
    KvClock clock;             // never empty
    TierProgress progress;
    /// By the tenant's root; called by Open and Keep, on their thread. What is not 0 holds one set at least. Empty: no limits.
    std::function<Share(const BlockKey& root)> share;
  };

  /// io: may be nullptr without a directory; outlives the store. Errors: see SsdTier::Open.
  static Result<std::unique_ptr<LogitsStore>> Open(Env& env, AsyncIo* io, const KvSpace& space, const Options& options);
  /// How sets of `values` logits are laid out on disk: one layer of 64 rows.
  static KvLayout Layout(int64_t values);
  /// What one set takes there.
  static int64_t StoredBytes(int64_t values);
  ~LogitsStore();

  /// Whether Keep(.., true) of these would write: they can be on disk and are not.
  bool WouldWrite(const BlockKey& key, size_t values) const;
  int64_t stored_bytes() const { return stored_bytes_; }
  /// end: the block that ends with the token before the logits; tokens after it do not count.
  void Keep(const BlockMeta& end, std::span<const float> logits, bool to_disk);
  /// Whether Find of these would find some.
  bool Knows(const BlockMeta& end) const;
  struct Found {
    std::vector<float> now;          // from memory
    std::shared_ptr<KvLogits> soon;  // from the device; nullptr: not known, or `now`
  };
  Found Find(const BlockKey& key, std::span<const int32_t> tokens);

  /// Forgets those of which `doomed` (called with the mutex held) says so, in memory and on disk. wipe: overwritten, and
  /// durable on return.
  Status Erase(const std::function<bool(const BlockMeta& end)>& doomed, bool wipe);
  /// Reads all that is on disk and drops what does not verify. Returns (read, dropped).
  Result<std::pair<int64_t, int64_t>> Verify();
  Status Flush();
  TierStats stats() const;  // zeros without a directory
  int64_t corrupt() const;  // dropped because they did not verify

 private:
  using Order = std::list<BlockKey>;  // the least recently used first
  struct Account {                    // one tenant's
    int64_t most_memory = INT64_MAX, most_on_disk = INT64_MAX;  // bytes; sets
    int64_t memory_bytes = 0, writes = 0;
    Order memory_order, disk_order;
  };
  struct Record {
    BlockMeta end;
    Account* account = nullptr;
    std::vector<float> memory;  // empty: not in memory
    TierHandle disk = kNoHandle;
    uint64_t writing = 0;  // ticket of the write under way
    Order::iterator in_memory, on_disk, own_in_memory, own_on_disk;  // in the store's orders, and in the account's
  };
  using Records = std::unordered_map<BlockKey, Record>;
  struct Loading;

  LogitsStore() = default;
  static BlockMeta Padded(const BlockMeta& end);
  static std::optional<BlockMeta> Unpadded(BlockMeta meta);
  // These REQUIRE mutex_ held.
  Account& AccountOf(const BlockKey& root);
  Record& RecordOf(const BlockMeta& end);  // made where it is missing
  void SetMemory(Record& record, std::vector<float> values);
  void DropMemory(Record& record);
  void SetDisk(Record& record, TierHandle handle);
  TierHandle DropDisk(Record& record);
  void Prune(const BlockKey& key);  // a record of nothing
  bool MakeRoom(Account& account);  // on disk, for one of its
  void Write(Record& record, std::span<const float> values);
  void Written(const BlockKey& key, uint64_t ticket, Account& account, Result<TierHandle> handle);
  void Corrupt(const BlockKey& key, TierHandle handle);

  int64_t memory_limit_ = 0, values_ = 0, stored_bytes_ = 0;
  KvClock clock_;
  std::function<Share(const BlockKey& root)> share_;
  std::unique_ptr<KvPool> pool_;  // memory for I/O
  mutable std::mutex mutex_;
  std::condition_variable written_;
  std::unordered_map<BlockKey, Account> accounts_;  // by root; they stay
  Records records_;
  Order memory_order_, disk_order_;  // of all tenants together
  int64_t memory_bytes_ = 0, most_on_disk_ = 0, corrupt_ = 0;
  uint64_t next_ticket_ = 1;
  int writes_ = 0;
  std::vector<TierHandle> forgotten_;  // written after they had been erased
  std::unique_ptr<SsdTier> tier_;      // last: its end answers what is under way
};

}  // namespace fathom
