// A KV cache in a few lines, for tests of what uses one: every kept block by its tokens, in memory, for ever or until the
// pool asks for it. On request its rows "come from a disk": late, not at all, or in part.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "cache/kv_cache.h"

namespace fathom {

class KvCacheForTest final : public KvCache {
 public:
  struct Faults {
    double load_seconds = 0;        // > 0: every hit is loaded, and its layers arrive evenly over this time
    int64_t fail_after_tokens = -1;  // >= 0: a load brings only so many tokens, and says so at its first layer: the other
                                     // layers of those tokens come later
    bool hang = false;               // Done() never comes; WaitLayer gives up after hang_seconds
    double hang_seconds = 0.05;
    double patience = 10;            // seconds after which WaitLayer gives up
    bool forget_logits = false;
  };

  explicit KvCacheForTest(KvPool& pool) : pool_(pool) {
    pool.SetReclaimer([this] { return Reclaim(); });
  }
  ~KvCacheForTest() override { pool_.SetReclaimer({}); }

  class Load final : public KvLoad {
   public:
    Load(const Faults& faults, int64_t layers, std::vector<std::pair<KvBlockRef, KvBlockRef>> copies,
         const KvLayout& layout, int64_t tokens)
        : faults_(faults), layers_(layers), copies_(std::move(copies)), layout_(layout), tokens_(tokens) {}
    // Copies a layer's rows at the last moment, so that whoever reads without waiting reads rubbish.
    bool WaitLayer(int64_t layer) override {
      std::lock_guard lock(mutex_);
      if (faults_.hang) {
        std::this_thread::sleep_for(std::chrono::duration<double>(faults_.hang_seconds));
        return false;
      }
      if (faults_.fail_after_tokens >= 0 && !told_) {
        told_ = true;
        tokens_ = std::min(tokens_.load(), faults_.fail_after_tokens / KvLayout::kBlockTokens * KvLayout::kBlockTokens);
        copies_.resize(static_cast<size_t>((tokens_ + KvLayout::kBlockTokens - 1) / KvLayout::kBlockTokens));
        return false;
      }
      if (faults_.load_seconds > faults_.patience) {
        std::this_thread::sleep_for(std::chrono::duration<double>(faults_.patience));
        tokens_ = 0;
        return false;
      }
      for (; arrived_ <= layer; ++arrived_) {
        std::this_thread::sleep_until(start_ + std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                                                   std::chrono::duration<double>(faults_.load_seconds *
                                                                                 static_cast<double>(arrived_ + 1) /
                                                                                 static_cast<double>(layers_))));
        for (const auto& [from, to] : copies_)
          std::memcpy(to->layer(arrived_), from->layer(arrived_), static_cast<size_t>(layout_.layer_bytes()));
      }
      return true;
    }
    bool Done() const override {
      return !faults_.hang && std::chrono::steady_clock::now() - start_ > std::chrono::duration<double>(faults_.load_seconds);
    }
    int64_t valid_tokens() const override {
      return faults_.hang ? 0 : tokens_.load();
    }

   private:
    Faults faults_;
    int64_t layers_;
    std::vector<std::pair<KvBlockRef, KvBlockRef>> copies_;
    KvLayout layout_;
    std::atomic<int64_t> tokens_;
    int64_t arrived_ = 0;
    bool told_ = false;
    std::mutex mutex_;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  };

