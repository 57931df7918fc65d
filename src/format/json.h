// JSON from files that nobody vouches for: parsed without exceptions, nesting bounded, fields read with their type
// and range checked and named in the error. Plain functions; thread-safe.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace fathom {

/// How deep arrays and objects are nested (brackets outside strings), without recursion: to be asked before what recurses.
int JsonDepth(std::string_view text);
/// The text as JSON, which must be an object; kCorrupt when it is not, or is nested deeper than max_depth.
Result<nlohmann::json> ParseJsonObject(std::string_view text, int max_depth = 64);

/// Reads fields of an object. A field that is null counts as absent. Errors (kCorrupt) name the field with `where`.
class JsonFields {
 public:
  /// The object must outlive this.
  explicit JsonFields(const nlohmann::json& object, std::string where = "")
      : object_(object), where_(std::move(where)) {}

  /// nullptr when absent or null.
  const nlohmann::json* Find(std::string_view key) const;
  bool Has(std::string_view key) const { return Find(key) != nullptr; }
  /// Present at all, be it null.
  bool Mentions(std::string_view key) const { return object_.contains(std::string(key)); }

  Result<std::optional<int32_t>> OptionalInt(std::string_view key) const;  // 0 … 2^31-1; 4.0 counts as 4
  Result<std::optional<float>> OptionalFloat(std::string_view key) const;  // finite
  Result<std::optional<bool>> OptionalBool(std::string_view key) const;
  Result<std::optional<std::string>> OptionalString(std::string_view key) const;
  Result<int32_t> Int(std::string_view key) const;
  Result<int32_t> Int(std::string_view key, int32_t fallback) const;
  Result<float> Float(std::string_view key, float fallback) const;
  Result<bool> Bool(std::string_view key, bool fallback) const;
  Result<std::string> String(std::string_view key, std::string fallback) const;

  std::string Name(std::string_view key) const;

 private:
  std::unexpected<Error> Wrong(std::string_view key, std::string_view wanted) const;
  const nlohmann::json& object_;
  std::string where_;
};

}  // namespace fathom
