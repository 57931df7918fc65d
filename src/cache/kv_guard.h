// A cache manager whose device may hang for good: Flush and the destructor wait as long as something still happens, and
// then for so many seconds; after that they say so and leave. What the device still holds on to (memory that it may write
// into, threads that wait for it) is then never freed. Internal to cache/.
//
// Thread-safe as KvCache is.
#pragma once

#include <memory>
#include <mutex>

#include "cache/kv_cache_impl.h"

namespace fathom {

class GuardedKvCache final : public KvCache {
 public:
  GuardedKvCache(std::unique_ptr<KvCacheImpl> impl, double patience) : impl_(impl.release()), patience_(patience) {}
  ~GuardedKvCache() override;

  KvPrefix Acquire(std::string_view tenant, std::span<const int32_t> tokens, int64_t most) override {
    return impl_->Acquire(tenant, tokens, most);
  }
  KvPrefix Explain(std::string_view tenant, std::span<const int32_t> tokens) const override {
    return impl_->Explain(tenant, tokens);
  }
  void Prefetch(std::string_view tenant, std::span<const int32_t> tokens) override { impl_->Prefetch(tenant, tokens); }
  void Keep(std::string_view tenant, std::span<const int32_t> tokens, std::span<const KvBlockRef> blocks,
            bool tail, KeepCursor* cursor) override {
    impl_->Keep(tenant, tokens, blocks, tail, cursor);
  }
  void KeepLogits(std::string_view tenant, std::span<const int32_t> tokens, std::span<const float> logits) override {
    impl_->KeepLogits(tenant, tokens, logits);
  }
  void SetRates(const ComputeRates& rates) override { impl_->SetRates(rates); }
  Result<int64_t> Pin(std::string_view tenant, std::span<const int32_t> tokens, bool pinned) override {
    return impl_->Pin(tenant, tokens, pinned);
  }
  Result<int64_t> Forget(std::string_view tenant, std::span<const int32_t> tokens, bool everything) override {
    return impl_->Forget(tenant, tokens, everything);
  }
  Result<int64_t> ForgetTenant(std::string_view tenant) override { return impl_->ForgetTenant(tenant); }
  Result<std::pair<int64_t, int64_t>> Verify(
      const std::function<bool(int64_t done, int64_t total)>& progress) override {
    return impl_->Verify(progress);
  }
  Result<int64_t> CollectGarbage() override { return impl_->CollectGarbage(); }
  std::vector<CacheEntryInfo> List() const override { return impl_->List(); }
  Status Flush() override;
  CacheStats stats() const override { return impl_->stats(); }
  Status Check() const override { return impl_->Check(); }

 private:
  struct Call;

  /// Runs it on a thread of its own and waits for it, as the header says; nullptr: it has not come back.
  std::shared_ptr<Call> Run(std::function<Status()> fn, bool* ended);

  KvCacheImpl* const impl_;  // deleted by the destructor, unless somebody is stuck in it
  const double patience_;
  std::mutex flush_mutex_;
  std::shared_ptr<Call> stuck_;  // a flush that had not come back
};

}  // namespace fathom
