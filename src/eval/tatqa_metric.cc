#include "eval/tatqa_metric.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <set>

#include "eval/scoring.h"

namespace fathom {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLetter(char c) { return (c | 32) >= 'a' && (c | 32) <= 'z'; }
bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/// Without the signs that do not belong to a number's digits: quotes, currencies, %, brackets, commas.
std::string CleanNumber(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    bool dropped = false;
    for (const std::string_view sign : {"'", "\"", "\\", "$", "€", "£", "¥", "%", "(", ")", ",", "[", "]"}) {
      if (!text.substr(i).starts_with(sign)) continue;
      i += sign.size();
      dropped = true;
      break;
    }
    if (!dropped) out += text[i++];
  }
  return out;
}

std::vector<std::string> Words(std::string_view text) {
  std::vector<std::string> words;
  for (size_t at = 0; at < text.size();) {
    while (at < text.size() && IsSpace(text[at])) ++at;
    const size_t begin = at;
    while (at < text.size() && !IsSpace(text[at])) ++at;
    if (at > begin) words.emplace_back(text.substr(begin, at - begin));
  }
  return words;
}

double ScaleOf(std::string_view text) {
  const std::string lower = Lower(text);
  const auto has = [&](const char* word) { return lower.find(word) != std::string::npos; };
  if (has("hundred")) return 100;
  if (has("thousand")) return 1e3;
  if (has("million")) return 1e6;
  if (has("billion")) return 1e9;
  if (has("percent")) return 0.01;
  return 1;
}

/// A whole word as a decimal number.
bool ParsesAsNumber(std::string_view word) {
  if (!word.empty() && (word.front() == '+' || word.front() == '-')) word.remove_prefix(1);
  if (word.empty() || !(IsDigit(word.front()) || (word.front() == '.' && word.size() > 1))) return false;
  double value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc()) return false;
  return end == word.data() + word.size() || (end + 1 == word.data() + word.size() && *end == '.');
}

/// Rounded to decimals as Python does it: to nearest by the exact binary value.
double Rounded(double value, int decimals) {
  return std::strtod(fmt::format("{:.{}f}", value, decimals).c_str(), nullptr);
}

struct Number {
  double value = std::numeric_limits<double>::quiet_NaN();
  bool whole = false;  // written and scaled as an integer
};

/// The first run of digits, with sign and decimals; a bare ".5" is none (as in the published pattern).
Number FirstNumber(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    size_t at = i;
    if ((text[at] == '+' || text[at] == '-') && at + 1 < text.size()) ++at;
    if (text[at] == '.' && at + 1 < text.size() && IsDigit(text[at + 1])) return {};
    if (!IsDigit(text[at])) continue;
    std::string digits(text[i] == '-' ? "-" : "");
    while (at < text.size() && IsDigit(text[at])) digits += text[at++];
    const bool point = at + 1 < text.size() && text[at] == '.' && IsDigit(text[at + 1]);
    if (point) {
      digits += text[at++];
      while (at < text.size() && IsDigit(text[at])) digits += text[at++];
    }
    return {std::strtod(digits.c_str(), nullptr), !point};
  }
  return {};
}

/// The scale in the first "12 million" or "12k"-like piece: digits, at most one space, letters.
double WordScale(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (!IsDigit(text[i]) && text[i] != '.') continue;
    size_t at = i;
    while (at < text.size() && (IsDigit(text[at]) || text[at] == '.')) ++at;
    size_t letters = at;
    if (letters < text.size() && IsSpace(text[letters])) ++letters;
    size_t end = letters;
    while (end < text.size() && IsLetter(text[end])) ++end;
    if (end > letters) return ScaleOf(text.substr(i, end - i));
    i = at - 1;
  }
  return 1;
}

/// "(12.5)" somewhere: digits, points, spaces, per cent signs between brackets mean a negative amount.
bool InBrackets(std::string_view text) {
  for (size_t open = text.find('('); open != std::string_view::npos; open = text.find('(', open + 1)) {
    const size_t close = text.find_first_not_of("0123456789. \t\r\n%", open + 1);
    if (close != std::string_view::npos && close > open + 1 && text[close] == ')') return true;
  }
  return false;
}

bool HasPercent(std::string_view text) {
  for (size_t at = text.find('%'); at != std::string_view::npos; at = text.find('%', at + 1)) {
    if (at > 0 && (IsDigit(text[at - 1]) || text[at - 1] == '.' || IsSpace(text[at - 1]))) return true;
  }
  return false;
}

Number ToNumber(std::string_view text) {
  const std::string clean = CleanNumber(text);
  Number number = FirstNumber(clean);
  if (std::isnan(number.value)) return number;
  const std::string_view trimmed = TrimSpace(text);
  const double scale = WordScale(text);
  const bool percent = HasPercent(trimmed);
  number.whole = number.whole && !percent && scale >= 1;
  number.value = Rounded(number.value * scale * (InBrackets(trimmed) ? -1 : 1) * (percent ? 0.01 : 1), 4);
  return number;
}

