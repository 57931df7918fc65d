#include "text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <span>

namespace fathom {
namespace {

#include "text/unicode_data.inc"

CodePointSet FromRanges(std::span<const uint32_t> pairs) {
  CodePointSet set;
  for (size_t i = 0; i + 1 < pairs.size(); i += 2) set.Add(pairs[i], pairs[i + 1]);
  return set;
}

// "L" takes every category whose name begins with L; "Lu" just the one.
bool FromCategory(std::string_view name, CodePointSet& out) {
  bool found = false;
  bool wanted[std::size(kCategoryNames)] = {};
  for (size_t i = 0; i < std::size(kCategoryNames); ++i) {
    wanted[i] = std::string_view(kCategoryNames[i]).starts_with(name);
    found |= wanted[i];
  }
  if (!found || name.empty()) return false;
  for (size_t i = 0; i < std::size(kCategoryRuns); ++i) {
    if (!wanted[kCategoryRuns[i] & 0xFF]) continue;
    const uint32_t last = i + 1 < std::size(kCategoryRuns) ? (kCategoryRuns[i + 1] >> 8) - 1 : kMaxCodePoint;
    out.Add(kCategoryRuns[i] >> 8, last);
  }
  return true;
}

}  // namespace

Utf8Char DecodeUtf8(std::string_view text, size_t pos) {
  const auto* p = reinterpret_cast<const uint8_t*>(text.data()) + pos;
  const size_t left = text.size() - pos;
  const uint8_t lead = p[0];
  if (lead < 0x80) return {lead, 1, true};
  const auto tail = [&](size_t i) { return i < left && (p[i] & 0xC0) == 0x80; };
  if (lead >= 0xC2 && lead <= 0xDF) {
    if (tail(1)) return {(lead & 0x1Fu) << 6 | (p[1] & 0x3Fu), 2, true};
  } else if ((lead & 0xF0) == 0xE0) {
    if (tail(1) && tail(2)) {
      const uint32_t c = (lead & 0x0Fu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
      if (c >= 0x800 && (c < 0xD800 || c > 0xDFFF)) return {c, 3, true};
    }
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    if (tail(1) && tail(2) && tail(3)) {
      const uint32_t c = (lead & 0x07u) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu);
      if (c >= 0x10000 && c <= kMaxCodePoint) return {c, 4, true};
    }
  }
  return {kReplacement, 1, false};
}

void AppendUtf8(uint32_t c, std::string& out) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
  } else if (c < 0x10000) {
    out += {static_cast<char>(0xE0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 0x3F)),
            static_cast<char>(0x80 | (c & 0x3F))};
  } else {
    out += {static_cast<char>(0xF0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 0x3F)),
            static_cast<char>(0x80 | (c >> 6 & 0x3F)), static_cast<char>(0x80 | (c & 0x3F))};
  }
}

bool IsValidUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const Utf8Char c = DecodeUtf8(text, i);
    if (!c.ok) return false;
    i += c.length;
  }
  return true;
}

size_t SanitizeUtf8(std::string_view text, bool at_end, std::string& out) {
  size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<uint8_t>(text[i]);
    if (lead < 0x80) {
      out += static_cast<char>(lead);
      ++i;
      continue;
    }
    // How many bytes the lead asks for and which values the second byte may have (Unicode 16, table 3-7).
    int need = 0;
    uint8_t low = 0x80, high = 0xBF;
    if (lead >= 0xC2 && lead <= 0xDF) need = 2;
    else if ((lead & 0xF0) == 0xE0) need = 3, low = lead == 0xE0 ? 0xA0 : 0x80, high = lead == 0xED ? 0x9F : 0xBF;
    else if (lead >= 0xF0 && lead <= 0xF4)
      need = 4, low = lead == 0xF0 ? 0x90 : 0x80, high = lead == 0xF4 ? 0x8F : 0xBF;
    int have = need == 0 ? 0 : 1;
    while (have > 0 && have < need && i + have < text.size()) {
      const auto byte = static_cast<uint8_t>(text[i + have]);
      if (byte < low || byte > high) break;
      low = 0x80, high = 0xBF;
      ++have;
    }
    if (have == need && need > 0) {
      out.append(text, i, need);
      i += need;
    } else if (need > 0 && i + have == text.size() && !at_end) {
      break;  // the beginning of a character: the rest may still come
    } else {
      AppendUtf8(kReplacement, out);
      i += have > 0 ? have : 1;
    }
  }
  return i;
}

