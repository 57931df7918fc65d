// Interest: simple, with the amount that is owed at the end, for months of a yearly rate, compound.
#include "tasks/draft.h"
#include "tasks/trace.h"
#include "tasks/words.h"

namespace fathom {
namespace {

/// One year's interest on a multiple of 100.
int64_t YearlyInterest(Trace& trace, int64_t amount, int64_t rate) {
  trace.Line("{}/100={}", amount, amount / 100);
  return trace.Multiply(amount / 100, rate);
}

void Simple(Random& random, Draft& draft) {
  const int64_t amount = 100 * random.In(2, 99), rate = random.In(2, 9), years = random.In(2, 9);
  draft.question =
      Say(random,
          {"What is the simple interest on {0} dollars at {1} % a year for {2} years?",
           "{3} lends {0} dollars at {1}% simple interest a year. How much interest is that after {2} years?",
           "Find the simple interest: {0} at {1} percent for {2} years.",
           "A loan of {0} euros costs {1} % simple interest a year. How much interest is due for {2} years?"},
          amount, rate, years, random.Pick(Names()));
  Trace trace(draft.thinking);
  draft.answer = std::to_string(trace.Multiply(YearlyInterest(trace, amount, rate), years));
}

void FinalAmount(Random& random, Draft& draft) {
  const int64_t amount = 100 * random.In(2, 99), rate = random.In(2, 9), years = random.In(1, 5);
  draft.question =
      Say(random,
          {"{3} borrows {0} dollars at {1} % simple interest a year. How much is owed after {2} year{4}?",
           "What do {0} dollars grow to in {2} year{4} at {1}% simple interest?",
           "{0} euros are saved at {1} percent simple interest a year. What is the balance after {2} year{4}?",
           "A loan of {0} runs {2} year{4} at {1} % simple interest. What must be paid back in all?"},
          amount, rate, years, random.Pick(Names()), years == 1 ? "" : "s");
  Trace trace(draft.thinking);
  int64_t interest = YearlyInterest(trace, amount, rate);
  if (years > 1) interest = trace.Multiply(interest, years);
  draft.answer = std::to_string(trace.Add(amount, interest));
}

void Monthly(Random& random, Draft& draft) {
  // The yearly interest divides by 12, in two steps: by 4, then by 3.
  int64_t amount = 100 * random.In(2, 99), rate = random.In(2, 9);
  while (amount / 100 * rate % 12 != 0) amount = 100 * random.In(2, 99), rate = random.In(2, 9);
  const int64_t months = random.In(2, 9);
  draft.question = Say(random,
                       {"{0} dollars earn {1} % simple interest a year. How much is that for {2} months?",
                        "{3} lends {0} dollars at {1}% a year for {2} months. How much simple interest is that?",
                        "What is the simple interest on {0} euros for {2} months at {1} percent a year?",
                        "A loan of {0} costs {1} % a year. How much interest is due for {2} months?"},
                       amount, rate, months, random.Pick(Names()));
  Trace trace(draft.thinking);
  const int64_t quarter = trace.Divide(YearlyInterest(trace, amount, rate), 4).quotient;
  const int64_t month = trace.Divide(quarter, 3).quotient;
  draft.answer = std::to_string(trace.Multiply(month, months));
}

void Compound(Random& random, Draft& draft) {
  // Three years only where all amounts stay whole.
  const bool three = random.Below(4) == 0;
  const int64_t rate = three ? random.Pick({10, 20}) : random.In(1, 9);
  const int64_t amount = three ? 1000 * random.In(1, 60) : 100 * random.In(2, 99);
  const int64_t years = three ? 3 : 2;
  draft.question =
      Say(random,
          {"{0} dollars earn {1} % compound interest a year. What is the balance after {2} years?",
           "{3} saves {0} dollars at {1}% a year with compound interest. What is it worth after {2} years?",
           "What do {0} euros grow to in {2} years at {1} percent compound interest?",
           "A debt of {0} grows by {1} % each year. How much is it after {2} years?"},
          amount, rate, years, random.Pick(Names()));
  Trace trace(draft.thinking);
  int64_t balance = amount;
  if (three) {
    for (int64_t year = 0; year < years; ++year) {
      trace.Line("{}/10={}", balance, balance / 10);
      int64_t interest = balance / 10;
      if (rate == 20) interest = trace.Add(interest, interest);
      balance = trace.Add(balance, interest);
    }
    draft.answer = std::to_string(balance);
    return;
  }
  balance = trace.Add(balance, YearlyInterest(trace, balance, rate));
  // The second year's interest may have cents, which are left aside while the whole parts are added.
  const int64_t product = trace.Multiply(balance, rate);
  const std::string interest = FromHundredths(product);
  trace.Line("{}/100={}", product, interest);
  const int64_t whole = trace.Add(balance, product / 100);
  draft.answer = FromHundredths(whole * 100 + product % 100);
}

constexpr Kind kKinds[] = {{"simple_interest", Simple},
                           {"final_amount", FinalAmount},
                           {"monthly_interest", Monthly},
                           {"compound_interest", Compound}};

}  // namespace

std::span<const Kind> InterestKinds() { return kKinds; }

}  // namespace fathom
