// Countdown: reach a target with three numbers, each used once. The search takes each number as the last one in turn,
// writes what the other two give, and asks what they would have to give for + - and *.
#include <array>

#include "tasks/draft.h"
#include "tasks/trace.h"

namespace fathom {
namespace {

struct Pair {
  int64_t high, low;
  /// "(7-3)" if the pair gives `value` so, in the order of the trace: sum, difference, product.
  std::string For(int64_t value, bool products) const {
    if (high + low == value) return fmt::format("({}+{})", high, low);
    if (high - low == value) return fmt::format("({}-{})", high, low);
    if (products && high * low == value) return fmt::format("({}*{})", high, low);
    return {};
  }
};

/// Writes the search; returns the expression, or nothing if there is none.
std::string Search(Trace& trace, const std::array<int64_t, 3>& numbers, int64_t target, bool products) {
  for (size_t last = 0; last < 3; ++last) {
    const int64_t c = numbers[last], x = numbers[last == 0 ? 1 : 0], y = numbers[last == 2 ? 1 : 2];
    const Pair pair = {std::max(x, y), std::min(x, y)};
    trace.Line("{}: {}+{}={} {}-{}={}", c, pair.high, pair.low, pair.high + pair.low, pair.high, pair.low,
               pair.high - pair.low);
    if (products) trace.Append(fmt::format(" {}*{}={}", pair.high, pair.low, pair.high * pair.low));
    const auto found = [&](int64_t needed) {
      const std::string expression = pair.For(needed, products);
      trace.Append(expression.empty() ? " no" : " yes");
      return expression;
    };
    if (target >= c) {
      trace.Line("{}-{}={}", target, c, target - c);
      if (const std::string e = found(target - c); !e.empty()) return fmt::format("{}+{}", e, c);
    } else {
      trace.Line("{}-{}={}", c, target, c - target);
      if (const std::string e = found(c - target); !e.empty()) return fmt::format("{}-{}", c, e);
    }
    trace.Append(fmt::format(" {}+{}={}", target, c, target + c));
    if (const std::string e = found(target + c); !e.empty()) return fmt::format("{}-{}", e, c);
    if (!products) continue;
    if (target % c == 0) {
      trace.Append(fmt::format(" {}/{}={}", target, c, target / c));
      if (const std::string e = found(target / c); !e.empty()) return fmt::format("{}*{}", e, c);
    } else {
      trace.Append(fmt::format(" {}/{} no", target, c));
    }
  }
  return {};
}

int64_t Apply(Random& random, int64_t a, int64_t b, bool products) {
  switch (random.Below(products ? 3 : 2)) {
    case 0:
      return a + b;
    case 1:
      return a > b ? a - b : b - a;
    default:
      return a * b;
  }
}

void Make(Random& random, Draft& draft, int64_t largest, bool products) {
  std::array<int64_t, 3> numbers;
  int64_t target = 0;
  do {
    for (int64_t& number : numbers) number = random.In(2, largest);
    std::array<int64_t, 3> order = numbers;
    random.Shuffle(order);
    target = Apply(random, Apply(random, order[0], order[1], products), order[2], products);
  } while (target < 1 || target > 99);
  draft.question = Say(random,
                       {"Use {0}, {1} and {2} once each with {4} to make {3}.",
                        "With the numbers {0}, {1}, {2}, each used once, reach {3}. Allowed are {4}.",
                        "Write an expression of {0}, {1} and {2} that equals {3}; use each once, with {4}.",
                        "How can {0}, {1} and {2} give {3} with {4}? Use each number once.",
                        "Countdown: numbers {0} {1} {2}, target {3}, operations {4}."},
                       numbers[0], numbers[1], numbers[2], target, products ? "+ - *" : "+ -");
  Trace trace(draft.thinking);
  draft.answer = Search(trace, numbers, target, products);
}

void PlusMinus(Random& random, Draft& draft) { Make(random, draft, 20, false); }
void PlusMinusTimes(Random& random, Draft& draft) { Make(random, draft, 12, true); }

constexpr Kind kKinds[] = {{"plus_minus", PlusMinus}, {"plus_minus_times", PlusMinusTimes}};

}  // namespace

std::span<const Kind> CountdownKinds() { return kKinds; }

}  // namespace fathom
