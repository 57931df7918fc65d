// How a solution is written down: one small step a line, each step's operands beside its result, so that the next token
// always follows from tokens near by. A column of a sum ends with the digits found so far, the newest in front:
//
//   347+058      503-047        347*6             347/6
//   7+8=15 5     13-7=6 6       7*6=42 2          3/6=0 r3 0
//   4+5+1=10 05  10-4-1=5 56    4*6=24+4=28 82    34/6=5 r4 05
//   3+0+1=4 405  5-0-1=4 456    3*6=18+2=20 2082  47/6=7 r5 057
//
// Numbers of one digit take one step. All operands are at least 0.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fathom {

class Trace {
 public:
  /// Writes to `text`, which must outlive the trace.
  explicit Trace(std::string& text) : text_(text) {}

  template <typename... Args>
  void Line(fmt::format_string<Args...> format, Args&&... args) {
    if (!text_.empty()) text_ += '\n';
    fmt::format_to(std::back_inserter(text_), format, std::forward<Args>(args)...);
  }

  int64_t Add(int64_t a, int64_t b);
  int64_t Add(std::span<const int64_t> values);  // from left to right
  /// REQUIRES: a >= b.
  int64_t Subtract(int64_t a, int64_t b);
  /// b below 100: two partial products and their sum where it has two digits.
  int64_t Multiply(int64_t a, int64_t b);
  struct Quotient {
    int64_t quotient, remainder;
  };
  /// REQUIRES: 0 < b < 10.
  Quotient Divide(int64_t a, int64_t b);

  /// "3917 3971 3=3 9=9 1<7": digits from the left until they differ, then `after` of the sign. Both texts have the
  /// same length and points in the same places. Returns the sign of a - b.
  int Compare(std::string_view a, std::string_view b);
  void Append(std::string_view text) { text_ += text; }

  /// Goes through the list with the best so far; a line a comparison, ending with the better one. Returns its index.
  size_t Best(std::span<const std::string> padded, bool largest);

 private:
  int64_t MultiplyByDigit(int64_t a, int64_t digit);

  std::string& text_;
};

/// Hundredths as a decimal number without trailing zeros: 3650 is "36.5", 1200 is "12".
std::string FromHundredths(int64_t hundredths);

/// Decimal numbers written with as many digits before and after the point as the longest: 4.5, 12 are "04.5", "12.0".
std::vector<std::string> PadNumbers(std::span<const std::string> numbers);

/// Items in running text: "a, b, c" or "a, b and c".
std::string JoinWith(std::span<const std::string> items, std::string_view between);
std::string JoinAnd(std::span<const std::string> items);

}  // namespace fathom
