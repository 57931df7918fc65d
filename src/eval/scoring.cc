#include "eval/scoring.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "text/unicode.h"

namespace fathom {
namespace {

bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsPunctuation(char c) {  // Python's string.punctuation
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}

struct FoundNumber {
  double value = 0;
  size_t begin = 0, end = 0;
};

/// The first number at or after `from`.
std::optional<FoundNumber> NextNumber(std::string_view text, size_t from) {
  for (size_t i = from; i < text.size(); ++i) {
    const bool bare_point = text[i] == '.' && i + 1 < text.size() && IsDigit(text[i + 1]);
    if (!IsDigit(text[i]) && !bare_point) continue;
    std::string digits;
    size_t at = i;
    while (at < text.size()) {
      if (IsDigit(text[at])) {
        digits += text[at++];
      } else if (text[at] == ',' && at + 3 < text.size() && IsDigit(text[at + 1]) && IsDigit(text[at + 2]) &&
                 IsDigit(text[at + 3]) && (at + 4 >= text.size() || !IsDigit(text[at + 4])) && at > i) {
        ++at;  // a thousands separator
      } else {
        break;
      }
    }
    if (at + 1 < text.size() && text[at] == '.' && IsDigit(text[at + 1])) {
      digits += text[at++];
      while (at < text.size() && IsDigit(text[at])) digits += text[at++];
    }
    // A minus belongs to the number unless something stands before it that it could be subtracted from. A currency
    // sign may stand between.
    size_t before = i;
    if (before > 0 && text[before - 1] == '$') --before;
    bool negative = false;
    if (before > 0 && text[before - 1] == '-') {
      const char left = before > 1 ? text[before - 2] : ' ';
      negative = !IsDigit(left) && !((left | 32) >= 'a' && (left | 32) <= 'z') && left != ')';
    }
    double value = 0;
    if (digits.size() > 300) digits.resize(300);
    std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return FoundNumber{negative ? -value : value, i, at};
  }
  return std::nullopt;
}

size_t RFindLower(const std::string& lower, std::string_view what) { return lower.rfind(what); }

std::vector<uint32_t> CodePoints(std::string_view text, size_t most) {
  std::vector<uint32_t> out;
  for (size_t i = 0; i < text.size() && out.size() < most;) {
    const Utf8Char c = DecodeUtf8(text, i);
    out.push_back(c.code_point);
    i += std::max<size_t>(1, c.length);
  }
  return out;
}

/// 0 to 9, or -1.
int ChineseDigit(uint32_t c) {
  constexpr uint32_t kDigits[10] = {U'零', U'一', U'二', U'三', U'四', U'五', U'六', U'七', U'八', U'九'};
  for (int i = 0; i < 10; ++i) {
    if (c == kDigits[i]) return i;
  }
  if (c == U'〇') return 0;
  if (c == U'两') return 2;
  return -1;
}
int ChineseUnit(uint32_t c) { return c == U'十' ? 10 : c == U'百' ? 100 : c == U'千' ? 1000 : 0; }

std::vector<std::string_view> Split(std::string_view text, std::string_view separator) {
  std::vector<std::string_view> parts;
  for (size_t at = 0;;) {
    const size_t next = text.find(separator, at);
    if (next == std::string_view::npos) {
      parts.push_back(text.substr(at));
      return parts;
    }
    parts.push_back(text.substr(at, next - at));
    at = next + separator.size();
  }
}

/// Every shortest piece `open`…`close` replaced by what stands between (or by nothing).
std::string Unwrap(std::string_view text, std::string_view open, std::string_view close, bool keep) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = text.find(open, at);
    const size_t end = begin == std::string_view::npos ? begin : text.find(close, begin + open.size());
    if (end == std::string_view::npos) return out += text.substr(at);
    out += text.substr(at, begin - at);
    if (keep) out += text.substr(begin + open.size(), end - begin - open.size());
    at = end + close.size();
  }
  return out;
}

}  // namespace

std::string_view TrimSpace(std::string_view text) {
  while (!text.empty() && IsSpace(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsSpace(text.back())) text.remove_suffix(1);
  return text;
}

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return out;
}

std::string_view FirstLine(std::string_view text) {
  text = TrimSpace(text);
  return TrimSpace(text.substr(0, text.find('\n')));
}

std::optional<double> LastNumber(std::string_view text) {
  std::optional<double> last;
  for (size_t at = 0;;) {
    const auto found = NextNumber(text, at);
    if (!found) return last;
    last = found->value;
    at = found->end;
  }
}

