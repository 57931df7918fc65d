// What the tests that check answers a second time need to read questions: numbers, lists and expressions in text.
#pragma once

#include <cctype>
#include <cmath>
#include <cstdio>
#include <regex>
#include <string>
#include <vector>

namespace fathom {

/// All decimal numbers, in order; signs do not count.
inline std::vector<double> NumbersIn(const std::string& text) {
  std::vector<double> numbers;
  for (size_t i = 0; i < text.size();) {
    if (std::isdigit(static_cast<unsigned char>(text[i])) == 0) {
      ++i;
      continue;
    }
    size_t length = 0;
    numbers.push_back(std::stod(text.substr(i, text.find_first_not_of("0123456789.", i) - i), &length));
    i += length;
  }
  return numbers;
}

/// Two decimals at most, as short as they can be.
inline std::string Text(double value) {
  char buffer[64];
  std::snprintf(buffer, sizeof(buffer), "%.2f", value);
  std::string text = buffer;
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

/// + - * / with precedence and brackets, in doubles.
class Calculator {
 public:
  explicit Calculator(const std::string& text) {
    for (const char c : text) {
      if (c != ' ') text_ += c;
    }
  }
  double Sum() {
    double value = Product();
    while (At() == '+' || At() == '-') value = text_[at_++] == '+' ? value + Product() : value - Product();
    return value;
  }
  bool AtEnd() const { return at_ >= text_.size(); }

 private:
  char At() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  double Product() {
    double value = Factor();
    while (At() == '*' || At() == '/') value = text_[at_++] == '*' ? value * Factor() : value / Factor();
    return value;
  }
  double Factor() {
    if (At() == '(') {
      ++at_;
      const double value = Sum();
      ++at_;
      return value;
    }
    size_t end = at_;
    while (end < text_.size() && (std::isdigit(static_cast<unsigned char>(text_[end])) != 0 || text_[end] == '.'))
      ++end;
    if (end == at_) return std::nan("");
    const double value = std::stod(text_.substr(at_, end - at_));
    at_ = end;
    return value;
  }

  std::string text_;
  size_t at_ = 0;
};

/// Not a number if the text is not an expression.
inline double Calculate(const std::string& text) {
  Calculator calculator(text);
  const double value = calculator.Sum();
  return calculator.AtEnd() ? value : std::nan("");
}

/// The longest list "a, b, c" or "a, b and c" of lower-case words.
inline std::vector<std::string> ListIn(const std::string& text) {
  static const std::regex kList("[a-z]+(, [a-z]+)+( and [a-z]+)?"), kItem("[a-z]+");
  std::string list;
  std::vector<std::string> items;
  for (std::sregex_iterator it(text.begin(), text.end(), kList), end; it != end; ++it) {
    if (it->length() > static_cast<std::ptrdiff_t>(list.size())) list = it->str();
  }
  if (const size_t last = list.find(" and "); last != std::string::npos) list.replace(last, 5, ", ");
  for (std::sregex_iterator it(list.begin(), list.end(), kItem), end; it != end; ++it) items.push_back(it->str());
  return items;
}

}  // namespace fathom
