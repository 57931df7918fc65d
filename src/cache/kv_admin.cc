// What people do to the cache manager: look, pin, forget, verify.
#include <algorithm>
#include <cstring>
#include <future>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "cache/kv_cache_impl.h"
#include "io/file_writer.h"

namespace fathom {
namespace {

std::string PinsPath(const std::string& directory, const KvSpace& space) {
  return JoinPath(directory, "pins-" + ToHex(space.Digest()) + ".json");
}

}  // namespace

// --- Pins ------------------------------------------------------------------------------------------------------------

Result<int64_t> KvCacheImpl::Pin(std::string_view tenant_name, std::span<const int32_t> tokens, bool pinned) {
  std::unique_lock lock(mutex_);
  std::vector<Node*> nodes = index_.Find(RootKey(space_, tenant_name), tokens).nodes;
  // What cannot be reached need not stay.
  nodes.resize(static_cast<size_t>(
      std::find_if(nodes.begin(), nodes.end(), [](const Node* node) { return !Of(*node).known(); }) - nodes.begin()));
  const Tenant& tenant = TenantOf(tenant_name);
  const int64_t bytes = space_.layout.block_bytes();
  const int64_t fresh = std::count_if(nodes.begin(), nodes.end(), [](const Node* node) { return !Of(*node).pinned; });
  if (pinned && fresh > 0 && tenant.limits.pinned_bytes >= 0 &&
      (tenant.pinned_blocks + fresh) * bytes > tenant.limits.pinned_bytes) {
    return Fail(ErrorCode::kResource,
                "this prompt has {} bytes that are not pinned yet; {} are pinned already and {} are allowed\nUnpin something "
                "else first.",
                fresh * bytes, tenant.pinned_blocks * bytes, tenant.limits.pinned_bytes);
  }
  for (Node* node : nodes) {
    SetPinned(Of(*node), pinned);
    if (pinned) {
      pinned_keys_.insert(node->meta.key);
    } else {
      pinned_keys_.erase(node->meta.key);
    }
  }
  if (const Status status = SavePins(lock); !status) spdlog::warn("KV cache: {}", status.error().message);
  return static_cast<int64_t>(nodes.size());
}

Status KvCacheImpl::LoadPins() {
  const std::string path = PinsPath(options_.directory, space_);
  if (!env_.Exists(path)) return {};
  FATHOM_TRY(const std::string text, ReadWholeFile(env_, path, int64_t{64} << 20));
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_array()) return Fail(ErrorCode::kCorrupt, "{}: not a list of keys; remove it to unpin everything", path);
  std::set<std::string> wanted;
  for (const auto& key : json)
    if (key.is_string()) wanted.insert(key.get<std::string>());
  index_.ForEach([&](Node& node) {
    if (!wanted.contains(ToHex(node.meta.key))) return;
    SetPinned(Of(node), true);
    pinned_keys_.insert(node.meta.key);
  });
  return {};
}

Status KvCacheImpl::SavePins(std::unique_lock<std::mutex>& lock) {
  if (options_.directory.empty()) return {};
  nlohmann::json json = nlohmann::json::array();
  for (const BlockKey& key : pinned_keys_) json.push_back(ToHex(key));
  lock.unlock();
  const Status status = WriteWholeFile(env_, PinsPath(options_.directory, space_), json.dump(), FileAccess::kPrivate);
  lock.lock();
  return status;
}

// --- Forgetting --------------------------------------------------------------------------------------------------------

Result<int64_t> KvCacheImpl::Forget(std::string_view tenant, std::span<const int32_t> tokens, bool everything) {
  std::unique_lock lock(mutex_);
  const PrefixIndex::Match match = index_.Find(RootKey(space_, tenant), tokens);
  std::vector<Node*> path = match.nodes;
  std::vector<BlockMeta> ends;
  if (!path.empty() && match.tokens == static_cast<int64_t>(tokens.size())) ends.push_back(EndOf(*path.back(), tokens));
  // A last block that goes on with other tokens belongs to another conversation.
  if (!path.empty() && match.tokens < path.back()->meta.first_position + path.back()->meta.count &&
      match.tokens < static_cast<int64_t>(tokens.size()))
    path.pop_back();
  std::vector<uint64_t> doomed;
  if (!path.empty()) {
    // The conversation's end and all that continues it, then upwards what nobody else shares.
    size_t top = everything ? 0 : path.size() - 1;
    while (top > 0 && path[top - 1]->children.size() == 1) --top;
    std::vector<const Node*> waiting = {path[top]};
    while (!waiting.empty()) {
      const Node* node = waiting.back();
      waiting.pop_back();
      doomed.push_back(node->id);
      for (const auto& child : node->children) waiting.push_back(child.second.get());
    }
    std::reverse(doomed.begin(), doomed.end());  // children first
  }
  return Erase(lock, doomed, std::move(ends));
}

