// Percent: a share of an amount, an amount changed by a share, what share one amount is of another. Amounts are chosen
// so that answers are exact.
#include "tasks/draft.h"
#include "tasks/trace.h"
#include "tasks/words.h"

namespace fathom {
namespace {

/// x % of y: y*x/100, or y*(x/10)/10 where that is shorter. In hundredths.
int64_t PercentOf(Trace& trace, int64_t x, int64_t y) {
  if (x % 10 == 0) {
    const int64_t product = trace.Multiply(y, x / 10);
    trace.Line("{}/10={}", product, FromHundredths(product * 10));
    return product * 10;
  }
  const int64_t product = trace.Multiply(y, x);
  trace.Line("{}/100={}", product, FromHundredths(product));
  return product;
}

constexpr int kRates[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 12, 15, 20,
                          25, 30, 35, 40, 45, 50, 60, 65, 70, 75, 80, 85, 90};

void Of(Random& random, Draft& draft) {
  const int64_t x = random.Pick(kRates);
  const int64_t y = 20 * random.In(1, x % 10 == 0 || x < 10 ? 250 : 49);
  draft.question =
      Say(random,
          {"What is {0} % of {1}?", "Find {0}% of {1}.", "How much is {0} percent of {1}?",
           "Compute {0} % of {1} dollars.", "{2} earns {1} dollars and saves {0} % of it. How many dollars is that?",
           "A fee is {0} % of {1} euros. How many euros is the fee?"},
          x, y, random.Pick(Names()));
  Trace trace(draft.thinking);
  draft.answer = FromHundredths(PercentOf(trace, x, y));
}

/// A rate and an amount whose percentage is a whole number.
void WholeAmount(Random& random, int64_t& x, int64_t& y) {
  x = random.Pick(kRates);
  y = x % 10 == 0 ? 10 * random.In(2, 300) : x % 5 == 0 ? 20 * random.In(2, 49) : 100 * random.In(1, 60);
}

void Increase(Random& random, Draft& draft) {
  int64_t x, y;
  WholeAmount(random, x, y);
  draft.question =
      Say(random,
          {"Increase {1} by {0} %.", "A price of {1} dollars rises by {0} %. What is the new price?",
           "What is {1} plus {0} percent?", "{2} earns {1} dollars and gets {0} % more. How much is it now?",
           "Rent of {1} goes up by {0}%. What is the new rent?"},
          x, y, random.Pick(Names()));
  Trace trace(draft.thinking);
  draft.answer = std::to_string(trace.Add(y, PercentOf(trace, x, y) / 100));
}

void Decrease(Random& random, Draft& draft) {
  int64_t x, y;
  WholeAmount(random, x, y);
  draft.question =
      Say(random,
          {"Decrease {1} by {0} %.", "A price of {1} dollars falls by {0} %. What is the new price?",
           "What is {1} minus {0} percent?", "{2} buys a bike for {1} dollars with {0} % off. What is paid?",
           "Costs of {1} are cut by {0}%. What are the new costs?"},
          x, y, random.Pick(Names()));
  Trace trace(draft.thinking);
  draft.answer = std::to_string(trace.Subtract(y, PercentOf(trace, x, y) / 100));
}

void Share(Random& random, Draft& draft) {
  // a of b, b with one digit before its zeros: the zeros are cut off and the rest is a division by that digit.
  const int64_t digit = random.In(1, 9), zeros = random.In(1, 3);
  int64_t unit = zeros == 1 ? 10 : zeros == 2 ? 100 : 1000;
  int64_t percent = random.In(1, 99);
  while (percent * digit * unit % 100 != 0) percent = random.In(1, 99);
  const int64_t b = digit * unit, a = percent * b / 100;
  const std::string_view name = random.Pick(Names()), things = random.Pick(Things());
  draft.question =
      Say(random,
          {"What percent of {1} is {0}?", "What share of {1} is {0}, in percent?", "{0} is what percent of {1}?",
           "{0} of {1} {3} are sold. What percent is that?", "{2} has read {0} of {1} pages. What percent is that?"},
          a, b, name, things);
  Trace trace(draft.thinking);
  trace.Line("{}*100={}", a, a * 100);
  trace.Line("{}/{}={}/{}", a * 100, b, a * 100 / unit, digit);
  const int64_t share = digit == 1 ? a * 100 / unit : trace.Divide(a * 100 / unit, digit).quotient;
  draft.answer = fmt::format("{}%", share);
}

constexpr Kind kKinds[] = {{"percent_of", Of}, {"increase", Increase}, {"decrease", Decrease}, {"share", Share}};

}  // namespace

std::span<const Kind> PercentKinds() { return kKinds; }

}  // namespace fathom
