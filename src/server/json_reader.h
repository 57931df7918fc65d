// JSON from clients: parsed without exceptions, nesting bounded, fields read with type and range checked and named in
// the error as the real APIs do. A field that is null counts as absent. Plain functions, thread-safe.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "server/api_error.h"

namespace fathom {

using ordered_json = nlohmann::ordered_json;

/// A request's body, which must be an object of valid UTF-8 nested at most `max_depth` deep.
ApiResult<nlohmann::json> ParseBody(std::string_view text, int max_depth);

/// One line without line breaks; bytes that are no UTF-8 become U+FFFD (a token may end inside a character).
std::string Dump(const ordered_json& value);

/// "a string", "a number", "an array", …
std::string_view JsonTypeName(const nlohmann::json& value);

class RequestFields {
 public:
  /// The object must outlive this. prefix: before names in errors ("messages[3].").
  explicit RequestFields(const nlohmann::json& object, std::string prefix = "")
      : object_(object), prefix_(std::move(prefix)) {}

  /// nullptr when absent or null.
  const nlohmann::json* Find(std::string_view key) const;
  std::string Name(std::string_view key) const { return prefix_ + std::string(key); }

  ApiResult<std::optional<std::string>> String(std::string_view key) const;
  ApiResult<std::optional<bool>> Bool(std::string_view key) const;
  /// Whole numbers in [low, high]; 4.0 counts as 4.
  ApiResult<std::optional<int64_t>> Int(std::string_view key, int64_t low, int64_t high) const;
  ApiResult<std::optional<double>> Number(std::string_view key, double low, double high) const;
  ApiResult<const nlohmann::json*> Object(std::string_view key) const;  // nullptr when absent
  ApiResult<const nlohmann::json*> Array(std::string_view key) const;
  /// A string or an array of at most `most` strings, none of them empty.
  ApiResult<std::vector<std::string>> Strings(std::string_view key, size_t most) const;

  std::unexpected<ApiError> WrongType(std::string_view key, std::string_view wanted) const;

 private:
  const nlohmann::json& object_;
  std::string prefix_;
};

}  // namespace fathom