Result<int64_t> KvCacheImpl::ForgetTenant(std::string_view tenant) {
  std::unique_lock lock(mutex_);
  const BlockKey root = RootKey(space_, tenant);
  std::vector<uint64_t> doomed;
  index_.ForEach([&](Node& node) {
    if (node.meta.root == root) doomed.push_back(node.id);
  });
  std::reverse(doomed.begin(), doomed.end());
  return Erase(lock, doomed);
}

Status KvCacheImpl::EraseLogits(std::span<const BlockMeta> gone) {
  std::unordered_map<BlockKey, std::vector<const BlockMeta*>> by_parent;
  for (const BlockMeta& meta : gone) by_parent[meta.parent].push_back(&meta);
  return logits_->Erase(
      [&](const BlockMeta& end) {
        const auto blocks = by_parent.find(end.parent);
        return blocks != by_parent.end() && std::any_of(blocks->second.begin(), blocks->second.end(), [&](const auto* block) {
          const auto tokens = end.token_span();
          return tokens.size() <= block->token_span().size() &&
                 std::equal(tokens.begin(), tokens.end(), block->tokens.begin());
        });
      },
      true);
}

Result<int64_t> KvCacheImpl::Erase(std::unique_lock<std::mutex>& lock, std::span<const uint64_t> doomed,
                                   std::vector<BlockMeta> more) {
  std::vector<TierHandle> erased = std::exchange(orphans_, {});
  int64_t count = 0;
  bool pins = false;
  for (const uint64_t id : doomed) {
    const auto found = entries_.find(id);
    if (found == entries_.end()) continue;  // was hollow and went with its last child
    Entry& entry = *found->second;
    more.push_back(entry.node->meta);
    if (entry.known()) ++count;
    // A write under way answers later and finds nobody: the keeper then erases its slot.
    if (entry.pinned) {
      SetPinned(entry, false);
      pinned_keys_.erase(entry.node->meta.key);
      pins = true;
    }
    if (entry.memory && entry.memory.use_count() == 1)
      std::memset(entry.memory->data(), 0, static_cast<size_t>(space_.layout.block_bytes()));
    Drop(entry, erased);
  }
  if (!disk_) {
    FATHOM_CHECK_OK(EraseLogits(more));
    return count;
  }
  if (pins) FATHOM_CHECK_OK(SavePins(lock));
  if (!doomed.empty()) FATHOM_CHECK_OK(SaveUses(lock));  // keys of what is forgotten stay nowhere
  // Writes of what was just dropped must have ended, and what others erase must be free, before this may be called
  // durable: wiping also overwrites what earlier erasures have left.
  keeper_wakes_.notify_all();
  writes_done_.wait(lock, [&] { return writes_in_flight_ == 0 && erases_under_way_ == 0; });
  erased.insert(erased.end(), orphans_.begin(), orphans_.end());
  orphans_.clear();
  lock.unlock();
  const Status logits = EraseLogits(more);
  const Status status = disk_->Erase(erased, true);
  lock.lock();
  if (!status) return std::unexpected(status.error());
  if (!logits) return std::unexpected(logits.error());
  return count;
}

Result<int64_t> KvCacheImpl::CollectGarbage() {
  std::unique_lock lock(mutex_);
  return DropExpired(lock);
}

// --- Looking -----------------------------------------------------------------------------------------------------------

Result<std::pair<int64_t, int64_t>> KvCacheImpl::Verify(
    const std::function<bool(int64_t done, int64_t total)>& progress) {
  if (!disk_) return std::pair<int64_t, int64_t>{0, 0};
  FATHOM_CHECK_OK(Flush());
  struct Item {
    uint64_t id;
    TierHandle handle;
    BlockMeta meta;
  };
  std::vector<Item> items;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [id, entry] : entries_)
      if (entry->disk != kNoHandle) items.push_back({id, entry->disk, entry->node->meta});
  }
  KvPool pool(space_.layout);  // memory of its own: verifying drives nothing out
  int64_t read = 0, dropped = 0;
  for (const Item& item : items) {
    if (progress && !progress(read, static_cast<int64_t>(items.size())))
      return Fail(ErrorCode::kCancelled, "stopped after {} of {} blocks", read, items.size());
    FATHOM_TRY(KvBlockRef block, pool.Take());
    std::promise<Status> answer;
    std::vector<TierRead> reads;
    reads.push_back({.handle = item.handle, .meta = item.meta, .into = std::move(block), .first_layer = 0,
                     .layers = space_.layout.layers, .done = [&](Status status) { answer.set_value(std::move(status)); }});
    disk_->Get(std::move(reads), IoPriority::kBackground);
    const Status status = answer.get_future().get();
    Tick(progress_);
    ++read;
    if (status) continue;
    if (status.error().code != ErrorCode::kCorrupt) return std::unexpected(status.error());
    std::unique_lock lock(mutex_);
    const auto found = entries_.find(item.id);
    if (found == entries_.end() || found->second->disk != item.handle) continue;  // gone or rewritten meanwhile
    ++dropped;
    ++stats_.corrupt;
    const TierHandle handle = DropDisk(*found->second);
    if (found->second->busy == 0) Prune(found->second->node);
    EraseOnDisk(lock, {handle}, false);
  }
  FATHOM_TRY(const auto logits, logits_->Verify());
  if (progress) progress(read, static_cast<int64_t>(items.size()));
  return std::pair{read + logits.first, dropped + logits.second};
}

