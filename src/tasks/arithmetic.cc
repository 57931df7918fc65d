// Arithmetic: sums, differences, products, divisions with remainder, expressions of two or three operations.
#include <array>

#include "tasks/draft.h"
#include "tasks/trace.h"
#include "tasks/words.h"

namespace fathom {
namespace {

/// A number of `digits` digits.
int64_t NumberOf(Random& random, int64_t digits) {
  int64_t low = 1;
  for (int64_t i = 1; i < digits; ++i) low *= 10;
  return random.In(low, low * 10 - 1);
}

void Addition(Random& random, Draft& draft) {
  const int64_t a = NumberOf(random, random.In(2, 5)), b = NumberOf(random, random.In(2, 5));
  draft.question = Say(random,
                       {"What is {0} + {1}?", "What is {0} plus {1}?", "Add {0} and {1}.", "Compute {0} + {1}.",
                        "Find the sum of {0} and {1}.", "{0} + {1} = ?"},
                       a, b);
  draft.answer = std::to_string(Trace(draft.thinking).Add(a, b));
}

void Subtraction(Random& random, Draft& draft) {
  int64_t a = NumberOf(random, random.In(2, 5)), b = NumberOf(random, random.In(2, 5));
  if (a < b) std::swap(a, b);
  draft.question = Say(random,
                       {"What is {0} - {1}?", "What is {0} minus {1}?", "Subtract {1} from {0}.", "Compute {0} - {1}.",
                        "Find the difference of {0} and {1}.", "{0} - {1} = ?"},
                       a, b);
  draft.answer = std::to_string(Trace(draft.thinking).Subtract(a, b));
}

void ThreeSummands(Random& random, Draft& draft) {
  const std::array<int64_t, 3> x = {random.In(10, 999), random.In(10, 999), random.In(10, 999)};
  const std::string_view name = random.Pick(Names()), things = random.Pick(Things());
  draft.question = Say(random,
                       {"What is {0} + {1} + {2}?", "Add {0}, {1} and {2}.", "Compute {0} + {1} + {2}.",
                        "Find the sum of {0}, {1} and {2}.",
                        "{3} has {0} {4} at home, {1} in the garden and {2} in the office. How many {4} is that?"},
                       x[0], x[1], x[2], name, things);
  draft.answer = std::to_string(Trace(draft.thinking).Add(x));
}

void Multiplication(Random& random, Draft& draft) {
  const int64_t a = NumberOf(random, random.In(2, 4)), b = random.In(2, 9);
  draft.question = Say(random,
                       {"What is {0} * {1}?", "What is {0} times {1}?", "Multiply {0} by {1}.", "Compute {1} * {0}.",
                        "Find the product of {0} and {1}.", "One box holds {0} {2}. How many {2} do {1} boxes hold?"},
                       a, b, random.Pick(Things().first(10)));
  draft.answer = std::to_string(Trace(draft.thinking).Multiply(a, b));
}

void LongMultiplication(Random& random, Draft& draft) {
  const int64_t a = random.In(11, 99), b = random.In(11, 99);
  const std::string_view name = random.Pick(Names()), things = random.Pick(Things());
  draft.question = Say(random,
                       {"What is {0} * {1}?", "What is {0} times {1}?", "Multiply {0} by {1}.", "Compute {0} * {1}.",
                        "Find the product of {0} and {1}.", "A hall has {0} rows of {1} seats. How many seats is that?",
                        "{2} buys {0} {3} at {1} dollars each. What do they cost?"},
                       a, b, name, things);
  draft.answer = std::to_string(Trace(draft.thinking).Multiply(a, b));
}

void Division(Random& random, Draft& draft) {
  const int64_t a = NumberOf(random, random.In(2, 4)), b = random.In(2, 9);
  draft.question = Say(random,
                       {"What is {0} divided by {1}, with remainder?", "Divide {0} by {1} and give the remainder.",
                        "Compute {0} / {1} with remainder.", "{0} / {1} = ? Give quotient and remainder.",
                        "How often does {1} go into {0}, and what is the remainder?"},
                       a, b);
  const auto [quotient, remainder] = Trace(draft.thinking).Divide(a, b);
  draft.answer = fmt::format("{} remainder {}", quotient, remainder);
}

void Expression(Random& random, Draft& draft) {
  Trace trace(draft.thinking);
  std::string text;
  int64_t value = 0;
  const int64_t b = random.In(2, 9), c = random.In(2, 9), d = random.In(2, 9), e = random.In(2, 9);
  switch (random.Below(7)) {
    case 0: {
      const int64_t a = random.In(10, 99);
      text = fmt::format("{} + {} * {}", a, b, c);
      value = trace.Add(a, trace.Multiply(b, c));
      break;
    }
    case 1: {
      const int64_t a = random.In(b * c, b * c + 90);
      text = fmt::format("{} - {} * {}", a, b, c);
      value = trace.Subtract(a, trace.Multiply(b, c));
      break;
    }
    case 2: {
      const int64_t a = random.In(10, 89);
      text = fmt::format("({} + {}) * {}", a, b, c);
      value = trace.Multiply(trace.Add(a, b), c);
      break;
    }
    case 3: {
      const int64_t a = random.In(12, 99);
      text = fmt::format("({} - {}) * {}", a, b, c);
      value = trace.Multiply(trace.Subtract(a, b), c);
      break;
    }
    case 4: {
      const int64_t a = random.In(12, 99), f = random.In(10, 99);
      text = fmt::format("{} * {} + {}", a, b, f);
      value = trace.Add(trace.Multiply(a, b), f);
      break;
    }
    case 5: {
      const int64_t a = random.In(12, 99), f = random.In(2, a * b < 99 ? a * b : 99);
      text = fmt::format("{} * {} - {}", a, b, f);
      value = trace.Subtract(trace.Multiply(a, b), f);
      break;
    }
    default: {
      text = fmt::format("{} * {} + {} * {}", b, c, d, e);
      const int64_t first = trace.Multiply(b, c);
      value = trace.Add(first, trace.Multiply(d, e));
      break;
    }
  }
  draft.question = Say(random, {"What is {0}?", "Compute {0}.", "Evaluate {0}.", "{0} = ?", "Work out {0}."}, text);
  draft.answer = std::to_string(value);
}

constexpr Kind kKinds[] = {{"addition", Addition},
                           {"subtraction", Subtraction},
                           {"three_summands", ThreeSummands},
                           {"multiplication", Multiplication},
                           {"long_multiplication", LongMultiplication},
                           {"division", Division},
                           {"expression", Expression}};

}  // namespace

std::span<const Kind> ArithmeticKinds() { return kKinds; }

}  // namespace fathom
