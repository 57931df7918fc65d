// The cache manager's own state. Internal to cache/; see kv_cache.h for the contract.
//
// One mutex guards index, entries and policies; it is never held while a device works or while the pool is asked for
// memory (the pool may ask the cache to give some up). A second thread, the keeper, writes kept blocks back, makes room
// on the device, and drops what has expired.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <unordered_map>
#include <vector>

#include "cache/admission.h"
#include "cache/kv_cache.h"
#include "cache/kv_load.h"
#include "cache/load_plan.h"
#include "cache/logits_store.h"
#include "cache/prefix_index.h"
#include "cache/tier.h"
#include "cache/use_times.h"
#include "io/async_io.h"
#include "io/env.h"

namespace fathom {

class KvCacheImpl final : public KvCache {
 public:
  KvCacheImpl(Env& env, const KvSpace& space, KvPool& pool, const CacheOptions& options);
  ~KvCacheImpl() override;
  /// Uses the pool no more.
  void Detach();
  /// Counts what the device has answered; may outlive the cache.
  std::shared_ptr<const std::atomic<int64_t>> progress() const { return progress_; }
  /// Opens the tier beneath memory and takes in what stands there.
  Status Open();
  /// The SSD tier of options_.directory, with capacity_bytes.
  Result<std::unique_ptr<Tier>> OpenSsd(int64_t capacity_bytes, const std::function<void(const StoredBlock&)>& found);
  /// Takes in blocks that the tier has.
  void TakeIn(std::vector<StoredBlock> stored, const BlockUses& uses);
  /// Opens the logits' own; `capacity` 0: none on disk. REQUIRES: the index holds what is on disk.
  Status OpenLogits(int64_t capacity);

  KvPrefix Acquire(std::string_view tenant, std::span<const int32_t> tokens, int64_t most) override;
  KvPrefix Explain(std::string_view tenant, std::span<const int32_t> tokens) const override;
  void Prefetch(std::string_view tenant, std::span<const int32_t> tokens) override;
  void Keep(std::string_view tenant, std::span<const int32_t> tokens, std::span<const KvBlockRef> blocks,
            bool tail, KeepCursor* cursor) override;
  void KeepLogits(std::string_view tenant, std::span<const int32_t> tokens, std::span<const float> logits) override;
  void SetRates(const ComputeRates& rates) override;
  Result<int64_t> Pin(std::string_view tenant, std::span<const int32_t> tokens, bool pinned) override;
  Result<int64_t> Forget(std::string_view tenant, std::span<const int32_t> tokens, bool everything) override;
  Result<int64_t> ForgetTenant(std::string_view tenant) override;
  Result<std::pair<int64_t, int64_t>> Verify(
      const std::function<bool(int64_t done, int64_t total)>& progress) override;
  Result<int64_t> CollectGarbage() override;
  std::vector<CacheEntryInfo> List() const override;
  Status Flush() override;
  CacheStats stats() const override;
  Status Check() const override;

 private:
  using Node = PrefixIndex::Node;

  struct Tenant {
    BlockKey root;
    TenantLimits limits;
    int64_t memory_bytes = 0, disk_bytes = 0, pinned_blocks = 0, writes_in_flight = 0;
    // Who goes when the tenant is at its own limit; nullptr: it has none. Its blocks stand in the tier's policy as well: the
    // two ask different questions, and neither disturbs what the other knows.
    std::unique_ptr<EvictionPolicy> memory_policy, disk_policy;
  };

  /// What is known of a block beside its tokens; a node's payload. A node without memory, disk or load is hollow: it only
  /// holds its children's place.
  struct Entry {
    Node* node = nullptr;
    Tenant* tenant = nullptr;
    KvBlockRef memory;
    std::shared_ptr<BlockLoad> load;  // on its way into memory
    TierHandle disk = kNoHandle;
    bool writing = false;   // queued or under way to the device
    bool retried = false;   // the device was full when it was to be written
    bool pinned = false;
    int busy = 0;           // held by somebody between two holds of the mutex
    uint32_t touches = 0;   // hits
    double created = 0, last_used = 0;  // Now()

    bool known() const { return memory || load || disk != kNoHandle; }
  };

  // Seconds since 1970; with a clock that may be set, ages are only ever approximate, which is all that is asked of them.
  static double Now();
  static Entry& Of(const Node& node) { return *static_cast<Entry*>(node.payload); }
  Tenant& TenantOf(std::string_view name) { return TenantOfRoot(RootKey(space_, name)); }
  Tenant& TenantOfRoot(const BlockKey& root);
  Tenant& AddTenant(const BlockKey& root, const TenantLimits& limits);
  /// The entry of `tokens` under `parent`, made where it is missing; nullptr: it cannot be kept.
  Entry* EntryAt(Node* parent, Tenant& tenant, std::span<const int32_t> tokens);
  bool Expired(const Entry& entry, double now) const;
  CacheEntryCost Cost(const Entry& entry, double bytes_per_second) const;

