// HTTP as the server's upper floors see it: no sockets, no Beast. Plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fathom {

struct HttpHead {
  std::string method;  // "GET", …
  std::string path;    // percent-decoded, without query
  std::string query;   // as it came
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case

  /// Empty when absent; the first of several.
  std::string_view Header(std::string_view name) const {
    for (const auto& [key, value] : headers) {
      if (key == name) return value;
    }
    return {};
  }
  int CountHeader(std::string_view name) const {
    int count = 0;
    for (const auto& header : headers) count += header.first == name;
    return count;
  }
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
};

/// Status line and headers, with the empty line. length: of the body; none for a stream or an answer without one.
/// REQUIRES: headers without line breaks.
std::string FormatHead(const HttpResponse& response, const std::vector<std::pair<std::string, std::string>>& more,
                       bool keep_alive, std::optional<size_t> length);

/// "OK", "Not Found", …
std::string_view StatusText(int status);

/// The text with %XX resolved; false when a % is not followed by two hex digits or a NUL would come out.
bool PercentDecode(std::string_view text, std::string& out);

/// The value of `name` in a query string, percent-decoded, + as space; empty when absent.
std::string QueryValue(std::string_view query, std::string_view name);

}  // namespace fathom
