#include "server/tenant_gate.h"

#include <algorithm>
#include <cmath>

namespace fathom {

ApiResult<std::shared_ptr<void>> TenantGate::Enter(const std::string& tenant, Clock::time_point now) {
  const auto named = named_.find(tenant);
  const TenantQuota& quota = named != named_.end() ? named->second : quota_;
  const std::lock_guard lock(shared_->mutex);
  State* state = &shared_->tenants[tenant];  // never erased
  if (quota.concurrent > 0 && state->running >= quota.concurrent) {
    return std::unexpected(ApiError{429, fmt::format("Too many requests at once: {} are in work and {} are allowed.",
                                                     state->running, quota.concurrent),
                                    "", "concurrency_limit_exceeded", 1});
  }
  if (quota.requests_per_minute > 0) {
    const double per_second = quota.requests_per_minute / 60, most = std::max(1.0, quota.requests_per_minute);
    if (!state->seen) {
      state->allowance = most;
    } else {
      const double passed = std::chrono::duration<double>(now - state->counted).count();
      state->allowance = std::min(most, state->allowance + std::max(0.0, passed) * per_second);
    }
    state->seen = true;
    state->counted = now;
    if (state->allowance < 1) {
      const double wait = (1 - state->allowance) / per_second;
      return std::unexpected(ApiError{429, fmt::format("Rate limit reached: {} requests a minute.",
                                                       quota.requests_per_minute),
                                      "", "rate_limit_exceeded", static_cast<int>(std::ceil(wait))});
    }
    state->allowance -= 1;
  }
  ++state->running;
  return std::shared_ptr<void>(state, [shared = shared_](void* place) {
    const std::lock_guard inner(shared->mutex);
    --static_cast<State*>(place)->running;
  });
}

}  // namespace fathom
