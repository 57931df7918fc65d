#include "text/text_test_data.h"

#include "text/unicode.h"

namespace fathom {

std::string RandomTextForTest(RandomForTest& random, bool broken_utf8) {
  static const char* const kPieces[] = {
      "Hello", " the",   " world", "don't", "'LL", "I'm",   "naïve", "中文", "カタカナ", "한국어", "Привет",
      "हिन्दी",   "👨‍👩‍👧", "❤️",      "½",     "12345", "0",    "...",   "!=",   "\r\n",     "\n\n\n", "  ",
      "\t",    "\xc2\xa0", "\xe3\x80\x80", "e\xcc\x81", "<|", "<｜", "<think>", "_a"};
  static const struct {
    uint32_t first, size;
  } kRanges[] = {{0x20, 0x60},    {0x80, 0x180},   {0x300, 0x70},    {0x400, 0x100},   {0x600, 0x100},
                 {0x900, 0x300},  {0x1E00, 0x200}, {0x2000, 0x400},  {0x3000, 0x100},  {0x4E00, 0x1000},
                 {0xAC00, 0x1000}, {0xE000, 0x1F00}, {0x1F300, 0x400}};
  std::string text;
  const uint32_t count = random.Below(16);
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t kind = random.Below(10);
    if (kind < 5) {
      text += kPieces[random.Below(std::size(kPieces))];
    } else if (kind < 6) {
      text.append(random.Below(60), static_cast<char>(" \na1"[random.Below(4)]));
    } else if (kind < 7 && broken_utf8) {
      static const char* const kBroken[] = {"\xff",         "\x80",         "\xc3",    "\xe4\xb8",
                                            "\xf0\x9f\x98", "\xed\xa0\x80", "\xc0\xaf"};
      text += kBroken[random.Below(std::size(kBroken))];
    } else {
      const auto& range = kRanges[random.Below(std::size(kRanges))];
      AppendUtf8(range.first + random.Below(range.size), text);
    }
  }
  return text;
}

}  // namespace fathom