std::optional<double> WorkedAnswer(std::string_view text) {
  const std::string lower = Lower(text);
  size_t from = std::string::npos;
  for (const std::string_view mark : {std::string_view("answer is"), std::string_view("####")}) {
    const size_t at = RFindLower(lower, mark);
    if (at != std::string::npos && (from == std::string::npos || at + mark.size() > from)) from = at + mark.size();
  }
  if (from != std::string::npos) {
    if (const auto found = NextNumber(text, from)) return found->value;
  }
  return LastNumber(text);
}

bool SameNumber(double a, double b) {
  return std::abs(a - b) <= std::max(1e-6, 1e-4 * std::max(std::abs(a), std::abs(b)));
}

std::string AnswerIs(std::string_view text) {
  constexpr std::string_view kMark = "the answer is";
  const size_t at = RFindLower(Lower(text), kMark);
  if (at == std::string::npos) return std::string(TrimSpace(text));
  std::string_view rest = text.substr(at + kMark.size());
  rest = rest.substr(0, rest.find('\n'));
  rest = TrimSpace(rest);
  if (rest.ends_with('.')) rest.remove_suffix(1);
  return std::string(TrimSpace(rest));
}

std::string NormalizeLegal(std::string_view text) {
  std::string kept;
  for (const char c : text) {
    if (!IsPunctuation(c)) kept += c;
  }
  return Lower(TrimSpace(kept));
}

bool OnlyOptionNamed(std::string_view output, std::span<const std::string> options, std::string_view right) {
  bool right_named = false;
  for (const std::string& option : options) {
    if (output.find(option) == std::string_view::npos) continue;
    if (option != right) return false;
    right_named = true;
  }
  return right_named;
}

std::optional<int> ChineseNumber(std::string_view text) {
  const auto points = CodePoints(text, 16);
  if (points.empty()) return std::nullopt;
  const bool has_unit = std::any_of(points.begin(), points.end(), [](uint32_t c) { return ChineseUnit(c) > 0; });
  int sum = 0, digit = -1;
  for (const uint32_t c : points) {
    if (const int value = ChineseDigit(c); value >= 0) {
      if (!has_unit) {
        sum = sum * 10 + value;  // digit by digit, as in 三四一
        if (sum > 99999999) return std::nullopt;
      } else {
        digit = value;
      }
    } else if (const int unit = ChineseUnit(c); unit > 0) {
      sum += (digit < 0 || (digit == 0 && unit == 10) ? 1 : digit) * unit;
      digit = -1;
    } else {
      return std::nullopt;
    }
  }
  return sum + std::max(digit, 0);
}

std::vector<int> ArticleNumbers(std::string_view text) {
  std::vector<int> numbers;
  for (const std::string_view piece : Split(text, "、")) {
    const std::string plain = Unwrap(Unwrap(piece, "第", "款", false), "第", "条", true);
    // The first run of digits, of either kind.
    std::string arabic, chinese;
    for (size_t i = 0; i < plain.size();) {
      const Utf8Char c = DecodeUtf8(plain, i);
      const size_t length = std::max<size_t>(1, c.length);
      const bool is_chinese = ChineseDigit(c.code_point) >= 0 || ChineseUnit(c.code_point) > 0;
      if (IsDigit(plain[i])) {
        if (!chinese.empty()) break;
        arabic += plain[i];
      } else if (is_chinese) {
        if (!arabic.empty()) break;
        chinese += plain.substr(i, length);
      } else if (!arabic.empty() || !chinese.empty()) {
        break;
      }
      i += length;
    }
    if (!arabic.empty() && arabic.size() <= 8) numbers.push_back(std::stoi(arabic));
    if (const auto value = ChineseNumber(chinese)) numbers.push_back(*value);
  }
  return numbers;
}

double SetF1(std::vector<std::string> predicted, std::vector<std::string> gold) {
  const std::set<std::string> p(predicted.begin(), predicted.end()), g(gold.begin(), gold.end());
  if (p.empty() || g.empty()) return 0;
  const auto shared =
      static_cast<double>(std::count_if(p.begin(), p.end(), [&](const std::string& each) { return g.contains(each); }));
  return 2 * shared / static_cast<double>(p.size() + g.size());
}

double RougeLCharacters(std::string_view output, std::string_view reference) {
  constexpr size_t kMost = 4000;
  const auto a = CodePoints(output, kMost), b = CodePoints(reference, kMost);
  if (a.empty() || b.empty()) return 0;
  std::vector<int> row(b.size() + 1);
  for (const uint32_t c : a) {
    int diagonal = 0;
    for (size_t j = 0; j < b.size(); ++j) {
      const int above = row[j + 1];
      row[j + 1] = c == b[j] ? diagonal + 1 : std::max(above, row[j]);
      diagonal = above;
    }
  }
  return 2.0 * row.back() / static_cast<double>(a.size() + b.size());
}

}  // namespace fathom
