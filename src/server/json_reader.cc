#include "server/json_reader.h"

#include <cmath>

#include "format/json.h"

namespace fathom {

using nlohmann::json;

ApiResult<json> ParseBody(std::string_view text, int max_depth) {
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    return ApiFail(400, "the request has no body; a JSON object is expected", "invalid_json");
  }
  if (JsonDepth(text) > max_depth) {
    return ApiFail(400, fmt::format("the request's JSON is nested deeper than {}", max_depth), "invalid_json");
  }
  json body = json::parse(text, nullptr, false);
  if (body.is_discarded()) {
    return ApiFail(400, "the request's body is not valid JSON (in UTF-8)", "invalid_json");
  }
  if (!body.is_object()) {
    return ApiFail(400, fmt::format("the request's body must be a JSON object, not {}", JsonTypeName(body)),
                   "invalid_json");
  }
  return body;
}

std::string Dump(const ordered_json& value) {
  return value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

std::string_view JsonTypeName(const json& value) {
  switch (value.type()) {
    case json::value_t::null: return "null";
    case json::value_t::object: return "an object";
    case json::value_t::array: return "an array";
    case json::value_t::string: return "a string";
    case json::value_t::boolean: return "a boolean";
    case json::value_t::number_integer:
    case json::value_t::number_unsigned: return "an integer";
    case json::value_t::number_float: return "a decimal number";
    default: return "something else";
  }
}

const json* RequestFields::Find(std::string_view key) const {
  const auto found = object_.find(std::string(key));
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::unexpected<ApiError> RequestFields::WrongType(std::string_view key, std::string_view wanted) const {
  const json* value = Find(key);
  return BadField(Name(key),
                  fmt::format("Invalid type for '{}': expected {}, but got {} instead.", Name(key), wanted,
                              value == nullptr ? "null" : JsonTypeName(*value)),
                  "invalid_type");
}

ApiResult<std::optional<std::string>> RequestFields::String(std::string_view key) const {
  const json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) return WrongType(key, "a string");
  return value->get<std::string>();
}

ApiResult<std::optional<bool>> RequestFields::Bool(std::string_view key) const {
  const json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) return WrongType(key, "a boolean");
  return value->get<bool>();
}

ApiResult<std::optional<int64_t>> RequestFields::Int(std::string_view key, int64_t low, int64_t high) const {
  const json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  int64_t number = 0;
  if (value->is_number_unsigned()) {
    const auto wide = value->get<uint64_t>();
    number = wide > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) ? std::numeric_limits<int64_t>::max()
                                                                               : static_cast<int64_t>(wide);
  } else if (value->is_number_integer()) {
    number = value->get<int64_t>();
  } else if (value->is_number_float()) {
    const double real = value->get<double>();
    if (!(std::fabs(real) < 9e15) || real != std::floor(real)) return WrongType(key, "an integer");
    number = static_cast<int64_t>(real);
  } else {
    return WrongType(key, "an integer");
  }
  if (number < low) {
    return BadField(Name(key), fmt::format("Invalid '{}': integer below minimum value. Expected a value >= {}, but got "
                                           "{} instead.", Name(key), low, number), "integer_below_min_value");
  }
  if (number > high) {
    return BadField(Name(key), fmt::format("Invalid '{}': integer above maximum value. Expected a value <= {}, but got "
                                           "{} instead.", Name(key), high, number), "integer_above_max_value");
  }
  return number;
}

ApiResult<std::optional<double>> RequestFields::Number(std::string_view key, double low, double high) const {
  const json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) return WrongType(key, "a decimal number");
  const double number = value->get<double>();
  if (!(number >= low)) {
    return BadField(Name(key), fmt::format("Invalid '{}': decimal below minimum value. Expected a value >= {}, but got "
                                           "{} instead.", Name(key), low, number), "decimal_below_min_value");
  }
  if (!(number <= high)) {
    return BadField(Name(key), fmt::format("Invalid '{}': decimal above maximum value. Expected a value <= {}, but got "
                                           "{} instead.", Name(key), high, number), "decimal_above_max_value");
  }
  return number;
}

ApiResult<const json*> RequestFields::Object(std::string_view key) const {
  const json* value = Find(key);
  if (value != nullptr && !value->is_object()) return WrongType(key, "an object");
  return value;
}

ApiResult<const json*> RequestFields::Array(std::string_view key) const {
  const json* value = Find(key);
  if (value != nullptr && !value->is_array()) return WrongType(key, "an array");
  return value;
}

ApiResult<std::vector<std::string>> RequestFields::Strings(std::string_view key, size_t most) const {
  std::vector<std::string> texts;
  const json* value = Find(key);
  if (value == nullptr) return texts;
  if (value->is_string()) {
    if (!value->get_ref<const std::string&>().empty()) texts.push_back(value->get<std::string>());
    return texts;
  }
  if (!value->is_array()) return WrongType(key, "a string or an array of strings");
  if (value->size() > most) {
    return BadField(Name(key), fmt::format("Invalid '{}': array too long. Expected at most {} items, but got {}.",
                                           Name(key), most, value->size()), "array_above_max_length");
  }
  for (const json& item : *value) {
    if (!item.is_string()) return WrongType(key, "a string or an array of strings");
    if (item.get_ref<const std::string&>().empty()) {
      return BadField(Name(key), fmt::format("Invalid '{}': an empty string would stop at once.", Name(key)));
    }
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

}  // namespace fathom
