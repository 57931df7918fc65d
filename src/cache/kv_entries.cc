// The cache manager's accounts: entries, tenants, what a block costs and where it is. REQUIRES throughout: the mutex is
// held.
#include <algorithm>

#include "cache/kv_cache_impl.h"

namespace fathom {

KvCacheImpl::Tenant& KvCacheImpl::AddTenant(const BlockKey& root, const TenantLimits& limits) {
  auto tenant = std::make_unique<Tenant>();
  tenant->root = root;
  tenant->limits = limits;
  if (limits.memory_bytes >= 0) tenant->memory_policy = MakeEvictionPolicy(options_.eviction, limits.memory_bytes);
  if (limits.disk_bytes >= 0) tenant->disk_policy = MakeEvictionPolicy(options_.eviction, limits.disk_bytes);
  return *(tenants_[root] = std::move(tenant));
}

KvCacheImpl::Tenant& KvCacheImpl::TenantOfRoot(const BlockKey& root) {
  const auto known = tenants_.find(root);
  return known != tenants_.end() ? *known->second : AddTenant(root, options_.default_limits);
}

KvCacheImpl::Entry* KvCacheImpl::EntryAt(Node* parent, Tenant& tenant, std::span<const int32_t> tokens) {
  Node* node = index_.Insert(tenant.root, parent, tokens).first;
  if (node == nullptr) return nullptr;
  if (node->payload != nullptr) return &Of(*node);
  auto& place = entries_[node->id];  // ids are unique: the index has seen to that
  place = std::make_unique<Entry>();
  Entry& entry = *place;
  entry.node = node;
  entry.tenant = &tenant;
  entry.created = entry.last_used = Now();
  node->payload = &entry;
  return &entry;
}

bool KvCacheImpl::Expired(const Entry& entry, double now) const {
  const int64_t ttl = entry.tenant->limits.ttl_seconds;
  return ttl > 0 && !entry.pinned && now - entry.last_used > static_cast<double>(ttl);
}

CacheEntryCost KvCacheImpl::Cost(const Entry& entry, double bytes_per_second) const {
  const auto bytes = static_cast<double>(space_.layout.block_bytes());
  const int64_t begin = entry.node->meta.first_position;
  // Before anything was measured every token is worth the same.
  double saved = rates_.seconds_per_token > 0 ? rates_.Seconds(begin, begin + entry.node->meta.count)
                                              : 1e-3 * entry.node->meta.count;
  if (bytes_per_second > 0) saved = std::max(saved / 100, saved - bytes / bytes_per_second);
  const Node* parent = entry.node->parent;
  return {.bytes = space_.layout.block_bytes(),
          .saved_seconds = saved,
          .parent = parent == nullptr ? kNoCacheEntry : parent->id};
}

void KvCacheImpl::SetMemory(Entry& entry, KvBlockRef block) {
  entry.memory = std::move(block);
  entry.tenant->memory_bytes += space_.layout.block_bytes();
  ++stats_.memory_blocks;
  const CacheEntryCost cost = Cost(entry, 0);
  const double now = Now();
  memory_policy_->Insert(entry.node->id, cost, now);
  if (entry.tenant->memory_policy) entry.tenant->memory_policy->Insert(entry.node->id, cost, now);
}

void KvCacheImpl::DropMemory(Entry& entry) {
  entry.memory.reset();
  entry.tenant->memory_bytes -= space_.layout.block_bytes();
  --stats_.memory_blocks;
  memory_policy_->Remove(entry.node->id);
  if (entry.tenant->memory_policy) entry.tenant->memory_policy->Remove(entry.node->id);
}

void KvCacheImpl::SetDisk(Entry& entry, TierHandle handle) {
  entry.disk = handle;
  entry.retried = false;
  entry.tenant->disk_bytes += disk_->stored_block_bytes();
  const CacheEntryCost cost = Cost(entry, disk_->stats().read_bytes_per_second);
  disk_policy_->Insert(entry.node->id, cost, entry.last_used);
  if (entry.tenant->disk_policy) entry.tenant->disk_policy->Insert(entry.node->id, cost, entry.last_used);
}

TierHandle KvCacheImpl::DropDisk(Entry& entry) {
  entry.tenant->disk_bytes -= disk_->stored_block_bytes();
  disk_policy_->Remove(entry.node->id);
  if (entry.tenant->disk_policy) entry.tenant->disk_policy->Remove(entry.node->id);
  return std::exchange(entry.disk, kNoHandle);
}

void KvCacheImpl::Touch(Entry& entry, double now) {
  entry.last_used = now;
  ++entry.touches;
  uses_changed_ = true;
  const Tenant& tenant = *entry.tenant;
  const CacheEntryId id = entry.node->id;
  // One that does not have it ignores it.
  for (EvictionPolicy* policy : {memory_policy_.get(), disk_policy_.get(), tenant.memory_policy.get(), tenant.disk_policy.get()})
    if (policy != nullptr) policy->Touch(id, now);
}

void KvCacheImpl::SetPinned(Entry& entry, bool pinned) {
  if (entry.pinned == pinned) return;
  entry.pinned = pinned;
  stats_.pinned_blocks += pinned ? 1 : -1;
  entry.tenant->pinned_blocks += pinned ? 1 : -1;
}

void KvCacheImpl::Prune(Node* node) {
  while (node != nullptr && node->children.empty()) {
    Entry& entry = Of(*node);
    if (entry.known() || entry.busy > 0) return;
    Node* parent = node->parent;
    SetPinned(entry, false);
    entries_.erase(node->id);
    index_.Erase(node);
    node = parent;
  }
}

void KvCacheImpl::Drop(Entry& entry, std::vector<TierHandle>& erased) {
  entry.load.reset();  // what still arrives belongs to nobody
  if (entry.memory) DropMemory(entry);
  if (entry.disk != kNoHandle) erased.push_back(DropDisk(entry));
  if (entry.busy == 0) Prune(entry.node);
}

void KvCacheImpl::DropSuperseded(Node& node, std::vector<TierHandle>& erased) {
  for (Node* shorter : index_.Superseded(node)) {
    Entry& entry = Of(*shorter);
    if (entry.busy == 0 && !entry.pinned && !entry.load) Drop(entry, erased);
  }
}

}  // namespace fathom
