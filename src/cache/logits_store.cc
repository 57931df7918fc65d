#include "cache/logits_store.h"

#include <algorithm>
#include <cstring>
#include <future>

#include "base/log.h"
#include "cache/segment_format.h"
#include "io/env.h"

namespace fathom {
namespace {

constexpr size_t kBlockTokens = KvLayout::kBlockTokens;
// The device gets a quarter of a second, and what four times the reading takes at the rate it had, or at 100 MB/s.
constexpr double kPatience = 0.25, kSlowRate = 1e8;

}  // namespace

struct LogitsStore::Loading final : KvLogits {
  KvClock clock;
  std::chrono::steady_clock::time_point deadline;
  KvBlockRef block;
  mutable std::mutex mutex;
  State now = State::kWaiting;
  std::vector<float> logits;

  State state() const override {
    const std::lock_guard lock(mutex);
    if (now == State::kWaiting && clock() > deadline) return State::kFailed;
    return now;
  }
  std::vector<float> Take() override {
    const std::lock_guard lock(mutex);
    return std::move(logits);
  }
};

KvLayout LogitsStore::Layout(int64_t values) {
  // Whole cache lines a row, so that 64 rows have no gaps between them.
  constexpr int64_t kLine = 64 / sizeof(float);
  const int64_t row = (values + KvLayout::kBlockTokens - 1) / KvLayout::kBlockTokens;
  return {.dtype = DType::kF32, .layers = 1, .row_values = (row + kLine - 1) / kLine * kLine};
}

int64_t LogitsStore::StoredBytes(int64_t values) {
  const KvLayout layout = Layout(values);
  SegmentInfo info;
  info.dtype = layout.dtype;
  info.layers = layout.layers;
  info.row_values = layout.row_values;
  info.row_bytes = layout.row_bytes();
  return info.slot_bytes();
}

// Every row is stored, whatever the count of tokens: on disk such a block has 64 tokens, of which those below zero are none.
BlockMeta LogitsStore::Padded(const BlockMeta& end) {
  BlockMeta meta = end;
  std::fill(meta.tokens.begin() + end.count, meta.tokens.end(), -1);
  meta.count = KvLayout::kBlockTokens;
  return meta;
}

std::optional<BlockMeta> LogitsStore::Unpadded(BlockMeta meta) {
  const auto none = std::find_if(meta.tokens.begin(), meta.tokens.end(), [](int32_t token) { return token < 0; });
  if (meta.count != KvLayout::kBlockTokens || none == meta.tokens.begin()) return std::nullopt;
  if (std::any_of(none, meta.tokens.end(), [](int32_t token) { return token != -1; })) return std::nullopt;
  meta.count = static_cast<int32_t>(none - meta.tokens.begin());
  std::fill(none, meta.tokens.end(), 0);
  if (ChainKey(meta.parent, meta.token_span()) != meta.key) return std::nullopt;
  return meta;
}

Result<std::unique_ptr<LogitsStore>> LogitsStore::Open(Env& env, AsyncIo* io, const KvSpace& space,
                                                       const Options& options) {
  std::unique_ptr<LogitsStore> store(new LogitsStore);
  store->memory_limit_ = options.memory_bytes;
  store->clock_ = options.clock;
  store->share_ = options.share;
  if (options.directory.empty()) return store;
  // Logits depend on all that rows depend on, their element type too.
  const KvSpace logits_space = {.model_fingerprint = "logits after " + ToHex(space.Digest()),
                                .rope = "",
                                .layout = Layout(options.values)};
  store->values_ = options.values;
  store->stored_bytes_ = StoredBytes(options.values);
  store->most_on_disk_ = std::max<int64_t>(1, options.capacity_bytes / store->stored_bytes_);
  store->pool_ = std::make_unique<KvPool>(logits_space.layout);
  SsdTierOptions disk;
  disk.directory = options.directory;
  disk.capacity_bytes = options.capacity_bytes;
  disk.segment_bytes = std::min(options.segment_bytes, options.capacity_bytes);
  disk.queue_bytes = int64_t{64} << 20;
  disk.direct_io = options.direct_io;
  disk.key_file = options.key_file;
  disk.progress = options.progress;
  std::vector<TierHandle> unwanted;
  FATHOM_TRY(store->tier_, SsdTier::Open(env, *io, logits_space, disk, [&](const StoredBlock& block) {
               const auto end = Unpadded(block.meta);
               if (!end) return unwanted.push_back(block.handle);
               store->SetDisk(store->RecordOf(*end), block.handle);
             }));
  for (auto& [root, account] : store->accounts_) {  // shares that have become smaller
    while (std::ssize(account.disk_order) > account.most_on_disk) {
      const BlockKey victim = account.disk_order.front();
      unwanted.push_back(store->DropDisk(store->records_.at(victim)));
      store->Prune(victim);
    }
  }
  FATHOM_CHECK_OK(store->tier_->Erase(unwanted, false));
  return store;
}

LogitsStore::~LogitsStore() { tier_.reset(); }

// --- Accounts --------------------------------------------------------------------------------------------------------

LogitsStore::Account& LogitsStore::AccountOf(const BlockKey& root) {
  const auto [place, made] = accounts_.try_emplace(root);
  Account& account = place->second;
  if (!made || !share_) return account;
  const Share share = share_(root);
  if (share.memory_bytes >= 0) account.most_memory = share.memory_bytes;
  if (share.disk_bytes >= 0 && stored_bytes_ > 0)
    account.most_on_disk = share.disk_bytes == 0 ? 0 : std::max<int64_t>(1, share.disk_bytes / stored_bytes_);
  return account;
}

LogitsStore::Record& LogitsStore::RecordOf(const BlockMeta& end) {
  Record& record = records_[end.key];
  record.end = end;
  if (record.account == nullptr) record.account = &AccountOf(end.root);
  return record;
}

void LogitsStore::SetMemory(Record& record, std::vector<float> values) {
  DropMemory(record);
  Account& account = *record.account;
  if (values.empty() || account.most_memory == 0) return;
  record.memory = std::move(values);
  const auto bytes = static_cast<int64_t>(record.memory.size() * sizeof(float));
  memory_bytes_ += bytes;
  account.memory_bytes += bytes;
  record.in_memory = memory_order_.insert(memory_order_.end(), record.end.key);
  record.own_in_memory = account.memory_order.insert(account.memory_order.end(), record.end.key);
  const auto drop = [&](BlockKey victim) {
    DropMemory(records_.at(victim));
    Prune(victim);
  };
  while (account.memory_bytes > account.most_memory && account.memory_order.size() > 1) drop(account.memory_order.front());
  while (memory_bytes_ > memory_limit_ && memory_order_.size() > 1) drop(memory_order_.front());
}

void LogitsStore::DropMemory(Record& record) {
  if (record.memory.empty()) return;
  const auto bytes = static_cast<int64_t>(record.memory.size() * sizeof(float));
  memory_bytes_ -= bytes;
  record.account->memory_bytes -= bytes;
  memory_order_.erase(record.in_memory);
  record.account->memory_order.erase(record.own_in_memory);
  record.memory = {};
}

void LogitsStore::SetDisk(Record& record, TierHandle handle) {
  if (record.disk != kNoHandle) DropDisk(record);
  record.disk = handle;
  record.on_disk = disk_order_.insert(disk_order_.end(), record.end.key);
  Order& own = record.account->disk_order;
  record.own_on_disk = own.insert(own.end(), record.end.key);
}

TierHandle LogitsStore::DropDisk(Record& record) {
  disk_order_.erase(record.on_disk);
  record.account->disk_order.erase(record.own_on_disk);
  return std::exchange(record.disk, kNoHandle);
}

void LogitsStore::Prune(const BlockKey& key) {
  const auto found = records_.find(key);
  if (found == records_.end()) return;
  const Record& record = found->second;
  if (record.memory.empty() && record.disk == kNoHandle && record.writing == 0) records_.erase(found);
}

// --- Keeping ---------------------------------------------------------------------------------------------------------

bool LogitsStore::WouldWrite(const BlockKey& key, size_t values) const {
  if (!tier_ || static_cast<int64_t>(values) != values_) return false;
  const std::lock_guard lock(mutex_);
  const auto found = records_.find(key);
  return found == records_.end() || (found->second.disk == kNoHandle && found->second.writing == 0);
}

void LogitsStore::Keep(const BlockMeta& end, std::span<const float> logits, bool to_disk) {
  const std::lock_guard lock(mutex_);
  Record& record = RecordOf(end);
  if (to_disk && tier_ && static_cast<int64_t>(logits.size()) == values_ && record.disk == kNoHandle &&
      record.writing == 0) {
    Write(record, logits);
  }
  SetMemory(record, {logits.begin(), logits.end()});
  Prune(end.key);  // where its tenant has no share of anything
}

bool LogitsStore::MakeRoom(Account& account) {
  const auto make = [&](const Order& order, const auto& writes, int64_t most) {
    while (std::ssize(order) + writes >= most) {
      if (order.empty()) return false;
      const BlockKey victim = order.front();
      const TierHandle handle = DropDisk(records_.at(victim));
      (void)tier_->Erase({&handle, 1}, false);
      Prune(victim);
    }
    return true;
  };
  return make(account.disk_order, account.writes, account.most_on_disk) && make(disk_order_, writes_, most_on_disk_);
}

void LogitsStore::Write(Record& record, std::span<const float> values) {
  Account& account = *record.account;
  if (!MakeRoom(account)) return;
  auto block = pool_->Take();
  if (!block) return;
  std::byte* bytes = (*block)->data();
  std::memcpy(bytes, values.data(), values.size_bytes());
  std::memset(bytes + values.size_bytes(), 0, static_cast<size_t>(pool_->layout().block_bytes()) - values.size_bytes());
  record.writing = next_ticket_++;
  ++writes_;
  ++account.writes;
  tier_->Put(Padded(record.end), std::move(*block),
             [this, key = record.end.key, ticket = record.writing, &account](Result<TierHandle> handle) {
               Written(key, ticket, account, std::move(handle));
             });
}

void LogitsStore::Written(const BlockKey& key, uint64_t ticket, Account& account, Result<TierHandle> handle) {
  {
    const std::lock_guard lock(mutex_);
    --writes_;
    --account.writes;
    const auto found = records_.find(key);
    const bool wanted = found != records_.end() && found->second.writing == ticket;
    if (wanted) found->second.writing = 0;
    if (!handle) {
      // Files have headers, so a little less fits than was thought.
      if (handle.error().code == ErrorCode::kResource)
        most_on_disk_ = std::clamp<int64_t>(static_cast<int64_t>(disk_order_.size()) + writes_, 1, most_on_disk_);
      spdlog::debug("KV cache: logits were not written: {}", handle.error().message);
    } else if (wanted) {
      SetDisk(found->second, *handle);
    } else {
      forgotten_.push_back(*handle);
    }
    Prune(key);
  }
  written_.notify_all();
}

// --- Finding ---------------------------------------------------------------------------------------------------------

bool LogitsStore::Knows(const BlockMeta& end) const {
  const std::lock_guard lock(mutex_);
  const auto place = records_.find(end.key);
  if (place == records_.end()) return false;
  const Record& record = place->second;
  const auto known = record.end.token_span(), asked = end.token_span();
  return (!record.memory.empty() || record.disk != kNoHandle) &&
         std::equal(known.begin(), known.end(), asked.begin(), asked.end());
}

LogitsStore::Found LogitsStore::Find(const BlockKey& key, std::span<const int32_t> tokens) {
  Found found;
  const std::lock_guard lock(mutex_);
  const auto place = records_.find(key);
  if (place == records_.end()) return found;
  Record& record = place->second;
  const auto known = record.end.token_span();
  if (!std::equal(known.begin(), known.end(), tokens.begin(), tokens.end())) return found;
  const auto touch = [](Order& order, Order::iterator place) { order.splice(order.end(), order, place); };
  if (record.disk != kNoHandle) {
    touch(disk_order_, record.on_disk);
    touch(record.account->disk_order, record.own_on_disk);
  }
  if (!record.memory.empty()) {
    touch(memory_order_, record.in_memory);
    touch(record.account->memory_order, record.own_in_memory);
    found.now = record.memory;
    return found;
  }
  if (record.disk == kNoHandle) return found;
  auto block = pool_->Take();
  if (!block) return found;
  auto loading = std::make_shared<Loading>();
  const double rate = tier_->stats().read_bytes_per_second;
  const double patience = kPatience + 4 * static_cast<double>(stored_bytes_) / (rate > 0 ? rate : kSlowRate);
  loading->clock = clock_;
  loading->deadline = clock_() +
                      std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::duration<double>(patience));
  loading->block = std::move(*block);
  std::vector<TierRead> reads;
  reads.push_back({.handle = record.disk,
                   .meta = Padded(record.end),
                   .into = loading->block,
                   .first_layer = 0,
                   .layers = 1,
                   .done = [this, loading, key, handle = record.disk](Status status) {
                     const KvBlockRef rows = std::move(loading->block);
                     std::vector<float> values;
                     if (status) {
                       values.resize(static_cast<size_t>(values_));
                       std::memcpy(values.data(), rows->data(), values.size() * sizeof(float));
                     }
                     {
                       const std::lock_guard guard(loading->mutex);
                       loading->now = status ? KvLogits::State::kThere : KvLogits::State::kFailed;
                       loading->logits = values;
                     }
                     const std::lock_guard guard(mutex_);
                     const auto there = records_.find(key);
                     if (there == records_.end() || there->second.disk != handle) return;
                     if (status) {
                       if (there->second.memory.empty()) SetMemory(there->second, std::move(values));
                     } else if (status.error().code == ErrorCode::kCorrupt) {
                       Corrupt(key, handle);
                     }
                   }});
  tier_->Get(std::move(reads), IoPriority::kDemand);
  found.soon = std::move(loading);
  return found;
}

