#include "cache/kv_cache.h"

#include <algorithm>
#include <chrono>

#include "cache/kv_cache_impl.h"
#include "cache/kv_guard.h"

namespace fathom {
namespace {

constexpr int64_t kBlockTokens = KvLayout::kBlockTokens;

// What is being written cannot be given up, so it may be no more than a part of memory.
int64_t MostWritesInFlight(const KvPool& pool) {
  const int64_t limit = pool.max_bytes();
  return limit == 0 ? 32 : std::clamp<int64_t>(limit / pool.layout().block_bytes() / 4, 1, 32);
}

CacheOptions WithClock(CacheOptions options) {
  if (!options.clock) options.clock = [] { return std::chrono::steady_clock::now(); };
  return options;
}

}  // namespace

Result<std::unique_ptr<KvCache>> KvCache::Create(Env& env, const KvSpace& space, KvPool& pool,
                                                 const CacheOptions& options) {
  if ((!options.directory.empty() || options.tier) && options.disk_bytes <= 0)
    return Fail(ErrorCode::kInvalidArgument, "a cache folder needs a size: say how much of the disk it may take");
  if (options.memory_bytes < 0 || options.disk_bytes < 0 || options.daily_write_bytes < 0)
    return Fail(ErrorCode::kInvalidArgument, "sizes of the cache must not be negative");
  auto cache = std::make_unique<GuardedKvCache>(std::make_unique<KvCacheImpl>(env, space, pool, options), options);
  FATHOM_CHECK_OK(cache->Open());
  return cache;
}

double KvCacheImpl::Now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

KvCacheImpl::KvCacheImpl(Env& env, const KvSpace& space, KvPool& pool, const CacheOptions& options)
    : env_(env),
      space_(space),
      pool_(pool),
      pool_limit_(pool.max_bytes()),
      most_writes_(MostWritesInFlight(pool)),
      options_(WithClock(options)),
      memory_policy_(MakeEvictionPolicy(options.eviction, pool.max_bytes())),
      disk_policy_(MakeEvictionPolicy(options.eviction, options.disk_bytes)),
      budget_(options.daily_write_bytes) {
  for (const auto& [name, limits] : options_.tenant_limits) AddTenant(RootKey(space_, name), limits);
  pool_.SetReclaimer([this] { return ReclaimMemory(); });
}

KvCacheImpl::~KvCacheImpl() {
  if (keeper_.joinable()) {
    (void)Flush();
    keeper_.request_stop();
    keeper_wakes_.notify_all();
    keeper_.join();
  }
  logits_.reset();
  disk_.reset();  // answers every callback, which still use this object
  io_.reset();
}

void KvCacheImpl::Detach() {
  const std::lock_guard lock(pool_gone_mutex_);
  pool_gone_ = true;
  pool_.SetReclaimer({});
  pool_.OnSlab({});
}

// --- What is found -------------------------------------------------------------------------------------------------

struct KvCacheImpl::Plan {
  std::vector<Node*> nodes;
  int64_t matched = 0;  // tokens that are known
  LoadPlan load;        // how many of them to take
  double load_seconds = 0;
};

KvCacheImpl::Plan KvCacheImpl::MakePlan(std::string_view tenant, std::span<const int32_t> tokens, int64_t most) const {
  Plan plan;
  const double now = Now();
  const auto wanted = tokens.first(static_cast<size_t>(std::clamp<int64_t>(most, 0, static_cast<int64_t>(tokens.size()))));
  PrefixIndex::Match match = index_.Find(RootKey(space_, tenant), wanted, [&](const Node& node) {
    return Of(node).known() && !Expired(Of(node), now);
  });
  plan.matched = match.tokens;
  plan.nodes = std::move(match.nodes);

  std::vector<KnownRun> runs;
  for (const Node* node : plan.nodes) {
    const Entry& entry = Of(*node);
    const bool here = entry.memory || entry.load;
    if (runs.empty() || runs.back().in_memory != here) runs.push_back({.tokens = 0, .in_memory = here});
    const int64_t begin = node->meta.first_position;
    runs.back().tokens += std::min(begin + node->meta.count, plan.matched) - begin;
  }
  const KvLayout& layout = space_.layout;
  const double rate = disk_ ? disk_->stats().read_bytes_per_second : 0;
  plan.load = PlanLoad({.runs = runs,
                        .prompt_tokens = static_cast<int64_t>(tokens.size()),
                        .bytes_per_token = layout.bytes_per_token(),
                        .layers = layout.layers,
                        .logits_known = !plan.nodes.empty() && plan.matched == static_cast<int64_t>(tokens.size()) &&
                                        logits_->Knows(EndOf(*plan.nodes.back(), tokens)),
                        .compute = rates_,
                        .tier = {.bytes_per_second = rate,
                                 .queued_bytes = static_cast<double>(loading_bytes_.load()),
                                 .age_seconds = last_read_ > 0 ? now - last_read_ : 0}});
  while (!plan.nodes.empty() && plan.nodes.back()->meta.first_position >= plan.load.take_tokens) plan.nodes.pop_back();
  // With what others are loading: the device gives each of those who came together a part of its rate.
  plan.load_seconds = static_cast<double>(plan.load.tier_tokens * layout.bytes_per_token() + loading_bytes_.load()) /
                      (rate > 0 ? rate : 1e8);
  return plan;
}

std::string KvCacheImpl::Reason(const Plan& plan, std::span<const int32_t> tokens) const {
  const auto total = static_cast<int64_t>(tokens.size());
  if (plan.matched == 0) return "no kept prompt of this tenant begins like this one";
  std::string text = fmt::format("{} of {} tokens are known ({} in memory, {} on disk)", plan.load.take_tokens, total,
                                 plan.load.memory_tokens, plan.load.tier_tokens);
  if (plan.load.take_tokens < plan.matched) return text + "; " + plan.load.reason;
  if (plan.matched < total) text += fmt::format("; no kept prompt goes on with token {} as this one does", plan.matched);
  return text;
}

KvPrefix KvCacheImpl::Explain(std::string_view tenant, std::span<const int32_t> tokens) const {
  std::lock_guard lock(mutex_);
  const Plan plan = MakePlan(tenant, tokens, static_cast<int64_t>(tokens.size()));
  KvPrefix prefix;
  prefix.tokens = plan.load.take_tokens;
  prefix.memory_tokens = plan.load.memory_tokens;
  prefix.disk_tokens = plan.load.tier_tokens;
  prefix.reason = Reason(plan, tokens);
  return prefix;
}

KvPrefix KvCacheImpl::Acquire(std::string_view tenant, std::span<const int32_t> tokens, int64_t most) {
  KvPrefix prefix;
  std::unique_lock lock(mutex_);
  const Plan plan = MakePlan(tenant, tokens, most);
  ++stats_.lookups;
  stats_.lookup_tokens += static_cast<int64_t>(tokens.size());
  prefix.reason = Reason(plan, tokens);
  if (plan.nodes.empty()) return prefix;

  std::vector<Node*> absent;
  const double now = Now();
  // The last first, so that a block never looks staler than those that need it.
  for (auto node = plan.nodes.rbegin(); node != plan.nodes.rend(); ++node) {
    Touch(Of(**node), now);
    ++Of(**node).busy;
  }
  for (Node* node : plan.nodes)
    if (!Of(*node).memory && !Of(*node).load) absent.push_back(node);
  LogitsStore::Found logits;
  if (plan.load.take_tokens == static_cast<int64_t>(tokens.size())) {
    // Before the rows: the first token needs no others.
    const BlockMeta end = EndOf(*plan.nodes.back(), tokens);
    logits = logits_->Find(end.key, end.token_span());
  }
  if (!absent.empty()) {
    lock.unlock();
    BeginLoads(absent, IoPriority::kDemand);
    lock.lock();
  }
  std::vector<PrefixLoad::Piece> pieces;
  auto loaded = absent.begin();  // in the order of plan.nodes; what of them is there by now came from the tier all the same
  for (Node* node : plan.nodes) {
    const Entry& entry = Of(*node);
    const bool ours = loaded != absent.end() && *loaded == node;
    if (ours) ++loaded;
    const int64_t begin = node->meta.first_position, end = std::min(begin + node->meta.count, plan.load.take_tokens);
    if (!entry.memory && !entry.load) {
      prefix.reason += fmt::format("; from token {} on there was no memory to load into", begin);
      break;
    }
    if (!entry.memory) pieces.push_back({entry.load, begin});
    prefix.blocks.push_back(entry.memory ? entry.memory : entry.load->block());
    (entry.memory && !ours ? prefix.memory_tokens : prefix.disk_tokens) += end - begin;
    prefix.tokens = end;
  }
  if (prefix.tokens == static_cast<int64_t>(tokens.size())) {
    prefix.last_logits = std::move(logits.now);
    prefix.logits = std::move(logits.soon);
  }
  for (Node* node : plan.nodes)
    if (--Of(*node).busy == 0) Prune(node);
  stats_.hit_tokens += prefix.tokens;
  stats_.memory_hit_tokens += prefix.memory_tokens;
  stats_.disk_hit_tokens += prefix.disk_tokens;
  if (!pieces.empty()) {
    // A device that has become slow must not cost more than a twentieth of what computing costs; one that is merely
    // slower than it was is given the time.
    // What computing costs is not known at first; a quarter of a second is little for a device that has just been opened.
    const double computing = plan.load.recompute_seconds > 0 ? plan.load.recompute_seconds / 20 : 1;
    const double patience = std::max(0.25 + 4 * plan.load_seconds, computing);
    prefix.load = std::make_shared<PrefixLoad>(sync_, std::move(pieces), prefix.tokens, patience, options_.clock,
                                               [this](double waited) {
                                                 std::lock_guard guard(mutex_);
                                                 stats_.load_wait_seconds += waited;
                                               });
  }
  return prefix;
}

void KvCacheImpl::Prefetch(std::string_view tenant, std::span<const int32_t> tokens) {
  std::unique_lock lock(mutex_);
  if (!disk_) return;
  const Plan plan = MakePlan(tenant, tokens, static_cast<int64_t>(tokens.size()));
  std::vector<Node*> absent;
  for (Node* node : plan.nodes)
    if (!Of(*node).memory && !Of(*node).load) absent.push_back(node);
  // What is fetched ahead must not drive out what is in use.
  const int64_t limit = pool_.max_bytes();
  if (absent.empty() || (limit > 0 && static_cast<int64_t>(absent.size()) * space_.layout.block_bytes() > limit / 2)) return;
  for (Node* node : plan.nodes) ++Of(*node).busy;
  lock.unlock();
  BeginLoads(absent, IoPriority::kPrefetch);
  lock.lock();
  for (Node* node : plan.nodes)
    if (--Of(*node).busy == 0) Prune(node);
}

void KvCacheImpl::BeginLoads(std::span<Node* const> nodes, IoPriority priority) {
  const int64_t layers = space_.layout.layers;
  // A few large reads a block: enough pieces for the first layers to be there early, few enough for the device.
  constexpr int64_t kPieceBytes = 1 << 20;
  const int64_t step = std::clamp<int64_t>(kPieceBytes / space_.layout.layer_bytes(), 1, layers);
  struct Begun {
    Node* node;
    std::shared_ptr<BlockLoad> load;
    TierHandle handle;
  };
  std::vector<Begun> begun;
  for (Node* node : nodes) {
    auto block = pool_.Take();  // may ask this cache to let go of others
    if (!block) break;
    std::lock_guard lock(mutex_);
    Entry& entry = Of(*node);
    if (!entry.memory && !entry.load) {
      if (entry.disk == kNoHandle) break;
      entry.load = std::make_shared<BlockLoad>(sync_, std::move(*block), layers);
      loading_bytes_ += space_.layout.block_bytes();
      begun.push_back({node, entry.load, entry.disk});
    }
  }
  std::vector<TierRead> reads;
  for (int64_t first = 0; first < layers; first += step) {
    const int64_t piece = std::min(step, layers - first);
    for (const Begun& b : begun) {
      reads.push_back({.handle = b.handle, .meta = b.node->meta, .into = b.load->block(), .first_layer = first,
                       .layers = piece, .done = [this, id = b.node->id, load = b.load, first, piece](Status status) {
                         if (!load->Arrived(first, piece, status)) return;
                         loading_bytes_ -= space_.layout.block_bytes();
                         LoadDone(id, load);
                       }});
    }
  }
  if (!reads.empty()) disk_->Get(std::move(reads), priority);
}

void KvCacheImpl::LoadDone(uint64_t id, const std::shared_ptr<BlockLoad>& load) {
  Tick(progress_);
  bool failed;
  Error error;
  {
    std::lock_guard guard(load->sync().mutex);
    failed = load->failed_locked();
    error = load->error_locked();
  }
  std::lock_guard lock(mutex_);
  const auto found = entries_.find(id);
  if (found == entries_.end() || found->second->load != load) return;  // forgotten meanwhile
  Entry& entry = *found->second;
  entry.load.reset();
  if (!failed) {
    last_read_ = Now();
    if (!entry.memory) SetMemory(entry, load->block());
    EnforceTenantMemory(*entry.tenant);
    return;
  }
  if (error.code == ErrorCode::kCorrupt) {
    ++stats_.corrupt;
    // Erased by the keeper: this thread is the device's.
    if (entry.disk != kNoHandle) orphans_.push_back(DropDisk(entry));
    if (entry.memory && !entry.writing) QueueWrite(entry);  // somebody has computed it meanwhile
    keeper_wakes_.notify_all();
  }
  if (entry.busy == 0) Prune(entry.node);
}

// --- What is kept --------------------------------------------------------------------------------------------------

KvCacheImpl::Node* KvCacheImpl::Resume(const KeepCursor& cursor, const Tenant& tenant,
                                       std::span<const int32_t> tokens) const {
  if (cursor.blocks <= 0 || cursor.blocks > static_cast<int64_t>(tokens.size()) / kBlockTokens) return nullptr;
  Node* const node = index_.FindKey(cursor.last);
  const int64_t begin = (cursor.blocks - 1) * kBlockTokens;
  if (node == nullptr || node->meta.root != tenant.root || node->meta.first_position != begin) return nullptr;
  // Its key stands for all tokens up to here; those of its own are compared as everywhere.
  const auto own = tokens.subspan(static_cast<size_t>(begin), kBlockTokens);
  return std::ranges::equal(node->meta.token_span(), own) ? node : nullptr;
}

void KvCacheImpl::Keep(std::string_view tenant_name, std::span<const int32_t> tokens,
                       std::span<const KvBlockRef> blocks, bool tail, KeepCursor* cursor) {
  std::lock_guard lock(mutex_);
  Tenant& tenant = TenantOf(tenant_name);
  const double now = Now();
  Node* parent = cursor != nullptr ? Resume(*cursor, tenant, tokens) : nullptr;
  for (size_t i = parent != nullptr ? static_cast<size_t>(cursor->blocks) : 0; i < blocks.size(); ++i) {
    const size_t begin = i * kBlockTokens;
    if (begin >= tokens.size()) break;
    const auto part = tokens.subspan(begin, std::min<size_t>(kBlockTokens, tokens.size() - begin));
    if (part.size() < kBlockTokens && !tail) break;
    Entry* const place = EntryAt(parent, tenant, part);
    if (place == nullptr) break;
    Entry& entry = *place;
    entry.last_used = now;
    uses_changed_ |= entry.disk != kNoHandle;
    // Also while it is being loaded: a load that is late, or has failed in one layer, must not keep out what is here.
    const bool fresh = !entry.memory;
    if (fresh) SetMemory(entry, blocks[i]);
    if (disk_ && entry.disk == kNoHandle && !entry.writing && entry.memory) QueueWrite(entry);
    // A shorter end may also have come after this block: the last one is looked at in any case.
    if (fresh || i + 1 == blocks.size()) DropSuperseded(*entry.node, orphans_);
    parent = entry.node;
    if (part.size() < kBlockTokens) break;
    if (cursor != nullptr) *cursor = {static_cast<int64_t>(i) + 1, parent->meta.key};
  }
  EnforceTenantMemory(tenant);
  if (!orphans_.empty()) keeper_wakes_.notify_all();
}

void KvCacheImpl::KeepLogits(std::string_view tenant, std::span<const int32_t> tokens, std::span<const float> logits) {
  std::lock_guard lock(mutex_);
  const PrefixIndex::Match match = index_.Find(RootKey(space_, tenant), tokens);
  if (match.nodes.empty() || match.tokens != static_cast<int64_t>(tokens.size())) return;
  const Node& node = *match.nodes.back();
  const BlockMeta end = EndOf(node, tokens);
  bool to_disk = logits_->WouldWrite(end.key, logits.size()) && HasShareOfDisk(*Of(node).tenant);
  if (to_disk && !budget_.Admit(logits_->stored_bytes(), Of(node).touches + 1, Now())) {
    to_disk = false;
    ++stats_.not_admitted;
  }
  logits_->Keep(end, logits, to_disk);
}

BlockMeta KvCacheImpl::EndOf(const Node& last, std::span<const int32_t> tokens) {
  BlockMeta end = last.meta;
  end.count = static_cast<int32_t>(static_cast<int64_t>(tokens.size()) - end.first_position);
  std::fill(end.tokens.begin() + end.count, end.tokens.end(), 0);
  end.key = end.count == last.meta.count ? last.meta.key : ChainKey(end.parent, end.token_span());
  return end;
}

void KvCacheImpl::SetRates(const ComputeRates& rates) {
  std::lock_guard lock(mutex_);
  rates_ = rates;
}

bool KvCacheImpl::HasShareOfDisk(const Tenant& tenant) const {
  return disk_ && (tenant.limits.disk_bytes < 0 || tenant.limits.disk_bytes >= disk_->stored_block_bytes());
}

void KvCacheImpl::QueueWrite(Entry& entry) {
  if (!HasShareOfDisk(*entry.tenant)) return;
  constexpr int64_t kQueueBytes = int64_t{256} << 20;
  if (static_cast<int64_t>(queue_.size()) * space_.layout.block_bytes() > kQueueBytes) {
    ++stats_.not_admitted;  // the device is behind; memory still has it
    return;
  }
  entry.writing = true;
  queue_.push_back(entry.node->id);
  keeper_wakes_.notify_all();
}

std::optional<CacheEntryId> KvCacheImpl::MemoryVictim() {
  // First what the device has too; then the ends of prefixes that would be lost; last what is about to be written, and
  // what others continue (which is out of reach then).
  const std::function<bool(const Entry&)> tries[] = {
      [](const Entry& entry) { return entry.disk != kNoHandle; },
      [](const Entry& entry) { return entry.node->children.empty() && !entry.pinned && !entry.writing; },
      [](const Entry& entry) { return !entry.pinned; },
  };
  for (const auto& may_go : tries) {
    const auto victim = memory_policy_->Victim([&](CacheEntryId id) {
      const Entry& entry = *entries_.at(id);
      return entry.memory.use_count() == 1 && entry.busy == 0 && may_go(entry);
    });
    if (victim) return victim;
  }
  return std::nullopt;
}

bool KvCacheImpl::ReclaimMemory() {
  // How long a step may wait for blocks that are being written; a device that is stuck is waited for once.
  constexpr auto kPatience = std::chrono::seconds(2);
  std::unique_lock lock(mutex_);
  auto victim = MemoryVictim();
  if (!victim && !writes_stuck_ && writes_in_flight_ > 0) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (!(victim = MemoryVictim()) && writes_in_flight_ > 0 && !writes_stuck_)
      writes_stuck_ = writes_done_.wait_until(lock, deadline) == std::cv_status::timeout;
  }
  if (!victim) return false;
  Entry& entry = *entries_.at(*victim);
  DropMemory(entry);
  ++stats_.evicted_memory;
  Prune(entry.node);
  return true;
}

void KvCacheImpl::EnforceTenantMemory(Tenant& tenant) {
  // As MemoryVictim, but what is being written stays until it is on the device, which then calls this again.
  const std::function<bool(const Entry&)> tries[] = {
      [](const Entry& entry) { return entry.disk != kNoHandle; },
      [](const Entry& entry) { return entry.node->children.empty() && !entry.pinned && !entry.writing; },
      [](const Entry& entry) { return !entry.pinned && !entry.writing; },
  };
  while (tenant.memory_policy && tenant.memory_bytes > tenant.limits.memory_bytes) {
    std::optional<CacheEntryId> victim;
    for (const auto& may_go : tries) {
      victim = tenant.memory_policy->Victim([&](CacheEntryId id) {
        const Entry& entry = *entries_.at(id);
        return entry.busy == 0 && may_go(entry);
      });
      if (victim) break;
    }
    if (!victim) return;
    Entry& entry = *entries_.at(*victim);
    DropMemory(entry);
    ++stats_.evicted_memory;
    Prune(entry.node);
  }
}

}  // namespace fathom
