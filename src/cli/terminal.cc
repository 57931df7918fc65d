#include "cli/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <cstring>

namespace fathom {
namespace {

/// Length of the well-formed UTF-8 sequence at the start of text (Unicode table 3-7); 0 when there is none, then
/// `broken` is the length of the maximal ill-formed part.
size_t SequenceLength(std::string_view text, size_t& broken) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  broken = 1;
  if (lead < 0x80) return 1;
  size_t length = 0;
  unsigned char low = 0x80, high = 0xbf;
  if (lead >= 0xc2 && lead <= 0xdf) {
    length = 2;
  } else if (lead >= 0xe0 && lead <= 0xef) {
    length = 3;
    if (lead == 0xe0) low = 0xa0;
    if (lead == 0xed) high = 0x9f;
  } else if (lead >= 0xf0 && lead <= 0xf4) {
    length = 4;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;
  } else {
    return 0;
  }
  for (size_t i = 1; i < length; ++i, low = 0x80, high = 0xbf) {
    if (i >= text.size() || byte(i) < low || byte(i) > high) {
      broken = i;
      return 0;
    }
  }
  return length;
}

/// visit(character) for each well-formed one, visit_broken(bytes) for each maximal part that is none.
template <typename Visit, typename VisitBroken>
void ForEachCharacter(std::string_view text, Visit&& visit, VisitBroken&& visit_broken) {
  while (!text.empty()) {
    size_t broken = 0;
    const size_t length = SequenceLength(text, broken);
    if (length > 0) {
      visit(text.substr(0, length));
    } else {
      visit_broken(text.substr(0, broken));
    }
    text.remove_prefix(length > 0 ? length : broken);
  }
}

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

bool IsControl(std::string_view character) {
  const auto first = static_cast<unsigned char>(character[0]);
  if (character.size() == 1) return first < 0x20 || first == 0x7f;
  return first == 0xc2 && static_cast<unsigned char>(character[1]) < 0xa0;  // C1, which some terminals obey
}

}  // namespace

bool IsTerminal(std::FILE* stream) {
  if (!isatty(fileno(stream))) return false;
  const char* term = std::getenv("TERM");
  return term != nullptr && std::strcmp(term, "dumb") != 0;
}

bool UseColor(std::FILE* stream) {
  const char* no_color = std::getenv("NO_COLOR");
  return IsTerminal(stream) && (no_color == nullptr || *no_color == '\0');
}

int TerminalWidth(std::FILE* stream) {
  winsize size{};
  if (ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

std::string SafeUtf8(std::string_view text) {
  std::string safe;
  safe.reserve(text.size());
  ForEachCharacter(
      text, [&](std::string_view character) { safe += character; }, [&](std::string_view) { safe += kReplacement; });
  return safe;
}

std::string SafeForTerminal(std::string_view text) {
  std::string safe;
  safe.reserve(text.size());
  ForEachCharacter(
      text,
      [&](std::string_view character) {
        if (!IsControl(character) || character == "\n" || character == "\t") safe += character;
      },
      [&](std::string_view) { safe += kReplacement; });
  return safe;
}

std::string OneLine(std::string_view text, size_t columns) {
  std::string line;
  size_t used = 0;
  bool cut = false;
  const auto add = [&](std::string_view shown, size_t width) {
    cut = cut || used + width > columns;
    if (cut) return;
    used += width;
    line += shown;
  };
  const auto add_bytes = [&](std::string_view bytes) {
    for (const char byte : bytes) add(fmt::format("\\x{:02x}", static_cast<unsigned char>(byte)), 4);
  };
  ForEachCharacter(
      text,
      [&](std::string_view character) {
        if (character == "\n") {
          add("\\n", 2);
        } else if (character == "\t") {
          add("\\t", 2);
        } else if (character == "\r") {
          add("\\r", 2);
        } else if (IsControl(character)) {
          add_bytes(character);
        } else {
          add(character, 1);
        }
      },
      add_bytes);
  return cut ? line + "…" : line;
}

std::string HumanBytes(int64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (std::abs(value) >= 1024 && unit + 1 < std::size(kUnits)) value /= 1024, ++unit;
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.{}f} {}", value, value < 100 ? 1 : 0, kUnits[unit]);
}

std::string HumanCount(int64_t count) {
  const double value = static_cast<double>(count);
  if (count >= 1'000'000'000'000) return fmt::format("{:.2f}T", value / 1e12);
  if (count >= 1'000'000'000) return fmt::format("{:.1f}B", value / 1e9);
  if (count >= 1'000'000) return fmt::format("{:.1f}M", value / 1e6);
  if (count >= 1'000) return fmt::format("{:.1f}K", value / 1e3);
  return fmt::format("{}", count);
}

std::string HumanSeconds(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  if (seconds < 1) return fmt::format("{:.0f} ms", seconds * 1e3);
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

}  // namespace fathom
