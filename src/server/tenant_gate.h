// How much one tenant may ask at once and in a minute. Thread-safe.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "server/api_error.h"

namespace fathom {

struct TenantQuota {
  double requests_per_minute = 0;  // 0: no limit; a minute's worth may come at once
  int32_t concurrent = 0;          // requests in work, 0: no limit
};

class TenantGate {
 public:
  using Clock = std::chrono::steady_clock;
  /// named: of tenants that have one of their own.
  explicit TenantGate(const TenantQuota& quota, std::map<std::string, TenantQuota> named = {})
      : quota_(quota), named_(std::move(named)) {}

  /// A place that is given back when the last reference goes. Errors: 429 with Retry-After. Tenants come from keys, so
  /// that they are few. `now` is for tests.
  ApiResult<std::shared_ptr<void>> Enter(const std::string& tenant, Clock::time_point now = Clock::now());

 private:
  struct State {
    double allowance = 0;
    Clock::time_point counted;
    bool seen = false;
    int32_t running = 0;
  };
  struct Shared {  // places may be given back after the limits are gone
    std::mutex mutex;
    std::map<std::string, State> tenants;
  };
  const TenantQuota quota_;
  const std::map<std::string, TenantQuota> named_;
  const std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

}  // namespace fathom
