// What stdout and stderr are, and text that is fit for them.
//
// Thread-safe but for the width, which follows the window.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace fathom {

/// True when the stream is a terminal that understands escape sequences (TERM is not "dumb").
bool IsTerminal(std::FILE* stream);
/// IsTerminal and NO_COLOR unset or empty (https://no-color.org).
bool UseColor(std::FILE* stream);
/// Columns of the terminal, 80 when unknown.
int TerminalWidth(std::FILE* stream);

/// Valid UTF-8: bytes that are not become U+FFFD, one for each maximal broken sequence.
std::string SafeUtf8(std::string_view text);
/// Text from a model or a file, safe to show at a terminal: valid UTF-8, control characters but newline and tab removed
/// (a model must not be able to move the cursor or set the window's title).
std::string SafeForTerminal(std::string_view text);
/// One line, at most `columns` code points; line breaks, controls and broken bytes shown as escapes, "…" where it was
/// cut.
std::string OneLine(std::string_view text, size_t columns);

/// "1.5 GiB", "320 MiB", "17 B".
std::string HumanBytes(int64_t bytes);
/// "671.0B", "2.4B", "135M", "12.3K".
std::string HumanCount(int64_t count);
/// "3.2 s", "1 min 05 s", "2 h 10 min".
std::string HumanSeconds(double seconds);

}  // namespace fathom
