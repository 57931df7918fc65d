#include "cli/tenants_file.h"

#include <algorithm>

#include "cli/byte_size.h"
#include "cli/input.h"
#include "server/auth.h"
#include "train/toml_reader.h"

namespace fathom {
namespace {

constexpr double kMostHours = 1e6;
constexpr size_t kMostTenants = 100'000;

void ReadSize(TomlSection& section, std::string_view key, int64_t& out) {
  const toml::node* node = section.Find(key);
  if (node == nullptr) return;
  if (node->is_integer()) return section.Read(key, out, 0, int64_t{1} << 60);
  std::string text;
  section.Read(key, text);
  if (!node->is_string()) return;
  const auto size = ParseByteSize(section.Name(key), text);
  if (!size) return section.Fail(key, size.error().message);
  out = *size;
}

TenantRules ReadRules(TomlSection& section, TenantRules rules) {
  ReadSize(section, "cache_ram", rules.limits.memory_bytes);
  ReadSize(section, "cache_disk", rules.limits.disk_bytes);
  ReadSize(section, "cache_pinned", rules.limits.pinned_bytes);
  double hours = -1;
  section.Read("ttl_hours", hours, 0, kMostHours);
  if (hours >= 0) rules.limits.ttl_seconds = TtlSeconds(hours);
  section.Read("requests_per_minute", rules.quota.requests_per_minute, 0, 1e9);
  section.Read("concurrent", rules.quota.concurrent, 0, 1'000'000);
  section.RefuseUnknown();
  return rules;
}

}  // namespace

int64_t TtlSeconds(double hours) {
  return hours > 0 ? std::max<int64_t>(1, static_cast<int64_t>(hours * 3600)) : 0;
}

Result<std::map<std::string, TenantRules>> ParseTenants(std::string_view text, const std::string& where,
                                                        const TenantRules& defaults) {
  FATHOM_TRY(const toml::table document, ParseToml(text, where, "a tenants file"));
  TomlErrors errors{.source = where, .document = "a tenants file"};
  TomlSection top(&document, "", errors);
  TomlSection tenants = top.Sub("tenant");
  top.RefuseUnknown();
  std::map<std::string, TenantRules> rules;
  if (tenants.present()) {
    for (const auto& [key, node] : *tenants.table()) {
      const std::string name(key.str());
      if (!GoodTenantName(name)) {
        tenants.Fail(name, fmt::format("a tenant's name has 1 to 64 letters, digits, '.', '_' or '-' (a name with a dot is "
                                       "written [tenant.\"a.b\"])"));
        break;
      }
      TomlSection section = tenants.Sub(key.str());
      rules[name] = ReadRules(section, defaults);
    }
  }
  if (errors.first) return std::unexpected(*errors.first);
  if (rules.empty()) {
    return Fail(ErrorCode::kInvalidArgument, "{}: names no tenant\nA section is [tenant.NAME]; docs/server.md has an "
                                             "example.", where);
  }
  if (rules.size() > kMostTenants) {
    return Fail(ErrorCode::kInvalidArgument, "{}: has {} tenants; {} are possible", where, rules.size(), kMostTenants);
  }
  return rules;
}

Result<std::map<std::string, TenantRules>> LoadTenants(const std::string& path, const TenantRules& defaults) {
  FATHOM_TRY(const std::string text, ReadInput(path));
  return ParseTenants(text, path, defaults);
}

}  // namespace fathom
