// A cache manager whose device may hang for good: opening, forgetting, verifying, collecting, Flush and the destructor wait
// as long as something still happens, and then for so many seconds; after that they say so and leave. What the device still
// holds on to (memory that it may write into, threads that wait for it) is then never freed; while it does not answer, all of
// these fail at once. Internal to cache/.
//
// Thread-safe as KvCache is.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cache/kv_cache_impl.h"

namespace fathom {

class GuardedKvCache final : public KvCache {
 public:
  GuardedKvCache(std::unique_ptr<KvCacheImpl> impl, const CacheOptions& options)
      : impl_(impl.release()), patience_(options.hang_seconds), directory_(options.directory) {}
  ~GuardedKvCache() override;
  /// KvCacheImpl::Open. After an error there is nothing to do but to destroy this.
  Status Open();

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
  Result<int64_t> Forget(std::string_view tenant, std::span<const int32_t> tokens, bool everything) override;
  Result<int64_t> ForgetTenant(std::string_view tenant) override;
  Result<std::pair<int64_t, int64_t>> Verify(
      const std::function<bool(int64_t done, int64_t total)>& progress) override;
  Result<int64_t> CollectGarbage() override;
  std::vector<CacheEntryInfo> List() const override { return impl_->List(); }
  Status Flush() override;
  CacheStats stats() const override { return impl_->stats(); }
  Status Check() const override { return impl_->Check(); }

 private:
  struct Call;

  /// Runs it on a thread of its own and waits for it, as the header says. It may not have ended then; so it must own all that
  /// it uses but impl_.
  std::shared_ptr<Call> Run(std::function<Status()> fn);
  /// What fn says; or that the device does not answer, and the consequence. fn as for Run.
  Status Guard(std::string_view consequence, std::function<Status()> fn);
  template <typename T>
  Result<T> GuardResult(std::string_view consequence, std::function<Result<T>()> fn);
  bool AnyStuck();

  KvCacheImpl* const impl_;  // deleted by the destructor, unless somebody is stuck in it
  const double patience_;
  const std::string directory_;  // for messages; may be empty
  std::mutex mutex_;
  std::vector<std::shared_ptr<Call>> stuck_;  // calls that had not come back
};

}  // namespace fathom
