// Between Beast's messages and http_types.h. Pure functions.
#pragma once

#include <boost/beast/http/fields.hpp>
#include <boost/beast/http/message.hpp>

#include "server/http_types.h"

namespace fathom {

/// False when the target is no path ("/…") or decodes to something that cannot be one.
template <typename Request>
bool ToHead(const Request& request, HttpHead& head) {
  head.method = std::string(request.method_string());
  std::string_view target(request.target().data(), request.target().size());
  // A proxy's absolute form: scheme and host are as in Host.
  if (target.starts_with("http://")) {
    const size_t slash = target.find('/', 7);
    target = slash == std::string_view::npos ? std::string_view("/") : target.substr(slash);
  }
  if (target.find('#') != std::string_view::npos) return false;
  const size_t question = target.find('?');
  if (question != std::string_view::npos) head.query = target.substr(question + 1);
  for (const auto& field : request) {
    std::string name(field.name_string());
    for (char& c : name) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
    }
    head.headers.emplace_back(std::move(name), std::string(field.value()));
  }
  if (head.method == "OPTIONS" && target == "*") {
    head.path = "/";
    return true;
  }
  return target.starts_with('/') && PercentDecode(target.substr(0, question), head.path);
}

}  // namespace fathom
