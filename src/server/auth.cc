#include "server/auth.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

namespace fathom {
namespace {

constexpr size_t kMaxNameLength = 64;

std::array<unsigned char, 32> Hash(std::string_view text) {
  std::array<unsigned char, 32> hash;
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), hash.data());
  return hash;
}

bool FromHex(std::string_view text, std::array<unsigned char, 32>& out) {
  if (text.size() != 64) return false;
  const auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  for (size_t i = 0; i < 32; ++i) {
    const int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    out[i] = static_cast<unsigned char>(high * 16 + low);
  }
  return true;
}

}  // namespace

bool GoodTenantName(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameLength && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  });
}

Result<ApiKeys> ApiKeys::Load(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return Fail(ErrorCode::kNotFound, "{}: cannot be read ({})\nMake a key with 'fathom serve --new-api-key NAME'.", path,
                std::strerror(errno));
  }
  std::ostringstream text;
  text << file.rdbuf();
  return Parse(text.str(), path);
}

Result<ApiKeys> ApiKeys::Parse(std::string_view text, const std::string& where) {
  ApiKeys keys;
  std::istringstream lines{std::string(text)};
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    std::istringstream words(line);
    std::vector<std::string> parts;
    for (std::string word; words >> word;) parts.push_back(word);
    if (parts.empty() || parts.front().starts_with('#')) continue;
    Key key;
    if (parts.size() > 2 && parts.back() == "admin") {
      key.caller.admin = true;
      parts.pop_back();
    }
    if (parts.size() < 2 || parts.size() > 3 || !GoodTenantName(parts[0]) || (parts.size() == 3 && !GoodTenantName(parts[2])) ||
        !FromHex(parts[1], key.hash)) {
      return Fail(ErrorCode::kInvalidArgument,
                  "{}: line {} is not 'NAME SHA256 [TENANT] [admin]'\n'fathom serve --new-api-key NAME' prints such a "
                  "line.", where, number);
    }
    key.caller.key_name = parts[0];
    key.caller.tenant = parts.size() == 3 ? parts[2] : parts[0];
    keys.keys_.push_back(std::move(key));
  }
  if (keys.empty()) {
    return Fail(ErrorCode::kInvalidArgument, "{}: has no key\n'fathom serve --new-api-key NAME' prints a line for it.",
                where);
  }
  return keys;
}

bool ApiKeys::HasTenant(std::string_view tenant) const {
  return std::ranges::any_of(keys_, [&](const Key& key) { return key.caller.tenant == tenant; });
}

const Caller* ApiKeys::Find(std::string_view key) const {
  const auto hash = Hash(key);
  const Caller* found = nullptr;
  // All of them, so that the time does not tell which one it was.
  for (const Key& known : keys_) {
    if (CRYPTO_memcmp(known.hash.data(), hash.data(), hash.size()) == 0) found = &known.caller;
  }
  return found;
}

Result<FreshKey> MakeApiKey(const std::string& name, const std::string& tenant) {
  if (!GoodTenantName(name) || (!tenant.empty() && !GoodTenantName(tenant))) {
    return Fail(ErrorCode::kInvalidArgument, "a key's name has 1 to {} letters, digits, '.', '_' or '-'", kMaxNameLength);
  }
  unsigned char bytes[32];
  if (RAND_bytes(bytes, sizeof bytes) != 1) return Fail(ErrorCode::kInternal, "no random bytes from the system");
  FreshKey fresh{.key = "fsk-", .line = {}};
  for (const unsigned char byte : bytes) fresh.key += fmt::format("{:02x}", byte);
  OPENSSL_cleanse(bytes, sizeof bytes);
  fresh.line = name + " ";
  for (const unsigned char byte : Hash(fresh.key)) fresh.line += fmt::format("{:02x}", byte);
  if (!tenant.empty()) fresh.line += " " + tenant;
  return fresh;
}

std::string_view BearerToken(std::string_view authorization) {
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() <= kScheme.size()) return {};
  for (size_t i = 0; i < kScheme.size(); ++i) {
    const char c = authorization[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c) != kScheme[i]) return {};
  }
  std::string_view token = authorization.substr(kScheme.size());
  while (token.starts_with(' ')) token.remove_prefix(1);
  while (token.ends_with(' ')) token.remove_suffix(1);
  return token;
}

}  // namespace fathom
