// A store on the other end of a network, in a few lines: what is put there outlives the cache that did it, answers come
// late and in any order, and may be errors. For tests of the cache manager over a tier that is no SSD.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "cache/tier.h"

namespace fathom {

/// The far end. Thread-safe.
struct RemoteStore {
  struct Block {
    BlockMeta meta;
    std::vector<std::byte> rows;
    int64_t written_at = 0;
  };
  std::mutex mutex;
  std::map<TierHandle, Block> blocks;
  TierHandle next = 1;
  int64_t capacity = 1000;  // blocks
  // In thousandths of all calls.
  std::atomic<int> put_errors = 0, get_errors = 0, corrupt = 0;
  std::atomic<int> most_latency_us = 2000;
  std::atomic<bool> unreachable = false;  // every call fails
  std::atomic<bool> held = false;         // nothing is answered
  std::atomic<double> bytes_per_second = 1e9;  // that it says it has
};

class RemoteTier final : public Tier {
 public:
  RemoteTier(std::shared_ptr<RemoteStore> store, const KvLayout& layout)
      : store_(std::move(store)), layout_(layout) {
    for (int i = 0; i < 2; ++i) threads_.emplace_back([this] { Run(); });
  }
  ~RemoteTier() override {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  static TierOpener Opener(std::shared_ptr<RemoteStore> store, const KvLayout& layout) {
    return [store, layout](KvPool&, const std::function<void(const StoredBlock&)>& found) -> Result<std::unique_ptr<Tier>> {
      if (store->unreachable) return Fail(ErrorCode::kIo, "remote: unreachable");
      const std::lock_guard lock(store->mutex);
      for (const auto& [handle, block] : store->blocks) found({block.meta, handle, block.written_at});
      return std::make_unique<RemoteTier>(store, layout);
    };
  }

  std::string_view name() const override { return "remote"; }

  void Put(const BlockMeta& meta, KvBlockRef block, std::function<void(Result<TierHandle>)> done) override {
    {
      const std::lock_guard lock(mutex_);
      ++pending_puts_;
    }
    Later([this, meta, block = std::move(block), done = std::move(done)](bool cancelled, int dice) {
      Result<TierHandle> handle = Fail(ErrorCode::kCancelled, "remote: closed");
      if (!cancelled) handle = Store(meta, *block, dice);
      done(handle);
      const std::lock_guard lock(mutex_);
      if (!handle && handle.error().code != ErrorCode::kResource && !flush_error_) flush_error_ = handle.error();
      --pending_puts_;
      changed_.notify_all();
    });
  }

  void Get(std::vector<TierRead> reads, IoPriority) override {
    for (TierRead& read : reads) {
      Later([this, read = std::move(read)](bool cancelled, int dice) {
        read.done(cancelled ? Fail(ErrorCode::kCancelled, "remote: closed") : Fetch(read, dice));
      });
    }
  }

  Status Erase(std::span<const TierHandle> handles, bool) override {
    const std::lock_guard lock(store_->mutex);
    for (const TierHandle handle : handles) store_->blocks.erase(handle);
    return {};
  }
  int64_t stored_block_bytes() const override { return layout_.block_bytes(); }
  Status Flush() override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return pending_puts_ == 0; });
    if (auto error = std::exchange(flush_error_, std::nullopt)) return std::unexpected(*error);
    return {};
  }
  TierStats stats() const override {
    const std::lock_guard lock(store_->mutex);
    TierStats stats;
    stats.capacity_bytes = store_->capacity * layout_.block_bytes();
    stats.blocks = static_cast<int64_t>(store_->blocks.size());
    stats.used_bytes = stats.blocks * layout_.block_bytes();
    stats.read_bytes_per_second = store_->bytes_per_second;
    return stats;
  }

 private:
  using Clock = std::chrono::steady_clock;
  using Work = std::function<void(bool cancelled, int dice)>;

  Status Unlucky(int dice, int thousandths, const char* what) const {
    if (store_->unreachable || dice < thousandths) return Fail(ErrorCode::kIo, "remote: {} failed", what);
    return {};
  }
  Result<TierHandle> Store(const BlockMeta& meta, const KvBlock& block, int dice) {
    FATHOM_CHECK_OK(Unlucky(dice, store_->put_errors, "a write"));
    const std::lock_guard lock(store_->mutex);
    std::erase_if(store_->blocks, [&](const auto& other) { return other.second.meta.key == meta.key; });
    if (static_cast<int64_t>(store_->blocks.size()) >= store_->capacity) return Fail(ErrorCode::kResource, "remote: full");
    const TierHandle handle = store_->next++;
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    store_->blocks[handle] = {meta, std::vector<std::byte>(block.data(), block.data() + layout_.block_bytes()),
                              std::chrono::duration_cast<std::chrono::seconds>(now).count()};
    return handle;
  }
  Status Fetch(const TierRead& read, int dice) {
    FATHOM_CHECK_OK(Unlucky(dice, store_->get_errors, "a read"));
    if (dice >= 1000 - store_->corrupt) return Fail(ErrorCode::kCorrupt, "remote: not what was stored");
    const std::lock_guard lock(store_->mutex);
    const auto found = store_->blocks.find(read.handle);
    if (found == store_->blocks.end()) return Fail(ErrorCode::kNotFound, "remote: no such block");
    const RemoteStore::Block& block = found->second;
    if (block.meta.key != read.meta.key) return Fail(ErrorCode::kCorrupt, "remote: another block");
    const auto bytes = static_cast<size_t>(layout_.layer_bytes());
    for (int64_t layer = read.first_layer; layer < read.first_layer + read.layers; ++layer)
      std::memcpy(read.into->layer(layer), block.rows.data() + static_cast<size_t>(layer) * bytes, bytes);
    return {};
  }

  void Later(Work work) {
    const std::lock_guard lock(mutex_);
    const int latency = store_->most_latency_us;
    const auto delay = std::chrono::microseconds(latency > 0 ? static_cast<int>(random_() % static_cast<unsigned>(latency)) : 0);
    waiting_.emplace(Clock::now() + delay, std::pair(std::move(work), static_cast<int>(random_() % 1000)));
    changed_.notify_all();
  }
  void Run() {
    std::unique_lock lock(mutex_);
    while (!stop_ || !waiting_.empty()) {
      if (waiting_.empty()) {
        changed_.wait(lock);
        continue;
      }
      if (!stop_ && store_->held) {
        changed_.wait_for(lock, std::chrono::milliseconds(1));
        continue;
      }
      const auto first = waiting_.begin();
      if (!stop_ && first->first > Clock::now()) {
        const auto due = first->first;
        changed_.wait_until(lock, due);
        continue;
      }
      const auto [work, dice] = std::move(first->second);
      waiting_.erase(first);
      const bool cancelled = stop_;
      lock.unlock();
      work(cancelled, dice);
      lock.lock();
    }
  }

  const std::shared_ptr<RemoteStore> store_;
  const KvLayout layout_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::multimap<Clock::time_point, std::pair<Work, int>> waiting_;
  std::mt19937 random_{20261123};
  std::optional<Error> flush_error_;
  int64_t pending_puts_ = 0;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace fathom
