#include "format/json_lines.h"

#include <cstdint>

#include "format/json.h"

namespace fathom {

Status ForEachJsonLine(std::string_view text, std::string_view name, int max_depth,
                       const std::function<Status(nlohmann::json& object)>& each) {
  for (int64_t number = 1; !text.empty(); ++number) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    auto object = ParseJsonObject(line, max_depth);
    const Status status = object ? each(*object) : Status(std::unexpected(object.error()));
    if (!status) return Prefix(status.error(), fmt::format("{}: line {}", name, number));
  }
  return {};
}

}  // namespace fathom