void LogitsStore::Corrupt(const BlockKey& key, TierHandle handle) {
  ++corrupt_;
  DropDisk(records_.at(key));
  (void)tier_->Erase({&handle, 1}, false);
  Prune(key);
}

// --- What people do ----------------------------------------------------------------------------------------------------

Status LogitsStore::Erase(const std::function<bool(const BlockMeta& end)>& doomed, bool wipe) {
  std::vector<TierHandle> handles;
  std::unique_lock lock(mutex_);
  for (auto place = records_.begin(); place != records_.end();) {
    Record& record = place->second;
    if (!doomed(record.end)) {
      ++place;
      continue;
    }
    std::fill(record.memory.begin(), record.memory.end(), 0.0f);
    DropMemory(record);
    if (record.disk != kNoHandle) handles.push_back(DropDisk(record));
    place = records_.erase(place);  // a write under way answers to nobody
  }
  if (!tier_) return {};
  if (wipe) written_.wait(lock, [&] { return writes_ == 0; });
  handles.insert(handles.end(), forgotten_.begin(), forgotten_.end());
  forgotten_.clear();
  lock.unlock();
  return tier_->Erase(handles, wipe);
}

Result<std::pair<int64_t, int64_t>> LogitsStore::Verify() {
  std::vector<std::pair<BlockMeta, TierHandle>> items;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [key, record] : records_)
      if (record.disk != kNoHandle) items.emplace_back(record.end, record.disk);
  }
  std::pair<int64_t, int64_t> counts{0, 0};
  for (const auto& [end, handle] : items) {
    FATHOM_TRY(KvBlockRef block, pool_->Take());
    std::promise<Status> answer;
    std::vector<TierRead> reads;
    reads.push_back({.handle = handle, .meta = Padded(end), .into = std::move(block), .first_layer = 0, .layers = 1,
                     .done = [&](Status status) { answer.set_value(std::move(status)); }});
    tier_->Get(std::move(reads), IoPriority::kBackground);
    const Status status = answer.get_future().get();
    ++counts.first;
    if (status || status.error().code == ErrorCode::kNotFound) continue;
    if (status.error().code != ErrorCode::kCorrupt) return std::unexpected(status.error());
    const std::lock_guard lock(mutex_);
    const auto found = records_.find(end.key);
    if (found == records_.end() || found->second.disk != handle) continue;  // gone or rewritten meanwhile
    ++counts.second;
    Corrupt(end.key, handle);
  }
  return counts;
}

Status LogitsStore::Flush() { return tier_ ? tier_->Flush() : Status{}; }

TierStats LogitsStore::stats() const { return tier_ ? tier_->stats() : TierStats{}; }

int64_t LogitsStore::corrupt() const {
  const std::lock_guard lock(mutex_);
  return corrupt_;
}

}  // namespace fathom
