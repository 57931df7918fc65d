#include "server/origin_guard.h"

#include <arpa/inet.h>

#include <algorithm>

namespace fathom {
namespace {

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return out;
}

bool Listed(const std::vector<std::string>& list, std::string_view value) {
  return std::ranges::any_of(list, [&](const std::string& one) { return one == "*" || Lower(one) == value; });
}

}  // namespace

std::string HostName(std::string_view host) {
  std::string_view name, port;
  if (host.starts_with('[')) {
    const size_t end = host.find(']');
    if (end == std::string_view::npos) return {};
    name = host.substr(1, end - 1);
    port = host.substr(end + 1);
    if (!port.empty() && port.front() != ':') return {};
  } else {
    const size_t colon = host.find(':');
    name = host.substr(0, colon);
    if (colon != std::string_view::npos) port = host.substr(colon);
  }
  if (!port.empty()) port.remove_prefix(1);
  if (!std::ranges::all_of(port, [](char c) { return c >= '0' && c <= '9'; }) || port.size() > 5) return {};
  if (name.ends_with('.')) name.remove_suffix(1);
  const bool good = !name.empty() && name.size() <= 255 && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' ||
           c == '_' || c == ':' || c == '%';
  });
  return good ? Lower(name) : std::string();
}

bool IsAddressLiteral(std::string_view host) {
  const std::string text(host);
  in6_addr address;
  return inet_pton(AF_INET, text.c_str(), &address) == 1 || inet_pton(AF_INET6, text.c_str(), &address) == 1;
}

bool IsLoopbackName(std::string_view host) {
  if (host == "localhost" || host.ends_with(".localhost")) return true;
  const std::string text(host);
  in_addr v4;
  if (inet_pton(AF_INET, text.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6;
  return inet_pton(AF_INET6, text.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

OriginCheck CheckOrigin(const HttpHead& head, const OriginRules& rules) {
  const std::string_view host = head.Header("host");
  const std::string name = HostName(host);
  // An address cannot be rebound: whoever serves a page from it is this server or not reachable by the same name.
  const bool known = !name.empty() && head.CountHeader("host") == 1 &&
                     (IsLoopbackName(name) || IsAddressLiteral(name) || Listed(rules.allowed_hosts, name));
  if (!known) return {OriginVerdict::kBadHost, {}};
  const std::string origin = Lower(head.Header("origin"));
  if (origin.empty()) return {};
  if (Listed(rules.cors_origins, origin)) return {OriginVerdict::kFine, origin};
  const std::string here = Lower(host);
  if (origin == "http://" + here || origin == "https://" + here) return {};
  return {OriginVerdict::kBadOrigin, {}};
}

}  // namespace fathom
