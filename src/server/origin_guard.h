// Which pages and names may reach the server. A page from elsewhere must not talk to a server on loopback through its
// visitor's browser: neither openly (Origin is checked, CORS by list) nor by DNS rebinding (a name that suddenly means
// 127.0.0.1 still stands in Host, and is refused). Pure functions, thread-safe.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/http_types.h"

namespace fathom {

struct OriginRules {
  std::vector<std::string> allowed_hosts;  // names beside loopback's and literal addresses; "*": any
  std::vector<std::string> cors_origins;   // "https://chat.example.org"; "*": any
};

enum class OriginVerdict {
  kFine,
  kBadHost,    // none, several, or a name that is not ours
  kBadOrigin,  // a page of another origin that is not on the list
};

struct OriginCheck {
  OriginVerdict verdict = OriginVerdict::kFine;
  std::string allow_origin;  // for Access-Control-Allow-Origin; empty: none
};

OriginCheck CheckOrigin(const HttpHead& head, const OriginRules& rules);

/// The host of "host[:port]" or "[v6][:port]" in lower case without brackets; empty when it is malformed.
std::string HostName(std::string_view host);
/// "127.0.0.1", "::1", any 127.x, "localhost" and names below it.
bool IsLoopbackName(std::string_view host);
bool IsAddressLiteral(std::string_view host);

}  // namespace fathom
