// Reading numbers of a saved state, which may be anybody's file.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>

#include "base/result.h"

namespace fathom {

/// A whole number from 0 to 2^53; -1 when it is something else.
inline int64_t StateCount(const nlohmann::json& value) {
  if (!value.is_number_integer()) return -1;
  if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{1} << 53) return -1;
  const int64_t number = value.get<int64_t>();
  return number < 0 || number > int64_t{1} << 53 ? -1 : number;
}

inline Result<int64_t> StateCount(const nlohmann::json& state, const char* key, int64_t high = int64_t{1} << 53) {
  if (state.is_object()) {
    if (const auto it = state.find(key); it != state.end()) {
      if (const int64_t number = StateCount(*it); number >= 0 && number <= high) return number;
    }
  }
  return Fail(ErrorCode::kCorrupt, "data state: \"{}\" is missing or out of range", key);
}

}  // namespace fathom