std::string Normalize(std::string_view text, NormalForm form) {
  // ASCII is final in every form. In NFC so is everything below U+0300 (lead bytes below 0xCC): the first character
  // that composes with its left neighbour stands there.
  const uint8_t limit = form == NormalForm::kNfc ? 0xCC : 0x80;
  if (std::all_of(text.begin(), text.end(), [&](char c) { return static_cast<uint8_t>(c) < limit; })) {
    return std::string(text);
  }
  int options = UTF8PROC_STABLE;
  options |= form == NormalForm::kNfc || form == NormalForm::kNfkc ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == NormalForm::kNfkc || form == NormalForm::kNfkd) options |= UTF8PROC_COMPAT;
  std::string out;
  out.reserve(text.size());
  size_t begin = 0, i = 0;
  const auto flush = [&](size_t end) {
    if (begin == end) return;
    utf8proc_uint8_t* mapped = nullptr;
    const auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + begin,
                                     static_cast<utf8proc_ssize_t>(end - begin), &mapped,
                                     static_cast<utf8proc_option_t>(options));
    if (length >= 0) out.append(reinterpret_cast<const char*>(mapped), static_cast<size_t>(length));
    else out.append(text.substr(begin, end - begin));
    std::free(mapped);
  };
  // Characters that the authors' normalisers do not know stay as they are too: they neither decompose nor move nor
  // compose, so that the text falls apart at them.
  static const FastSet* const kInert = new FastSet(FromRanges(kNotNormalized));
  while (i < text.size()) {
    const Utf8Char c = DecodeUtf8(text, i);
    if (!c.ok || kInert->Contains(c.code_point)) {
      flush(i);
      out += text.substr(i, c.length);
      begin = i + c.length;
    }
    i += c.length;
  }
  flush(text.size());
  return out;
}

const std::vector<CodePointSet::Range>& CodePointSet::ranges() const {
  if (dirty_) {
    dirty_ = false;
    std::sort(ranges_.begin(), ranges_.end(), [](const Range& a, const Range& b) { return a.first < b.first; });
    std::vector<Range> merged;
    for (const Range& r : ranges_) {
      if (merged.empty() || r.first > merged.back().last + 1) merged.push_back(r);
      else merged.back().last = std::max(merged.back().last, r.last);
    }
    ranges_ = std::move(merged);
  }
  return ranges_;
}

void CodePointSet::Add(const CodePointSet& other) {
  for (const Range& r : other.ranges()) Add(r.first, r.last);
}

CodePointSet CodePointSet::Complement() const {
  CodePointSet out;
  uint32_t next = 0;
  for (const Range& r : ranges()) {
    if (r.first > next) out.Add(next, r.first - 1);
    next = r.last + 1;
  }
  if (next <= kMaxCodePoint) out.Add(next, kMaxCodePoint);
  return out;
}

CodePointSet CodePointSet::Intersect(const CodePointSet& other) const {
  CodePointSet out;
  const auto &a = ranges(), &b = other.ranges();
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    const uint32_t first = std::max(a[i].first, b[j].first), last = std::min(a[i].last, b[j].last);
    if (first <= last) out.Add(first, last);
    if (a[i].last < b[j].last) ++i;
    else ++j;
  }
  return out;
}

bool CodePointSet::Contains(uint32_t c) const {
  const auto& all = ranges();
  const auto it = std::upper_bound(all.begin(), all.end(), c, [](uint32_t x, const Range& r) { return x < r.first; });
  return it != all.begin() && c <= std::prev(it)->last;
}

void CodePointSet::AddOtherCases() {
  // Every cased letter by what it folds to; built on first use (a few milliseconds).
  static const auto* const folds = [] {
    auto* map = new std::map<uint32_t, std::vector<uint32_t>>;
    for (uint32_t c = 0x41; c < 0x1F000; ++c) {
      const auto lower = static_cast<uint32_t>(utf8proc_tolower(utf8proc_tolower(utf8proc_toupper(int32_t(c)))));
      const auto upper = static_cast<uint32_t>(utf8proc_toupper(int32_t(c)));
      if (lower != c || upper != c) (*map)[lower].push_back(c);
    }
    return map;
  }();
  static const auto* const keys = [] {
    auto* map = new std::map<uint32_t, uint32_t>;
    for (const auto& [key, letters] : *folds) for (uint32_t c : letters) (*map)[c] = key;
    return map;
  }();
  const std::vector<Range> before = ranges();
  for (const Range& r : before) {
    for (auto it = keys->lower_bound(r.first); it != keys->end() && it->first <= r.last; ++it) {
      for (uint32_t c : folds->at(it->second)) Add(c, c);
    }
  }
}

