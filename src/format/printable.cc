#include "format/printable.h"

#include <algorithm>

namespace fathom {

std::string PrintableName(std::string_view bytes, size_t max_bytes) {
  std::string out;
  const size_t shown = std::min(bytes.size(), max_bytes);
  for (size_t i = 0; i < shown;) {
    const auto lead = static_cast<unsigned char>(bytes[i]);
    size_t length = lead < 0x80                   ? 1
                    : lead >= 0xc2 && lead < 0xe0 ? 2
                    : lead >= 0xe0 && lead < 0xf0 ? 3
                    : lead >= 0xf0 && lead < 0xf5 ? 4
                                                  : 0;
    bool good = length > 0 && i + length <= bytes.size() && (length > 1 || (lead >= 0x20 && lead != 0x7f));
    for (size_t k = 1; good && k < length; ++k) good = (static_cast<unsigned char>(bytes[i + k]) & 0xc0) == 0x80;
    // C1 controls would also reach a terminal as commands.
    if (good && length == 2 && lead == 0xc2 && static_cast<unsigned char>(bytes[i + 1]) < 0xa0) good = false;
    if (good) {
      out.append(bytes.substr(i, length));
      i += length;
    } else {
      out += '?';
      ++i;
    }
  }
  if (shown < bytes.size()) out += "…";
  return out;
}

}  // namespace fathom
