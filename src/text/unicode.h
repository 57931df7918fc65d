// Unicode facts for tokenisers: sets of code points, UTF-8 that may be broken, composed form (NFC).
//
// General categories and scripts are Unicode 16.0, the version of the regular-expression engine that the published
// tokenizer.json files are used with (see gen_unicode_data.py); the C library's and PCRE2's tables are older on
// Debian 12, so they are not asked. Normal forms are utf8proc's, less the characters that the normalisers of those
// files' library do not know (their tables are of Unicode 9). Everything here is immutable after
// construction and thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fathom {

inline constexpr uint32_t kMaxCodePoint = 0x10FFFF;
inline constexpr uint32_t kReplacement = 0xFFFD;

/// One character of a text that need not be valid UTF-8. A byte that is no part of a well-formed sequence is a
/// character of its own: length 1, code point U+FFFD, ok false.
struct Utf8Char {
  uint32_t code_point;
  uint8_t length;
  bool ok;
};

/// REQUIRES: pos < text.size().
Utf8Char DecodeUtf8(std::string_view text, size_t pos);
void AppendUtf8(uint32_t code_point, std::string& out);
bool IsValidUtf8(std::string_view text);

/// Copies `text` to `out` with every maximal ill-formed subpart replaced by one U+FFFD (Unicode 16 §3.9, the WHATWG
/// decoder). Returns how many bytes were consumed: less than text.size() only when !at_end and the text ends with the
/// beginning of a character.
size_t SanitizeUtf8(std::string_view text, bool at_end, std::string& out);

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };
/// Normalises the well-formed stretches of `text`; bytes that are not UTF-8 stay as they are.
std::string Normalize(std::string_view text, NormalForm form);

/// A set of code points as sorted, disjoint, non-adjacent ranges; used while patterns are compiled.
class CodePointSet {
 public:
  struct Range {
    uint32_t first, last;  // inclusive
    bool operator==(const Range&) const = default;
  };

  void Add(uint32_t first, uint32_t last) { ranges_.push_back({first, last}), dirty_ = true; }
  void Add(const CodePointSet& other);
  CodePointSet Complement() const;
  CodePointSet Intersect(const CodePointSet& other) const;
  bool Contains(uint32_t code_point) const;
  bool empty() const { return ranges().empty(); }
  const std::vector<Range>& ranges() const;
  /// Adds every code point that is the same letter in another case (simple folding).
  void AddOtherCases();

  /// By the name in \p{…}: a general category ("L", "Lu"), a script of those that tokenisers use, "Any", "Alphabetic",
  /// "White_Space". False when the name is not known.
  static bool FromProperty(std::string_view name, CodePointSet& out);
  static CodePointSet WhiteSpace();        // \s
  static CodePointSet Word();              // \w
  static CodePointSet NumericStep();       // what the "Digits" pre-tokeniser calls a digit
  static CodePointSet WhitespaceStep();    // what the "Whitespace" pre-tokeniser calls part of a word
  static CodePointSet PunctuationStep();   // what the "Punctuation" pre-tokeniser takes

 private:
  mutable std::vector<Range> ranges_;
  mutable bool dirty_ = false;
};

/// A CodePointSet made fast: two loads answer a question.
class FastSet {
 public:
  FastSet() = default;
  explicit FastSet(const CodePointSet& set);
  bool Contains(uint32_t code_point) const {
    const uint32_t page = page_index_[code_point >> 8];
    return (pages_[page][(code_point >> 6) & 3] >> (code_point & 63)) & 1;
  }
  bool ContainsAscii(uint8_t byte) const { return (ascii_[byte >> 6] >> (byte & 63)) & 1; }

 private:
  using Page = std::array<uint64_t, 4>;
  std::vector<uint16_t> page_index_;
  std::vector<Page> pages_;
  std::array<uint64_t, 2> ascii_{};
};

}  // namespace fathom
