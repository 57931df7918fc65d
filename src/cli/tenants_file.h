// What each tenant of `fathom serve` may take: the TOML file of --tenants.
//
//   [tenant.alice]
//   cache_ram = "1GiB"           # sizes as at the command line; 0: none of it
//   cache_disk = "10GiB"
//   cache_pinned = "512MiB"      # of it, what pinning may keep
//   ttl_hours = 24               # 0: never forgotten
//   requests_per_minute = 60     # 0: any number
//   concurrent = 4
//
// What a section does not say is as the options have it for everybody. Names are the tenants of the API keys. Plain
// functions, thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/result.h"
#include "cache/kv_cache.h"
#include "server/tenant_gate.h"

namespace fathom {

struct TenantRules {
  TenantLimits limits;
  TenantQuota quota;
};

/// Hours as seconds; more than none is at least one second.
int64_t TtlSeconds(double hours);

/// The sections' rules, by tenant; `defaults` where they are silent. where: the file's name for messages. Errors:
/// kInvalidArgument with line and field.
Result<std::map<std::string, TenantRules>> ParseTenants(std::string_view text, const std::string& where,
                                                        const TenantRules& defaults);
/// As above, of a file. Errors also: kNotFound, kIo.
Result<std::map<std::string, TenantRules>> LoadTenants(const std::string& path, const TenantRules& defaults);

}  // namespace fathom