bool CodePointSet::FromProperty(std::string_view name, CodePointSet& out) {
  // Names are compared without case, spaces, hyphens and underscores (UAX #44, LM3); categories are one or two letters.
  std::string key;
  for (char c : name) {
    if (c != '_' && c != '-' && c != ' ') key += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  }
  static const std::map<std::string_view, std::string_view> kLong = {
      {"letter", "L"}, {"mark", "M"}, {"number", "N"}, {"punctuation", "P"}, {"symbol", "S"}, {"separator", "Z"},
      {"other", "C"}, {"uppercaseletter", "Lu"}, {"lowercaseletter", "Ll"}, {"titlecaseletter", "Lt"},
      {"modifierletter", "Lm"}, {"otherletter", "Lo"}, {"nonspacingmark", "Mn"}, {"decimalnumber", "Nd"},
      {"digit", "Nd"}, {"unassigned", "Cn"}};
  if (const auto it = kLong.find(key); it != kLong.end()) return FromCategory(it->second, out);
  if (key == "lc" || key == "l&") return FromCategory("Lu", out) && FromCategory("Ll", out) && FromCategory("Lt", out);
  if (key.size() == 1 || key.size() == 2) {
    std::string category = key;
    category[0] = static_cast<char>(category[0] - 32);
    if (key[0] >= 'a' && key[0] <= 'z') return FromCategory(category, out);
    return false;
  }
  static const std::map<std::string_view, std::span<const uint32_t>> kScripts = {
      {"han", kHan}, {"hiragana", kHiragana}, {"katakana", kKatakana}, {"hangul", kHangul}, {"latin", kLatin},
      {"cyrillic", kCyrillic}, {"arabic", kArabic}, {"thai", kThai}, {"greek", kGreek}, {"hebrew", kHebrew},
      {"devanagari", kDevanagari}, {"alphabetic", kAlphabetic}, {"alpha", kAlphabetic}, {"word", kWord}};
  if (const auto it = kScripts.find(key); it != kScripts.end()) {
    out.Add(FromRanges(it->second));
    return true;
  }
  if (key == "any") return out.Add(0, kMaxCodePoint), true;
  if (key == "ascii") return out.Add(0, 0x7F), true;
  if (key == "whitespace" || key == "space") return out.Add(WhiteSpace()), true;
  return false;
}

CodePointSet CodePointSet::WhiteSpace() {
  static constexpr uint32_t kRanges[] = {0x09,   0x0D,   0x20,   0x20,   0x85,   0x85,   0xA0,
                                         0xA0,   0x1680, 0x1680, 0x2000, 0x200A, 0x2028, 0x2029,
                                         0x202F, 0x202F, 0x205F, 0x205F, 0x3000, 0x3000};
  return FromRanges(kRanges);
}
CodePointSet CodePointSet::Word() { return FromRanges(kWord); }
CodePointSet CodePointSet::NumericStep() { return FromRanges(kDigitsStep); }
CodePointSet CodePointSet::WhitespaceStep() { return FromRanges(kWhitespaceStep); }
CodePointSet CodePointSet::PunctuationStep() { return FromRanges(kPunctuationStep); }

FastSet::FastSet(const CodePointSet& set) : page_index_((kMaxCodePoint >> 8) + 1, 0), pages_(2) {
  pages_[1].fill(~uint64_t{0});  // page 0: none, page 1: all
  const auto writable = [&](uint32_t page) -> Page& {
    if (page_index_[page] < 2) {
      pages_.push_back(pages_[page_index_[page]]);
      page_index_[page] = static_cast<uint16_t>(pages_.size() - 1);
    }
    return pages_[page_index_[page]];
  };
  for (const auto& r : set.ranges()) {
    for (uint32_t c = r.first; c <= r.last;) {
      if ((c & 0xFF) == 0 && c + 0xFF <= r.last) {
        page_index_[c >> 8] = 1;
        c += 0x100;
      } else {
        writable(c >> 8)[(c >> 6) & 3] |= uint64_t{1} << (c & 63);
        ++c;
      }
    }
  }
  ascii_ = {pages_[page_index_[0]][0], pages_[page_index_[0]][1]};
}

}  // namespace fathom
