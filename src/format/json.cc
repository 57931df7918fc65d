#include "format/json.h"

#include <cmath>
#include <limits>

#include "format/printable.h"

namespace fathom {

int JsonDepth(std::string_view text) {
  int depth = 0, deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

Result<nlohmann::json> ParseJsonObject(std::string_view text, int max_depth) {
  if (JsonDepth(text) > max_depth) return Fail(ErrorCode::kCorrupt, "JSON nested more than {} deep", max_depth);
  auto json = nlohmann::json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return Fail(ErrorCode::kCorrupt, "not valid JSON");
  if (!json.is_object()) return Fail(ErrorCode::kCorrupt, "a JSON object is expected, not {}", json.type_name());
  return json;
}

std::string JsonFields::Name(std::string_view key) const {
  return where_.empty() ? std::string(key) : fmt::format("{}.{}", where_, key);
}

std::unexpected<Error> JsonFields::Wrong(std::string_view key, std::string_view wanted) const {
  return Fail(ErrorCode::kCorrupt, "{} is {}; {} is expected", Name(key),
              PrintableName(Find(key)->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), 40), wanted);
}

const nlohmann::json* JsonFields::Find(std::string_view key) const {
  const auto found = object_.find(std::string(key));
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

Result<std::optional<int32_t>> JsonFields::OptionalInt(std::string_view key) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  constexpr double kMost = std::numeric_limits<int32_t>::max();
  if (!value->is_number()) return Wrong(key, "an integer");
  const double number = value->get<double>();
  if (!(number >= 0 && number <= kMost) || number != std::floor(number)) {
    return Wrong(key, "an integer from 0 to 2147483647");
  }
  return static_cast<int32_t>(number);
}

Result<std::optional<float>> JsonFields::OptionalFloat(std::string_view key) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) return Wrong(key, "a number");
  const double number = value->get<double>();
  if (!(std::abs(number) <= std::numeric_limits<float>::max())) return Wrong(key, "a finite number");
  return static_cast<float>(number);
}

Result<std::optional<bool>> JsonFields::OptionalBool(std::string_view key) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) return Wrong(key, "true or false");
  return value->get<bool>();
}

Result<std::optional<std::string>> JsonFields::OptionalString(std::string_view key) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) return Wrong(key, "a string");
  return value->get<std::string>();
}

Result<int32_t> JsonFields::Int(std::string_view key) const {
  FATHOM_TRY(const auto value, OptionalInt(key));
  if (!value) return Fail(ErrorCode::kCorrupt, "{} is missing", Name(key));
  return *value;
}

Result<int32_t> JsonFields::Int(std::string_view key, int32_t fallback) const {
  FATHOM_TRY(const auto value, OptionalInt(key));
  return value.value_or(fallback);
}

Result<float> JsonFields::Float(std::string_view key, float fallback) const {
  FATHOM_TRY(const auto value, OptionalFloat(key));
  return value.value_or(fallback);
}

Result<bool> JsonFields::Bool(std::string_view key, bool fallback) const {
  FATHOM_TRY(const auto value, OptionalBool(key));
  return value.value_or(fallback);
}

Result<std::string> JsonFields::String(std::string_view key, std::string fallback) const {
  FATHOM_TRY(auto value, OptionalString(key));
  return std::move(value).value_or(std::move(fallback));
}

}  // namespace fathom
