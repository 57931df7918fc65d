// Who may ask: API keys, kept as hashes. A key is 32 random bytes, so a plain SHA-256 of it cannot be reversed; what is
// presented is hashed and compared with every stored hash in constant time.
//
// A file has one key a line: `name sha256hex [tenant] [admin]`; empty lines and lines that begin with # are skipped.
// Without a tenant the name is the tenant. Keys with "admin" may do what concerns every tenant's cache.
// Immutable once loaded, thread-safe.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fathom {

struct Caller {
  std::string tenant;    // whose cache; empty: the only one
  std::string key_name;  // for the access log; empty without keys
  bool admin = false;
};

class ApiKeys {
 public:
  /// Errors name the file and line.
  static Result<ApiKeys> Load(const std::string& path);
  static Result<ApiKeys> Parse(std::string_view text, const std::string& where);

  bool empty() const { return keys_.empty(); }
  size_t size() const { return keys_.size(); }
  bool HasTenant(std::string_view tenant) const;
  /// nullptr: unknown.
  const Caller* Find(std::string_view key) const;

 private:
  struct Key {
    std::array<unsigned char, 32> hash;
    Caller caller;
  };
  std::vector<Key> keys_;
};

/// Names of keys and tenants: 1 to 64 letters, digits, '.', '_' or '-'.
bool GoodTenantName(std::string_view name);

struct FreshKey {
  std::string key;   // "fsk-…", shown once
  std::string line;  // for the file
};
/// Errors: a name or tenant with other than letters, digits, '.', '_' and '-', or longer than 64.
Result<FreshKey> MakeApiKey(const std::string& name, const std::string& tenant = "");

/// The key in an Authorization header ("Bearer KEY", any case of the scheme); empty when there is none.
std::string_view BearerToken(std::string_view authorization);

}  // namespace fathom