std::vector<CacheEntryInfo> KvCacheImpl::List() const {
  std::lock_guard lock(mutex_);
  std::vector<CacheEntryInfo> list;
  const double now = Now();
  index_.ForEach([&](Node& node) {
    const Entry& entry = Of(node);
    if (!entry.known()) return;
    list.push_back({.key = node.meta.key,
                    .root = node.meta.root,
                    .first_position = node.meta.first_position,
                    .count = node.meta.count,
                    .in_memory = entry.memory != nullptr,
                    .on_disk = entry.disk != kNoHandle,
                    .pinned = entry.pinned,
                    .age_seconds = now - entry.created,
                    .idle_seconds = now - entry.last_used,
                    .hits = entry.touches});
  });
  return list;
}

CacheStats KvCacheImpl::stats() const {
  std::lock_guard lock(mutex_);
  CacheStats stats = stats_;
  stats.memory_bytes = stats.memory_blocks * space_.layout.block_bytes();
  stats.memory_limit = pool_.max_bytes();
  stats.daily_write_bytes = options_.daily_write_bytes;
  stats.written_today = budget_.state().written;
  if (disk_) stats.disk = disk_->stats();
  stats.logits = logits_->stats();
  stats.corrupt += logits_->corrupt();
  return stats;
}

Status KvCacheImpl::Check() const {
  std::lock_guard lock(mutex_);
  FATHOM_CHECK_OK(index_.Check());
  const auto wrong = [](std::string_view what) { return Fail(ErrorCode::kInternal, "KV cache: {}", what); };
  int64_t memory = 0, pinned = 0;
  struct Account {
    int64_t memory_bytes = 0, disk_bytes = 0, memory_blocks = 0, disk_blocks = 0, pinned_blocks = 0;
  };
  std::unordered_map<const Tenant*, Account> accounts;
  Status status;
  index_.ForEach([&](Node& node) {
    if (node.payload == nullptr) {
      status = wrong("a node without an entry");
      return;
    }
    const Entry& entry = Of(node);
    if (entry.node != &node) status = wrong("an entry of another node");
    if (!entry.known() && node.children.empty() && entry.busy == 0) status = wrong("a hollow leaf");
    Account& account = accounts[entry.tenant];
    if (entry.pinned) ++pinned, ++account.pinned_blocks;
    if (entry.memory) {
      ++memory, ++account.memory_blocks;
      account.memory_bytes += space_.layout.block_bytes();
    }
    if (entry.disk != kNoHandle) ++account.disk_blocks, account.disk_bytes += disk_->stored_block_bytes();
  });
  FATHOM_CHECK_OK(status);
  if (entries_.size() != index_.size()) return wrong("entries and nodes differ in number");
  if (memory != stats_.memory_blocks) return wrong("the count of blocks in memory is off");
  if (pinned != stats_.pinned_blocks) return wrong("the count of pinned blocks is off");
  for (const auto& [root, tenant] : tenants_) {
    const Account& account = accounts[tenant.get()];
    if (account.memory_bytes != tenant->memory_bytes || account.disk_bytes != tenant->disk_bytes ||
        account.pinned_blocks != tenant->pinned_blocks)
      return wrong("a tenant's account is off");
    const auto knows = [](const auto& policy, int64_t blocks) {
      return !policy || policy->size() == static_cast<size_t>(blocks);
    };
    if (!knows(tenant->memory_policy, account.memory_blocks) || !knows(tenant->disk_policy, account.disk_blocks))
      return wrong("a tenant's policy knows other blocks than it has");
  }
  return {};
}

}  // namespace fathom
