// Bytes from files as text that may go to a terminal or into an error message. Pure; thread-safe.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace fathom {

/// At most max_bytes of it (then "…"); control characters and broken UTF-8 become '?'.
std::string PrintableName(std::string_view bytes, size_t max_bytes = 80);

}  // namespace fathom
