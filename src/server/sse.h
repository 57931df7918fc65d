// Server-sent events (html.spec.whatwg.org, section 9.2). Pure functions.
#pragma once

#include <string>
#include <string_view>

namespace fathom {

/// data must have no line breaks (JSON in one line).
inline std::string SseData(std::string_view data) { return std::string("data: ").append(data).append("\n\n"); }
inline std::string SseEvent(std::string_view event, std::string_view data) {
  return std::string("event: ").append(event).append("\ndata: ").append(data).append("\n\n");
}
/// A line that clients skip.
inline std::string SseComment(std::string_view text) { return std::string(": ").append(text).append("\n\n"); }

}  // namespace fathom
