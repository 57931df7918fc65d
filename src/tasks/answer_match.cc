// AnswerMatches(): text, numbers by value, countdown expressions by evaluation. What is given comes from a model and
// may be anything: lengths and depths are bounded, arithmetic does not overflow.
#include <algorithm>
#include <optional>

#include "tasks/problem.h"

namespace fathom {
namespace {

constexpr size_t kLongest = 400;  // no right answer is longer

bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

std::string_view Trim(std::string_view text) {
  while (!text.empty() && IsSpace(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsSpace(text.back())) text.remove_suffix(1);
  return text;
}

/// "$1,200.50" and "01200.5" are both "1200.5"; nothing if it is not one decimal number. Separators must part groups
/// of three digits.
std::optional<std::string> CanonicalNumber(std::string_view text) {
  const bool minus = text.starts_with('-');
  if (minus) text = Trim(text.substr(1));
  for (const std::string_view sign : {"$", "€", "£", "¥"}) {
    if (text.starts_with(sign)) {
      text = Trim(text.substr(sign.size()));
      break;
    }
  }
  const size_t point = std::min(text.find('.'), text.size());
  const std::string_view whole = text.substr(0, point);
  std::string_view fraction = text.substr(std::min(point + 1, text.size()));
  if (whole.empty() || (point < text.size() && fraction.empty())) return std::nullopt;
  const size_t first_comma = whole.find(',');
  if (first_comma != std::string_view::npos && (first_comma == 0 || first_comma > 3)) return std::nullopt;
  std::string digits;
  for (size_t i = 0; i < whole.size(); ++i) {
    const bool comma_due = first_comma != std::string_view::npos && i >= first_comma && (i - first_comma) % 4 == 0;
    if (comma_due != (whole[i] == ',') || (!comma_due && !IsDigit(whole[i]))) return std::nullopt;
    if (!comma_due) digits += whole[i];
  }
  if (first_comma != std::string_view::npos && (whole.size() - first_comma) % 4 != 0) return std::nullopt;
  if (!std::all_of(fraction.begin(), fraction.end(), IsDigit)) return std::nullopt;
  digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size() - 1));
  while (fraction.ends_with('0')) fraction.remove_suffix(1);
  if (!fraction.empty()) digits.append(".").append(fraction);
  return minus && digits != "0" ? "-" + digits : digits;
}

/// Sums and products of whole numbers with brackets. Values stay within 10^12; that is far more than any target.
class ExpressionReader {
 public:
  explicit ExpressionReader(std::string_view text) : text_(text) {}

  std::optional<int64_t> Read() {
    const std::optional<int64_t> value = Sum(0);
    SkipSpace();
    return at_ == text_.size() ? value : std::nullopt;
  }
  /// The numbers read, sorted.
  std::vector<int64_t> Numbers() {
    std::sort(numbers_.begin(), numbers_.end());
    return numbers_;
  }

 private:
  static constexpr int64_t kBound = 1'000'000'000'000;
  static constexpr int kDeepest = 16;

  void SkipSpace() {
    while (at_ < text_.size() && IsSpace(text_[at_])) ++at_;
  }
  bool Take(char c) {
    SkipSpace();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  static std::optional<int64_t> Bounded(__int128 value) {
    if (value > kBound || value < -kBound) return std::nullopt;
    return static_cast<int64_t>(value);
  }

  std::optional<int64_t> Sum(int depth) {
    std::optional<int64_t> value = Product(depth);
    while (value) {
      const int64_t sign = Take('+') ? 1 : Take('-') ? -1 : 0;
      if (sign == 0) break;
      const std::optional<int64_t> next = Product(depth);
      value = next ? Bounded(*value + sign * *next) : std::nullopt;
    }
    return value;
  }

  std::optional<int64_t> Product(int depth) {
    std::optional<int64_t> value = Factor(depth);
    while (value && Take('*')) {
      const std::optional<int64_t> next = Factor(depth);
      value = next ? Bounded(static_cast<__int128>(*value) * *next) : std::nullopt;
    }
    return value;
  }

  std::optional<int64_t> Factor(int depth) {
    if (Take('(')) {
      if (depth == kDeepest) return std::nullopt;
      const std::optional<int64_t> value = Sum(depth + 1);
      return value && Take(')') ? value : std::nullopt;
    }
    SkipSpace();
    const size_t start = at_;
    int64_t value = 0;
    for (; at_ < text_.size() && IsDigit(text_[at_]); ++at_) {
      value = value * 10 + (text_[at_] - '0');
      if (value > kBound) return std::nullopt;
    }
    if (at_ == start) return std::nullopt;
    numbers_.push_back(value);
    return value;
  }

  std::string_view text_;
  size_t at_ = 0;
  std::vector<int64_t> numbers_;
};

bool SameCountdown(std::string_view right, std::string_view given) {
  ExpressionReader expected(right), answer(given);
  const std::optional<int64_t> target = expected.Read(), value = answer.Read();
  return target && value && *target == *value && expected.Numbers() == answer.Numbers();
}

}  // namespace

bool AnswerMatches(const Problem& problem, std::string_view given) {
  std::string_view right = Trim(problem.answer);
  given = Trim(given);
  if (given.size() > kLongest) return false;
  if (given == right) return true;
  if (given.ends_with('.')) given = Trim(given.substr(0, given.size() - 1));
  if (given == right) return true;
  if (problem.family == "countdown") {
    const bool allowed = problem.kind != "plus_minus" || given.find('*') == std::string_view::npos;
    return allowed && SameCountdown(right, given);
  }
  if (right.ends_with('%')) {
    right = Trim(right.substr(0, right.size() - 1));
    if (given.ends_with('%')) given = Trim(given.substr(0, given.size() - 1));
  }
  const std::optional<std::string> expected = CanonicalNumber(right);
  return expected && CanonicalNumber(given) == expected;
}

}  // namespace fathom