/// As Python prints it: integers bare, others with a point.
std::string AsText(const Number& number) {
  if (std::isnan(number.value)) return "None";
  std::string text = fmt::format("{}", number.value);
  if (number.whole || text.find_first_of(".ein") != std::string::npos) return text;
  return text + ".0";
}

std::string WithoutPunctuation(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool punctuation =
        (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
    if (!punctuation) out += c;
  }
  return out;
}

bool IsArticle(std::string_view word) { return word == "a" || word == "an" || word == "the"; }

/// Articles as whole words become nothing; words are runs of letters, digits, underscores and non-ASCII bytes.
std::string WithoutArticles(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    const auto in_word = [&](char c) {
      return IsLetter(c) || IsDigit(c) || c == '_' || static_cast<signed char>(c) < 0;
    };
    while (end < text.size() && in_word(text[end])) ++end;
    if (end == at) {
      out += text[at++];
      continue;
    }
    const std::string_view word = text.substr(at, end - at);
    if (IsArticle(word))
      out += ' ';
    else
      out += word;
    at = end;
  }
  return out;
}

/// Answers sorted and joined, numbers as values at their scale.
std::string AnswerString(std::vector<std::string> values, std::string_view scale) {
  std::sort(values.begin(), values.end());
  std::string out;
  for (std::string& value : values) {
    const bool number = TatQaIsNumber(value);
    const double amount = number ? TatQaToNumber(value) : std::numeric_limits<double>::quiet_NaN();
    if (std::isnan(amount)) {
      if (!scale.empty()) value += fmt::format(" {}", scale);
    } else if (value.find('%') != std::string::npos) {  // a share already
      value = fmt::format("{:.4f}", amount);
    } else {
      value = fmt::format("{:.4f}", Rounded(amount, 2) * ScaleOf(scale));
    }
    if (!out.empty()) out += ' ';
    out += value;
  }
  return out;
}

TatQaScore Compare(const std::string& predicted, const std::string& gold) {
  const std::string a = TatQaNormalize(predicted), b = TatQaNormalize(gold);
  const auto wordsa = Words(a), wordsb = Words(b);
  const std::set<std::string> p(wordsa.begin(), wordsa.end()), g(wordsb.begin(), wordsb.end());
  double shared = 0;
  for (const std::string& word : p) shared += g.contains(word);
  const double precision = p.empty() ? 1 : shared / static_cast<double>(p.size());
  const double recall = g.empty() ? 1 : shared / static_cast<double>(g.size());
  const double f1 = precision + recall > 0 ? 2 * precision * recall / (precision + recall) : 0;
  return {a == b ? 1.0 : 0.0, Rounded(f1, 2)};
}

}  // namespace

bool TatQaIsNumber(std::string_view text) {
  std::string clean;
  for (const std::string& word : Words(text)) clean += CleanNumber(word) + " ";
  const auto words = Words(clean);
  if (words.empty() || !ParsesAsNumber(words[0])) return false;
  return words.size() < 2 || ScaleOf(words[1]) != 1;
}

double TatQaToNumber(std::string_view text) { return ToNumber(text).value; }

std::string TatQaNormalize(std::string_view text) {
  std::string out;
  for (size_t at = 0; at <= text.size();) {  // pieces between single spaces
    const size_t end = std::min(text.find(' ', at), text.size());
    std::string piece = Lower(text.substr(at, end - at));
    at = end + 1;
    if (!TatQaIsNumber(piece)) piece = WithoutPunctuation(piece);
    if (TatQaIsNumber(piece)) piece = AsText(ToNumber(piece));
    for (const std::string& word : Words(WithoutArticles(piece))) out += (out.empty() ? "" : " ") + word;
  }
  return out;
}

TatQaScore ScoreTatQa(const TatQaAnswer& predicted, const TatQaAnswer& gold, bool by_value) {
  if (predicted.values.empty() || gold.values.empty()) return {};
  const std::string wanted = AnswerString(gold.values, gold.scale);
  TatQaScore best = Compare(AnswerString(predicted.values, predicted.scale), wanted);
  const std::string& only = predicted.values.front();
  // 0.2342 without a scale also stands for 23.42 percent.
  if (predicted.values.size() == 1 && predicted.scale.empty() && only.find('%') == std::string::npos &&
      TatQaIsNumber(only) && !std::isnan(TatQaToNumber(only))) {
    const TatQaScore other = Compare(fmt::format("{:.4f}", TatQaToNumber(only)), wanted);
    if (std::pair(other.exact_match, other.f1) > std::pair(best.exact_match, best.f1)) best = other;
  }
  if (by_value) best.f1 = best.exact_match;
  return best;
}

}  // namespace fathom