  KvPrefix Acquire(std::string_view tenant, std::span<const int32_t> tokens, int64_t most) override {
    std::unique_lock lock(mutex_);
    ++stats_.lookups;
    KvPrefix prefix = Look(tenant, tokens, most);
    stats_.hit_tokens += prefix.tokens;
    if (faults.load_seconds <= 0 && !faults.hang && faults.fail_after_tokens < 0) return prefix;
    lock.unlock();
    std::vector<std::pair<KvBlockRef, KvBlockRef>> copies;
    std::vector<KvBlockRef> empty;
    for (const KvBlockRef& block : prefix.blocks) {
      auto fresh = pool_.Take();
      if (!fresh) break;
      std::memset((*fresh)->data(), 0x5a, static_cast<size_t>(pool_.layout().block_bytes()));
      copies.emplace_back(block, *fresh);
      empty.push_back(*fresh);
    }
    prefix.tokens = std::min(prefix.tokens, static_cast<int64_t>(empty.size()) * KvLayout::kBlockTokens);
    prefix.disk_tokens = prefix.tokens;
    prefix.memory_tokens = 0;
    prefix.blocks = std::move(empty);
    if (prefix.tokens > 0) {
      prefix.load = std::make_shared<Load>(faults, pool_.layout().layers, std::move(copies), pool_.layout(), prefix.tokens);
    }
    return prefix;
  }
  KvPrefix Explain(std::string_view tenant, std::span<const int32_t> tokens) const override {
    std::lock_guard lock(mutex_);
    return Look(tenant, tokens, static_cast<int64_t>(tokens.size()));
  }
  void Prefetch(std::string_view, std::span<const int32_t>) override { ++prefetches; }
  void Keep(std::string_view tenant, std::span<const int32_t> tokens, std::span<const KvBlockRef> blocks,
            bool tail, KeepCursor* cursor) override {
    std::lock_guard lock(mutex_);
    constexpr auto kBlock = static_cast<size_t>(KvLayout::kBlockTokens);
    EXPECT_GE(blocks.size() * kBlock, tokens.size());
    const auto begin = static_cast<size_t>(cursor != nullptr ? cursor->blocks : 0);
    EXPECT_LE(begin * kBlock, tokens.size());
    // What a cursor passes over must have been kept: the blocks there are those that were given then.
    for (size_t i = 0; i < begin && i * kBlock < tokens.size(); ++i)
      EXPECT_TRUE(ever_kept_.contains(Key(tenant, tokens.first(std::min(tokens.size(), (i + 1) * kBlock)))));
    for (size_t i = begin; i * kBlock < tokens.size(); ++i) {
      const size_t end = std::min(tokens.size(), (i + 1) * kBlock);
      if (end < (i + 1) * kBlock && !tail) break;
      ever_kept_.insert(Key(tenant, tokens.first(end)));
      if (cursor != nullptr && end == (i + 1) * kBlock) cursor->blocks = static_cast<int64_t>(i) + 1;
      kept_.emplace(Key(tenant, tokens.first(end)), blocks[i]);
    }
  }
  void KeepLogits(std::string_view tenant, std::span<const int32_t> tokens, std::span<const float> logits) override {
    std::lock_guard lock(mutex_);
    logits_[Key(tenant, tokens)].assign(logits.begin(), logits.end());
  }
  void SetRates(const ComputeRates& rates) override {
    std::lock_guard lock(mutex_);
    last_rates = rates;
  }
  Result<int64_t> Pin(std::string_view, std::span<const int32_t>, bool) override { return 0; }
  Result<int64_t> Forget(std::string_view, std::span<const int32_t>, bool) override { return 0; }
  Result<int64_t> ForgetTenant(std::string_view) override { return 0; }
  Result<std::pair<int64_t, int64_t>> Verify(const std::function<bool(int64_t, int64_t)>&) override { return {}; }
  Result<int64_t> CollectGarbage() override { return 0; }
  std::vector<CacheEntryInfo> List() const override { return {}; }
  Status Flush() override {
    ++flushes;
    return {};
  }
  CacheStats stats() const override {
    std::lock_guard lock(mutex_);
    return stats_;
  }
  Status Check() const override { return {}; }

  void Clear() {
    std::lock_guard lock(mutex_);
    kept_.clear();
    logits_.clear();
  }
  size_t kept() const {
    std::lock_guard lock(mutex_);
    return kept_.size();
  }

  Faults faults;  // set while nothing runs
  std::atomic<int> prefetches{0}, flushes{0};
  ComputeRates last_rates;

 private:
  using Tokens = std::pair<std::string, std::vector<int32_t>>;
  static Tokens Key(std::string_view tenant, std::span<const int32_t> tokens) {
    return {std::string(tenant), {tokens.begin(), tokens.end()}};
  }

  KvPrefix Look(std::string_view tenant, std::span<const int32_t> tokens, int64_t most) const {
    constexpr int64_t kBlock = KvLayout::kBlockTokens;
    KvPrefix prefix;
    const auto all = std::min(most, static_cast<int64_t>(tokens.size()));
    while (prefix.tokens < all && prefix.tokens % kBlock == 0) {
      // The kept sequence with the longest common part in the next block.
      const auto begin = Key(tenant, tokens.first(static_cast<size_t>(prefix.tokens)));
      int64_t best = 0;
      KvBlockRef block;
      for (auto it = kept_.lower_bound(begin); it != kept_.end() && it->first.first == tenant; ++it) {
        const auto& known = it->first.second;
        const int64_t common = std::mismatch(known.begin(), known.end(), tokens.begin(), tokens.begin() + all).first - known.begin();
        if (common < prefix.tokens) break;
        const auto size = static_cast<int64_t>(known.size());
        if (size <= prefix.tokens || size > prefix.tokens + kBlock || common - prefix.tokens <= best) continue;
        best = common - prefix.tokens;
        block = it->second;
      }
      if (best == 0) break;
      prefix.tokens += best;
      prefix.blocks.push_back(block);
    }
    prefix.memory_tokens = prefix.tokens;
    prefix.reason = "test";
    const auto logits = logits_.find(Key(tenant, tokens));
    if (prefix.tokens == static_cast<int64_t>(tokens.size()) && logits != logits_.end() && !faults.forget_logits) {
      prefix.last_logits = logits->second;
    }
    return prefix;
  }
  bool Reclaim() {
    std::lock_guard lock(mutex_);
    for (auto it = kept_.begin(); it != kept_.end(); ++it) {
      if (it->second.use_count() > 1) continue;
      kept_.erase(it);
      return true;
    }
    return false;
  }

  KvPool& pool_;
  mutable std::mutex mutex_;
  std::map<Tokens, KvBlockRef> kept_;
  std::set<Tokens> ever_kept_;
  std::map<Tokens, std::vector<float>> logits_;
  CacheStats stats_;
};

}  // namespace fathom
