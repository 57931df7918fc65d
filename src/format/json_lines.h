// Files of JSON objects, one a line, from anywhere. A plain function; thread-safe.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/result.h"

namespace fathom {

/// Calls `each` with the object of every line of `text`, in order; blank lines count as lines and are passed over. Stops at
/// the first error: a line that is no JSON object, or is nested deeper than max_depth (kCorrupt), or what `each` says.
/// Its message begins with "name: line N: ". The object may be moved from.
Status ForEachJsonLine(std::string_view text, std::string_view name, int max_depth,
                       const std::function<Status(nlohmann::json& object)>& each);

}  // namespace fathom
