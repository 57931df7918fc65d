// Traces as lines of JSON, as other projects publish them.
#include <algorithm>
#include <bit>

#include "experts/routing_trace.h"
#include "format/json_lines.h"

namespace fathom {

Result<RoutingTrace> ParseRoutingJson(std::string_view text, std::string_view name) {
  RoutingTrace trace;
  ExpertGeometry& geometry = trace.geometry;
  int32_t largest = 0;
  const auto wrong = [](std::string_view what) { return Fail(ErrorCode::kCorrupt, "{}", what); };
  FATHOM_CHECK_OK(ForEachJsonLine(text, name, 8, [&](const nlohmann::json& object) -> Status {
    const auto layers = object.find("layers");
    if (layers == object.end() || !layers->is_array()) return wrong("\"layers\" is not there or not an array");
    if (geometry.layers == 0) geometry.layers = static_cast<int32_t>(std::min<size_t>(layers->size(), INT32_MAX));
    if (static_cast<int64_t>(layers->size()) != geometry.layers || geometry.layers > ExpertGeometry::kMostLayers)
      return wrong(fmt::format("{} layers, the first line has {}", layers->size(), geometry.layers));
    for (const auto& ids : *layers) {
      if (!ids.is_array()) return wrong("a layer is not an array of expert numbers");
      if (geometry.top_k == 0) geometry.top_k = static_cast<int32_t>(std::min<size_t>(ids.size(), INT32_MAX));
      if (static_cast<int64_t>(ids.size()) != geometry.top_k || geometry.top_k > ExpertGeometry::kMostTopK)
        return wrong(fmt::format("{} experts in a layer, the first one has {}", ids.size(), geometry.top_k));
      const size_t begin = trace.ids.size();
      for (const auto& id : ids) {
        if (!id.is_number_integer()) return wrong("an expert is not a whole number");
        const auto value = id.get<int64_t>();
        if (value < 0 || value >= ExpertGeometry::kMostExperts)
          return wrong(fmt::format("expert {} is not in [0, {})", value, ExpertGeometry::kMostExperts));
        if (std::find(trace.ids.begin() + static_cast<int64_t>(begin), trace.ids.end(), value) != trace.ids.end())
          return wrong(fmt::format("expert {} twice for one token", value));
        trace.ids.push_back(static_cast<uint16_t>(value));
        largest = std::max(largest, static_cast<int32_t>(value));
      }
    }
    trace.passes.push_back(1);
    return {};
  }));
  if (trace.ids.empty()) return Fail(ErrorCode::kCorrupt, "{}: no tokens", name);
  geometry.experts = static_cast<int32_t>(
      std::min<uint32_t>(std::bit_ceil(static_cast<uint32_t>(largest) + 1), ExpertGeometry::kMostExperts));
  geometry.experts = std::max(geometry.experts, geometry.top_k);
  if (auto status = geometry.Check(); !status)
    return Fail(ErrorCode::kCorrupt, "{}: {}", name, status.error().message);
  return trace;
}

}  // namespace fathom