  /// Where a Keep goes on; nullptr: it begins at the beginning. See KeepCursor.
  Node* Resume(const KeepCursor& cursor, const Tenant& tenant, std::span<const int32_t> tokens) const;
  void SetMemory(Entry& entry, KvBlockRef block);
  void DropMemory(Entry& entry);
  void SetDisk(Entry& entry, TierHandle handle);
  TierHandle DropDisk(Entry& entry);  // to be erased by the caller, without the mutex
  void SetPinned(Entry& entry, bool pinned);
  void Touch(Entry& entry, double now);
  /// Erases hollow leaves from `node` upwards.
  void Prune(Node* node);
  /// Forgets one block altogether; its slot on disk is added to `erased`.
  void Drop(Entry& entry, std::vector<TierHandle>& erased);
  void DropSuperseded(Node& node, std::vector<TierHandle>& erased);
  /// The block that ends with tokens[end - 1]. REQUIRES: a match of all of them whose last node is `last`.
  static BlockMeta EndOf(const Node& last, std::span<const int32_t> tokens);
  /// Whether rows of the block that ends so are known (some block continues it, or is it).
  bool HasBlock(const BlockMeta& end) const;
  /// Overwrites the logits after every beginning of these blocks.
  Status EraseLogits(std::span<const BlockMeta> gone);

  struct Plan;  // what Acquire and Prefetch decide under the mutex
  Plan MakePlan(std::string_view tenant, std::span<const int32_t> tokens, int64_t most) const;
  std::string Reason(const Plan& plan, std::span<const int32_t> tokens) const;
  /// Begins reading `nodes` (busy, on disk only), the first of them where there is not enough memory for all.
  void BeginLoads(std::span<Node* const> nodes, IoPriority priority);
  void LoadDone(uint64_t id, const std::shared_ptr<BlockLoad>& load);

  std::optional<CacheEntryId> MemoryVictim();
  bool ReclaimMemory();
  void EnforceTenantMemory(Tenant& tenant);
  bool HasShareOfDisk(const Tenant& tenant) const;  // room for at least a block
  void QueueWrite(Entry& entry);
  /// Reads a sample of what is stored, the latest blocks: the first request's plan then rests on a rate that was measured,
  /// and damage among what is most likely asked for is found before anybody asks. Waits half a second at most. Where so little
  /// is stored that loading all of it takes no time worth planning, nothing is read. Returns what does not verify.
  std::set<TierHandle> SampleDisk(std::span<const StoredBlock> stored);
  void KeeperLoop(std::stop_token stop);
  void WriteQueued(std::unique_lock<std::mutex>& lock);
  bool MakeRoomOnDisk(std::unique_lock<std::mutex>& lock, Tenant& tenant);  // false: there is none
  int64_t DropExpired(std::unique_lock<std::mutex>& lock);
  void EraseOnDisk(std::unique_lock<std::mutex>& lock, std::vector<TierHandle> handles, bool wipe);
  /// Drops nodes, by their ids (children before parents), and overwrites them on the device; durable when it returns.
  /// `more`: blocks whose logits go with them.
  Result<int64_t> Erase(std::unique_lock<std::mutex>& lock, std::span<const uint64_t> doomed,
                        std::vector<BlockMeta> more = {});
  void SaveBudget(std::unique_lock<std::mutex>& lock);
  /// For the next start: see use_times.h.
  Status SaveUses(std::unique_lock<std::mutex>& lock);
  Status LoadPins();
  Status SavePins(std::unique_lock<std::mutex>& lock);

  Env& env_;
  const KvSpace space_;
  KvPool& pool_;
  const int64_t pool_limit_;  // its most bytes
  std::mutex pool_gone_mutex_;
  bool pool_gone_ = false;    // an opening that nobody waits for any more may outlive the pool
  const int64_t most_writes_;  // under way at once
  const CacheOptions options_;
  const TierProgress progress_ = std::make_shared<std::atomic<int64_t>>(0);
  std::shared_ptr<LoadSync> sync_ = std::make_shared<LoadSync>();

  mutable std::mutex mutex_;
  PrefixIndex index_;
  std::unordered_map<uint64_t, std::unique_ptr<Entry>> entries_;  // by their nodes' ids
  std::unordered_map<BlockKey, std::unique_ptr<Tenant>> tenants_;
  std::unique_ptr<EvictionPolicy> memory_policy_, disk_policy_;
  WriteBudget budget_;
  ComputeRates rates_;
  std::atomic<int64_t> loading_bytes_ = 0;  // of blocks that loads have not been answered for
  double last_read_ = 0;  // when the disk's rate was last measured
  mutable CacheStats stats_;
  std::deque<uint64_t> queue_;   // entries to be written
  int64_t writes_in_flight_ = 0;
  int erases_under_way_ = 0;         // of the keeper's and the collector's
  int64_t disk_short_ = 0;           // blocks that the device refused for want of room, and that are tried again
  bool writes_stuck_ = false;        // none has ended for long
  std::vector<TierHandle> orphans_;  // slots that belong to no entry any more: the keeper erases them
  std::set<BlockKey> pinned_keys_;   // as they stand in the pins file
  bool uses_changed_ = false;        // since SaveUses
  std::condition_variable keeper_wakes_, writes_done_;

  std::unique_ptr<AsyncIo> io_;
  std::unique_ptr<Tier> disk_;  // beneath memory
  std::unique_ptr<LogitsStore> logits_;
  std::jthread keeper_;
};

}  // namespace fathom
