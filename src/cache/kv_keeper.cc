// The cache manager's second thread: writes kept blocks back, makes room on the device, drops what has expired. And what
// is read when the cache opens.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/start_thread.h"
#include "cache/kv_cache_impl.h"
#include "cache/segment_folder.h"
#include "cache/segment_format.h"
#include "cache/ssd_tier.h"
#include "io/file_writer.h"

namespace fathom {
namespace {

using std::chrono::seconds;

constexpr auto kRound = seconds(10);  // between looks at what has expired
constexpr size_t kEvictTogether = 16;  // blocks; an erase costs a sync, so several share it,
constexpr size_t kEvictPart = 8;       // but no more than an eighth of what there is

// Logits are not worth a share of the disk that does not hold this many.
constexpr int64_t kLeastLogits = 16;
// Of logits in memory, beside the pool.
constexpr int64_t kMostLogitsMemory = int64_t{256} << 20, kLeastLogitsMemory = int64_t{4} << 20;

constexpr auto kUsesRound = seconds(300);  // between two files of what was used when

std::string UsesPath(const std::string& directory, const KvSpace& space) {
  return JoinPath(directory, "uses-" + ToHex(space.Digest()) + ".bin");
}

std::string BudgetPath(const std::string& directory) { return JoinPath(directory, "write-budget.json"); }

}  // namespace

Result<std::unique_ptr<Tier>> KvCacheImpl::OpenSsd(int64_t capacity_bytes,
                                                   const std::function<void(const StoredBlock&)>& found) {
  AsyncIoOptions io_options;
  io_options.allow_io_uring = options_.io_uring;
  FATHOM_TRY(io_, AsyncIo::Create(io_options));
  SsdTierOptions options;
  options.directory = options_.directory;
  options.capacity_bytes = capacity_bytes;
  options.direct_io = options_.direct_io;
  options.key_file = options_.key_file;
  options.progress = progress_;
  FATHOM_TRY(auto tier, SsdTier::Open(env_, *io_, space_, options, found));
  const std::lock_guard lock(pool_gone_mutex_);
  if (!pool_gone_ && options_.register_memory)
    pool_.OnSlab([this](std::span<std::byte> slab) { io_->Register(slab); });
  return tier;
}

Status KvCacheImpl::Open() {
  if (!options_.tier && options_.directory.empty()) return OpenLogits(0);
  int64_t logits_bytes = options_.tier ? 0 : options_.disk_bytes / CacheOptions::kLogitsShare;
  if (options_.logits_values <= 0 ||
      logits_bytes < kSegmentPage + kLeastLogits * LogitsStore::StoredBytes(options_.logits_values)) {
    logits_bytes = 0;
  }
  std::vector<StoredBlock> stored;
  const auto found = [&](const StoredBlock& block) { stored.push_back(block); };
  FATHOM_TRY(disk_, options_.tier ? options_.tier(pool_, found) : OpenSsd(options_.disk_bytes - logits_bytes, found));
  const std::set<TierHandle> corrupt = SampleDisk(stored);
  stats_.corrupt += static_cast<int64_t>(corrupt.size());
  BlockUses uses;
  if (!options_.directory.empty()) {
    if (auto read = ReadBlockUses(env_, UsesPath(options_.directory, space_))) {
      uses = std::move(*read);
    } else {
      spdlog::warn("KV cache: {}", read.error().message);
    }
  }
  std::unique_lock lock(mutex_);
  std::erase_if(stored, [&](const StoredBlock& block) { return corrupt.contains(block.handle); });
  orphans_.assign(corrupt.begin(), corrupt.end());
  TakeIn(std::move(stored), uses);
  FATHOM_CHECK_OK(OpenLogits(logits_bytes));
  if (!options_.directory.empty()) {
    FATHOM_CHECK_OK(LoadPins());
    if (auto text = ReadWholeFile(env_, BudgetPath(options_.directory), 4096)) {
      const auto json = nlohmann::json::parse(*text, nullptr, false);
      if (json.is_object() && json.contains("day") && json["day"].is_number_integer() && json.contains("written") &&
          json["written"].is_number_integer()) {
        budget_ = WriteBudget(options_.daily_write_bytes, {.day = json["day"], .written = json["written"]});
      }
    }
  }
  FATHOM_TRY(keeper_, StartThread<std::jthread>([this](std::stop_token stop) { KeeperLoop(stop); }));
  return {};
}

void KvCacheImpl::TakeIn(std::vector<StoredBlock> stored, const BlockUses& uses) {
  const double now = Now();
  // Parents before children; within one depth the newer copy of a block last, which then replaces the older.
  std::stable_sort(stored.begin(), stored.end(), [](const StoredBlock& a, const StoredBlock& b) {
    return a.meta.first_position < b.meta.first_position;
  });
  for (const StoredBlock& block : stored) {
    Tick(progress_);  // a million of them take a while
    const BlockMeta& meta = block.meta;
    Node* parent = meta.first_position == 0 ? nullptr : index_.FindKey(meta.parent);
    const bool attached = meta.first_position == 0 ? meta.parent == meta.root
                                                   : parent != nullptr && parent->meta.root == meta.root &&
                                                         parent->meta.count == KvLayout::kBlockTokens;
    if (!attached || ChainKey(meta.parent, meta.token_span()) != meta.key) {
      orphans_.push_back(block.handle);  // what it continues is gone, so nothing can reach it
      continue;
    }
    Entry* const place = EntryAt(parent, TenantOfRoot(meta.root), meta.token_span());
    if (place == nullptr) {
      orphans_.push_back(block.handle);
      continue;
    }
    Entry& entry = *place;
    if (entry.disk != kNoHandle) orphans_.push_back(DropDisk(entry));
    entry.created = entry.last_used = static_cast<double>(block.written_at);
    if (const auto use = uses.find(meta.key); use != uses.end()) {
      entry.last_used = std::max(entry.last_used, std::min(now, use->second.last_used));
      entry.touches = use->second.hits;
    }
    SetDisk(entry, block.handle);
  }
}

Status KvCacheImpl::OpenLogits(int64_t capacity) {
  LogitsStore::Options options;
  const int64_t memory = pool_limit_ == 0 ? kMostLogitsMemory : pool_limit_ / CacheOptions::kLogitsShare;
  options.memory_bytes = std::clamp(memory, kLeastLogitsMemory, kMostLogitsMemory);
  options.clock = options_.clock;
  options.progress = progress_;
  options.share = [this](const BlockKey& root) {  // by Open and KeepLogits, which hold the mutex where there are tenants
    const TenantLimits& limits = TenantOfRoot(root).limits;
    const auto part = [](int64_t bytes) { return bytes <= 0 ? bytes : std::max<int64_t>(1, bytes / CacheOptions::kLogitsShare); };
    return LogitsStore::Share{.memory_bytes = part(limits.memory_bytes), .disk_bytes = part(limits.disk_bytes)};
  };
  const std::string directory = options_.directory.empty() ? "" : JoinPath(options_.directory, "logits");
  if (capacity > 0) {
    options.directory = directory;
    options.capacity_bytes = capacity;
    options.values = options_.logits_values;
    options.direct_io = options_.direct_io;
    options.key_file = options_.key_file;
  } else if (!directory.empty() && env_.IsDirectory(directory)) {
    // Of a time with more room: they would count beyond the capacity, and nobody could be told to forget them.
    FATHOM_CHECK_OK(SegmentFolder::RemoveAll(env_, directory));
  }
  FATHOM_TRY(logits_, LogitsStore::Open(env_, io_.get(), space_, options));
  return logits_->Erase([this](const BlockMeta& end) { return !HasBlock(end); }, false);
}

bool KvCacheImpl::HasBlock(const BlockMeta& end) const {
  if (end.first_position == 0) {
    if (end.parent != end.root) return false;
    return index_.Find(end.root, end.token_span()).tokens == end.count;
  }
  const Node* parent = index_.FindKey(end.parent);
  if (parent == nullptr || parent->meta.root != end.root) return false;
  const auto child = parent->children.lower_bound(end.token_span());
  return child != parent->children.end() && child->second->meta.count >= end.count &&
         std::equal(end.token_span().begin(), end.token_span().end(), child->second->meta.tokens.begin());
}

std::set<TierHandle> KvCacheImpl::SampleDisk(std::span<const StoredBlock> stored) {
  constexpr int64_t kBytes = int64_t{16} << 20;
  constexpr int64_t kLeastBytes = int64_t{4} << 20;  // stored altogether
  constexpr auto kPatience = std::chrono::milliseconds(500);
  struct Answers {  // outlives this call where the device does not answer
    std::mutex mutex;
    std::condition_variable changed;
    int left = 0;
    std::set<TierHandle> corrupt;
  };
  if (std::ssize(stored) * space_.layout.block_bytes() < kLeastBytes) return {};
  auto answers = std::make_shared<Answers>();
  std::vector<TierRead> reads;
  // The latest: what is most likely to be asked for is checked first of all, too.
  for (auto block = stored.rbegin(); block != stored.rend(); ++block) {
    if (static_cast<int64_t>(reads.size()) * space_.layout.block_bytes() >= kBytes) break;
    const std::lock_guard lock(pool_gone_mutex_);
    if (pool_gone_) break;
    auto memory = pool_.Take();
    if (!memory) break;
    reads.push_back({.handle = block->handle, .meta = block->meta, .into = std::move(*memory),
                     .layers = space_.layout.layers,
                     .done = [answers, handle = block->handle](const Status& status) {
                       const std::lock_guard lock(answers->mutex);
                       if (!status && status.error().code == ErrorCode::kCorrupt) answers->corrupt.insert(handle);
                       --answers->left;
                       answers->changed.notify_all();
                     }});
  }
  if (reads.empty()) return {};
  answers->left = static_cast<int>(reads.size());
  disk_->Get(std::move(reads), IoPriority::kDemand);
  std::unique_lock lock(answers->mutex);
  // A device that does not answer is a request's to find out.
  if (WaitUntil(answers->changed, lock, options_.clock, options_.clock() + kPatience, [&] { return answers->left == 0; }))
    last_read_ = Now();
  return answers->corrupt;
}

void KvCacheImpl::KeeperLoop(std::stop_token stop) {
  std::unique_lock lock(mutex_);
  auto next_round = std::chrono::steady_clock::now() + kRound;
  auto next_uses = std::chrono::steady_clock::now() + kUsesRound;
  const auto save_uses = [&] {
    if (const Status status = SaveUses(lock); !status) spdlog::warn("KV cache: {}", status.error().message);
  };
  while (!stop.stop_requested()) {
    keeper_wakes_.wait_for(lock, kRound, [&] {
      return stop.stop_requested() || !orphans_.empty() || (!queue_.empty() && writes_in_flight_ < most_writes_);
    });
    if (!orphans_.empty()) EraseOnDisk(lock, std::exchange(orphans_, {}), false);
    WriteQueued(lock);
    if (std::chrono::steady_clock::now() < next_round) continue;
    DropExpired(lock);
    SaveBudget(lock);
    if (uses_changed_ && std::chrono::steady_clock::now() >= next_uses) {
      save_uses();
      next_uses = std::chrono::steady_clock::now() + kUsesRound;
    }
    next_round = std::chrono::steady_clock::now() + kRound;
  }
  SaveBudget(lock);
  if (uses_changed_) save_uses();
}

void KvCacheImpl::WriteQueued(std::unique_lock<std::mutex>& lock) {
  while (!queue_.empty() && writes_in_flight_ < most_writes_) {
    const uint64_t id = queue_.front();
    queue_.pop_front();
    const auto find = [&]() -> Entry* {
      const auto found = entries_.find(id);
      return found == entries_.end() ? nullptr : found->second.get();
    };
    Entry* entry = find();
    if (entry == nullptr) continue;
    const int64_t bytes = disk_->stored_block_bytes();
    if (!entry->memory || entry->disk != kNoHandle) {
      entry->writing = false;
      continue;
    }
    if (!budget_.Admit(bytes, entry->touches + 1, Now())) {
      entry->writing = false;
      ++stats_.not_admitted;
      continue;
    }
    ++writes_in_flight_;  // from here on Flush() waits for it
    Tenant& tenant = *entry->tenant;
    ++tenant.writes_in_flight;
    ++entry->busy;
    const bool room = MakeRoomOnDisk(lock, tenant);
    --entry->busy;
    if (!room || !entry->memory) {
      --writes_in_flight_;
      --tenant.writes_in_flight;
      entry->writing = false;
      stats_.not_admitted += room ? 0 : 1;
      if (entry->busy == 0) Prune(entry->node);
      continue;
    }
    const BlockMeta meta = entry->node->meta;
    const KvBlockRef block = entry->memory;
    lock.unlock();
    disk_->Put(meta, block, [this, id, &tenant](Result<TierHandle> handle) {
      Tick(progress_);
      std::lock_guard guard(mutex_);
      --writes_in_flight_;
      --tenant.writes_in_flight;
      writes_stuck_ = false;
      const auto found = entries_.find(id);
      if (found == entries_.end()) {
        if (handle) orphans_.push_back(*handle);  // forgotten while it was written
      } else {
        found->second->writing = false;
        // One that stood there already was replaced (the same key): its handle is not valid any more.
        if (handle && found->second->disk != kNoHandle) DropDisk(*found->second);
        if (handle) SetDisk(*found->second, *handle);
      }
      if (!handle) {
        budget_.Refund(disk_->stored_block_bytes());
        // Full before it should be (files have headers, the file system its own needs): make room and try once more.
        if (handle.error().code == ErrorCode::kResource && found != entries_.end() && !found->second->retried) {
          ++disk_short_;
          found->second->retried = found->second->writing = true;
          queue_.push_front(id);
        } else {
          ++stats_.not_admitted;
          spdlog::debug("KV cache: a block was not written: {}", handle.error().message);
        }
      }
      EnforceTenantMemory(tenant);  // it may leave memory now
      keeper_wakes_.notify_all();
      writes_done_.notify_all();
    });
    lock.lock();
  }
  writes_done_.notify_all();
}

// For one more block, which is counted among the writes in flight already.
bool KvCacheImpl::MakeRoomOnDisk(std::unique_lock<std::mutex>& lock, Tenant& tenant) {
  const int64_t bytes = disk_->stored_block_bytes();
  const auto evict = [&](EvictionPolicy& policy) {
    std::vector<TierHandle> erased;
    const size_t together = std::clamp<size_t>(policy.size() / kEvictPart, 1, kEvictTogether);
    while (erased.size() < together) {
      const auto victim = policy.Victim([&](CacheEntryId id) {
        const Entry& entry = *entries_.at(id);
        return !entry.pinned && entry.busy == 0 && !entry.load;
      });
      if (!victim) break;
      Entry& entry = *entries_.at(*victim);
      erased.push_back(DropDisk(entry));
      ++stats_.evicted_disk;
      Prune(entry.node);
    }
    const auto count = static_cast<int64_t>(erased.size());
    EraseOnDisk(lock, std::move(erased), false);
    return count;
  };
  // Where everything that could go is itself still being written, the next of those is waited for.
  const auto evict_or_wait = [&](EvictionPolicy& policy, const int64_t& writes) -> std::optional<int64_t> {
    if (const int64_t count = evict(policy); count > 0) return count;
    if (const int64_t before = writes; before > 1) {
      writes_done_.wait(lock, [&] { return writes < before; });
      return 0;
    }
    return std::nullopt;
  };
  while (tenant.disk_policy && tenant.disk_bytes + tenant.writes_in_flight * bytes > tenant.limits.disk_bytes)
    if (!evict_or_wait(*tenant.disk_policy, tenant.writes_in_flight)) return false;
  while (disk_short_ > 0) {
    const auto count = evict_or_wait(*disk_policy_, writes_in_flight_);
    if (!count) disk_short_ = 0;
    if (!count) return false;
    disk_short_ = std::max<int64_t>(0, disk_short_ - *count);
  }
  for (;;) {
    const TierStats disk = disk_->stats();
    if (disk.used_bytes + writes_in_flight_ * bytes <= disk.capacity_bytes) return true;
    if (!evict_or_wait(*disk_policy_, writes_in_flight_)) return false;
  }
}

void KvCacheImpl::EraseOnDisk(std::unique_lock<std::mutex>& lock, std::vector<TierHandle> handles, bool wipe) {
  if (handles.empty()) return;
  ++erases_under_way_;
  lock.unlock();
  const Status status = disk_->Erase(handles, wipe);
  lock.lock();
  --erases_under_way_;
  writes_done_.notify_all();
  if (!status) spdlog::warn("KV cache: {}", status.error().message);
}

int64_t KvCacheImpl::DropExpired(std::unique_lock<std::mutex>& lock) {
  const double now = Now();
  std::vector<Entry*> expired;
  // Children before parents, so that whole ends of prefixes go.
  index_.ForEach([&](Node& node) {
    Entry& entry = Of(node);
    if (entry.known() && entry.busy == 0 && !entry.load && !entry.writing && Expired(entry, now)) expired.push_back(&entry);
  });
  std::vector<TierHandle> erased;
  std::vector<BlockMeta> gone;
  int64_t dropped = 0;
  for (auto entry = expired.rbegin(); entry != expired.rend(); ++entry) {
    if (!(*entry)->node->children.empty()) continue;  // somebody has used what continues it
    gone.push_back((*entry)->node->meta);
    Drop(**entry, erased);
    ++dropped;
  }
  stats_.expired += dropped;
  EraseOnDisk(lock, std::move(erased), true);
  if (gone.empty()) return dropped;
  lock.unlock();
  if (const Status status = EraseLogits(gone); !status) spdlog::warn("KV cache: {}", status.error().message);
  lock.lock();
  return dropped;
}

Status KvCacheImpl::SaveUses(std::unique_lock<std::mutex>& lock) {
  if (options_.directory.empty()) return {};
  BlockUses uses;
  for (const auto& [id, entry] : entries_) {
    // Of the others the slot says enough.
    if (entry->disk == kNoHandle || (entry->touches == 0 && entry->last_used < entry->created + 1)) continue;
    uses[entry->node->meta.key] = {entry->last_used, entry->touches};
  }
  uses_changed_ = false;
  lock.unlock();
  const Status status = WriteBlockUses(env_, UsesPath(options_.directory, space_), uses);
  lock.lock();
  return status;
}

void KvCacheImpl::SaveBudget(std::unique_lock<std::mutex>& lock) {
  if (options_.daily_write_bytes == 0 || options_.directory.empty()) return;
  const auto state = budget_.state();
  lock.unlock();
  const nlohmann::json json = {{"day", state.day}, {"written", state.written}};
  const Status status = WriteWholeFile(env_, BudgetPath(options_.directory), json.dump(), FileAccess::kPrivate);
  if (!status) spdlog::warn("KV cache: {}", status.error().message);
  lock.lock();
}

Status KvCacheImpl::Flush() {
  if (!disk_) return {};
  {
    std::unique_lock lock(mutex_);
    keeper_wakes_.notify_all();
    writes_done_.wait(lock, [&] { return queue_.empty() && writes_in_flight_ == 0; });
  }
  const Status logits = logits_->Flush();
  const Status blocks = disk_->Flush();
  return blocks ? logits : blocks;
}

}  // namespace fathom
