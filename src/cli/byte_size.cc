#include "cli/byte_size.h"

#include <charconv>
#include <cmath>

namespace fathom {

Result<int64_t> ParseByteSize(std::string_view option, std::string_view text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string unit;
  if (error == std::errc()) {
    for (const char* c = end; c != text.data() + text.size(); ++c) {
      if (*c != ' ' || !unit.empty()) unit += *c >= 'a' && *c <= 'z' ? static_cast<char>(*c - 32) : *c;
    }
  }
  bool known = error == std::errc() && std::isfinite(number) && number >= 0;
  double factor = 1;
  if (known && !unit.empty() && unit != "B") {
    const size_t power = std::string_view("KMGT").find(unit.front());
    const std::string rest = unit.substr(1);
    known = power != std::string_view::npos && (rest.empty() || rest == "IB" || rest == "B" || rest == "I");
    if (known) factor = std::pow(rest == "B" ? 1000.0 : 1024.0, static_cast<double>(power) + 1);
  }
  const double bytes = std::floor(number * factor);
  if (!known || bytes > 0x1p60) {
    return Fail(ErrorCode::kInvalidArgument, "{} {}: not a size, e.g. 4GiB, 512M or 100GB", option, text);
  }
  return static_cast<int64_t>(bytes);
}

}  // namespace fathom
