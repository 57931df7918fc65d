#include "tasks/trace.h"

#include <algorithm>

namespace fathom {
namespace {

/// Digits of a number, the last first.
std::vector<int> Digits(int64_t value) {
  std::vector<int> digits;
  do {
    digits.push_back(static_cast<int>(value % 10));
    value /= 10;
  } while (value > 0);
  return digits;
}

}  // namespace

int64_t Trace::Add(int64_t a, int64_t b) {
  if (a < 10 && b < 10) {
    Line("{}+{}={}", a, b, a + b);
    return a + b;
  }
  std::vector<int> x = Digits(a), y = Digits(b);
  const size_t width = std::max(x.size(), y.size());
  x.resize(width);
  y.resize(width);
  Line("{:0{}}+{:0{}}", a, width, b, width);
  std::string found;
  int carry = 0;
  for (size_t i = 0; i < width; ++i) {
    const int sum = x[i] + y[i] + carry;
    found.insert(0, std::to_string(i + 1 == width ? sum : sum % 10));
    if (carry > 0) {
      Line("{}+{}+1={} {}", x[i], y[i], sum, found);
    } else {
      Line("{}+{}={} {}", x[i], y[i], sum, found);
    }
    carry = sum / 10;
  }
  return a + b;
}

int64_t Trace::Add(std::span<const int64_t> values) {
  int64_t sum = values[0];
  for (const int64_t value : values.subspan(1)) sum = Add(sum, value);
  return sum;
}

int64_t Trace::Subtract(int64_t a, int64_t b) {
  if (a < 10) {
    Line("{}-{}={}", a, b, a - b);
    return a - b;
  }
  const std::vector<int> x = Digits(a);
  std::vector<int> y = Digits(b);
  const size_t width = x.size();
  y.resize(width);
  Line("{}-{:0{}}", a, b, width);
  std::string found;
  int borrow = 0;
  for (size_t i = 0; i < width; ++i) {
    const int top = x[i] < y[i] + borrow ? x[i] + 10 : x[i];
    const int digit = top - y[i] - borrow;
    found.insert(0, std::to_string(digit));
    if (borrow > 0) {
      Line("{}-{}-1={} {}", top, y[i], digit, found);
    } else {
      Line("{}-{}={} {}", top, y[i], digit, found);
    }
    borrow = top > x[i] ? 1 : 0;
  }
  return a - b;
}

int64_t Trace::MultiplyByDigit(int64_t a, int64_t digit) {
  if (a < 10 || digit < 2) {
    Line("{}*{}={}", a, digit, a * digit);
    return a * digit;
  }
  const std::vector<int> x = Digits(a);
  Line("{}*{}", a, digit);
  std::string found;
  int64_t carry = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const int64_t product = x[i] * digit, sum = product + carry;
    found.insert(0, std::to_string(i + 1 == x.size() ? sum : sum % 10));
    if (i == 0) {
      Line("{}*{}={} {}", x[i], digit, product, found);
    } else {
      Line("{}*{}={}+{}={} {}", x[i], digit, product, carry, sum, found);
    }
    carry = sum / 10;
  }
  return a * digit;
}

int64_t Trace::Multiply(int64_t a, int64_t b) {
  if (b < 10) return MultiplyByDigit(a, b);
  const int64_t tens = MultiplyByDigit(a, b / 10);
  Line("{}*10={}", tens, tens * 10);
  if (b % 10 == 0) return tens * 10;
  const int64_t ones = MultiplyByDigit(a, b % 10);
  return Add(tens * 10, ones);
}

Trace::Quotient Trace::Divide(int64_t a, int64_t b) {
  if (a < 10) {
    Line("{}/{}={} r{}", a, b, a / b, a % b);
    return {a / b, a % b};
  }
  std::vector<int> x = Digits(a);
  std::reverse(x.begin(), x.end());
  Line("{}/{}", a, b);
  std::string found;
  int64_t rest = 0;
  for (const int digit : x) {
    // The rest stands before the next digit; a rest of 0 is left out.
    const int64_t part = rest * 10 + digit;
    found += std::to_string(part / b);
    Line("{}/{}={} r{} {}", part, b, part / b, part % b, found);
    rest = part % b;
  }
  return {a / b, rest};
}

int Trace::Compare(std::string_view a, std::string_view b) {
  Line("{} {}", a, b);
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] == '.') continue;
    const char sign = a[i] < b[i] ? '<' : a[i] > b[i] ? '>' : '=';
    fmt::format_to(std::back_inserter(text_), " {}{}{}", a[i], sign, b[i]);
    if (sign != '=') return sign == '<' ? -1 : 1;
  }
  return 0;
}

size_t Trace::Best(std::span<const std::string> padded, bool largest) {
  size_t best = 0;
  for (size_t i = 1; i < padded.size(); ++i) {
    const int sign = Compare(padded[best], padded[i]);
    if (largest ? sign < 0 : sign > 0) best = i;
    Append(" ");
    Append(padded[best]);
  }
  return best;
}

std::string FromHundredths(int64_t hundredths) {
  std::string text = fmt::format("{}.{:02}", hundredths / 100, hundredths % 100);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

std::vector<std::string> PadNumbers(std::span<const std::string> numbers) {
  const auto whole = [](const std::string& n) { return std::min(n.find('.'), n.size()); };
  const auto decimals = [&](const std::string& n) { return n.size() - std::min(whole(n) + 1, n.size()); };
  size_t before = 0, after = 0;
  for (const std::string& number : numbers) {
    before = std::max(before, whole(number));
    after = std::max(after, decimals(number));
  }
  std::vector<std::string> padded;
  for (const std::string& number : numbers) {
    std::string text(before - whole(number), '0');
    text += number;
    if (after > 0 && decimals(number) == 0) text += '.';
    text.append(after - decimals(number), '0');
    padded.push_back(std::move(text));
  }
  return padded;
}

std::string JoinWith(std::span<const std::string> items, std::string_view between) {
  std::string text;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) text += between;
    text += items[i];
  }
  return text;
}

std::string JoinAnd(std::span<const std::string> items) {
  if (items.size() < 2) return items.empty() ? std::string() : items[0];
  return JoinWith(items.first(items.size() - 1), ", ") + " and " + items.back();
}

}  // namespace fathom
