// Eligibility: rules as laws and contracts have them. Conditions of age, income and residence; deadlines; notice
// periods by years of service; fines for late days.
#include <algorithm>

#include "tasks/draft.h"
#include "tasks/trace.h"
#include "tasks/words.h"

namespace fathom {
namespace {

constexpr std::string_view kTowns[] = {"Linz", "Graz", "Bern", "Basel", "Trier", "Bonn", "Ghent", "Leeds"};
constexpr std::string_view kMonths[] = {"January", "March", "May", "July", "August", "October", "December"};

void Conditions(Random& random, Draft& draft) {
  const int64_t min_age = random.In(16, 65), max_income = 50 * random.In(24, 99);
  const std::string_view town = random.Pick(kTowns);
  const int64_t conditions = random.In(2, 3);  // age and income, or all three
  const bool wanted = random.Coin();
  int64_t age = 0, income = 0;
  std::string_view home = town;
  bool eligible = false;
  do {
    age = random.In(std::max<int64_t>(min_age - (wanted ? 0 : 9), 10), std::min<int64_t>(min_age + 25, 99));
    income = 10 * random.In(100, wanted ? max_income / 10 - 1 : 499);
    home = wanted || random.Below(3) != 0 ? town : random.Pick(kTowns);
    eligible = age >= min_age && income < max_income && (conditions == 2 || home == town);
  } while (eligible != wanted);
  const std::string rule =
      conditions == 2
          ? Say(random,
                {"A grant is for people who are at least {0} years old and earn less than {1} a month.",
                 "To get the loan, one must be {0} or older and have a monthly income below {1}.",
                 "The card is for persons of at least {0} years with an income under {1} a month."},
                min_age, max_income)
          : Say(random,
                {"A grant is for people who are at least {0} years old, earn less than {1} a month and live in {2}.",
                 "To get the loan, one must be {0} or older, have a monthly income below {1} and live in {2}.",
                 "The card is for persons from {2} of at least {0} years with an income under {1} a month."},
                min_age, max_income, town);
  const std::string_view name = random.Pick(Names());
  const std::string person =
      conditions == 2
          ? Say(random, {"{0} is {1} and earns {2}.", "{0}, aged {1}, has an income of {2}."}, name, age, income)
          : Say(random, {"{0} is {1}, earns {2} and lives in {3}.", "{0} from {3}, aged {1}, has an income of {2}."},
                name, age, income, home);
  draft.question =
      rule + " " + person + " " + Say(random, {"Is {0} eligible?", "Does {0} qualify?", "Can {0} get it?"}, name);
  Trace trace(draft.thinking);
  // The first condition that fails ends the check.
  const auto check = [&](bool holds) {
    trace.Append(holds ? " yes" : " no");
    return holds;
  };
  trace.Line("age");
  if (check(trace.Compare(std::to_string(age), std::to_string(min_age)) >= 0)) {
    trace.Line("income");
    if (check(trace.Compare(std::to_string(income), std::to_string(max_income)) < 0) && conditions == 3) {
      trace.Line("town {} {}", home, town);
      check(home == town);
    }
  }
  draft.answer = eligible ? "yes" : "no";
  draft.choices = 2;
}

void Deadline(Random& random, Draft& draft) {
  const int64_t start = random.In(1, 15), days = random.In(3, 15), end = start + days;
  const int64_t day = random.Coin() ? random.In(start, end) : random.In(std::min(start + 1, end), 31);
  const std::string_view month = random.Pick(kMonths), name = random.Pick(Names());
  draft.question = Say(
      random,
      {"A letter came on {0} {1}. An answer is valid up to {2} days later. {4} answers on {0} {3}. Is that in time?",
       "Claims must be made within {2} days after {0} {1}. {4} makes one on {0} {3}. Is it in time?",
       "An order of {0} {1} can be cancelled for {2} days. {4} cancels on {0} {3}. Is that in time?",
       "The bill of {0} {1} must be paid within {2} days. {4} pays on {0} {3}. Is it paid in time?"},
      month, start, days, day, name);
  Trace trace(draft.thinking);
  trace.Add(start, days);
  const std::string padded_day = fmt::format("{:02}", day), padded_end = fmt::format("{:02}", end);
  const bool in_time = trace.Compare(padded_day, padded_end) <= 0;
  draft.answer = in_time ? "yes" : "no";
  draft.choices = 2;
}

void Notice(Random& random, Draft& draft) {
  const int64_t first = random.In(2, 5), second = random.In(first + 2, 12);
  const int64_t weeks[3] = {random.In(2, 3), random.In(4, 6), random.In(7, 12)};
  const int64_t years = random.In(1, 15);
  draft.question = Say(
      random,
      {"Notice is {2} weeks under {0} years of service, {3} weeks from {0} to under {1} years, {4} weeks from {1} "
       "years. {5} has worked {6} years. How many weeks of notice is that?",
       "The notice period is {2} weeks for less than {0} years at work, {3} weeks for less than {1} years, else {4} "
       "weeks. {5} has been there {6} years. How many weeks is the period?",
       "A contract says: below {0} years {2} weeks of notice, below {1} years {3} weeks, otherwise {4} weeks. {5} "
       "has {6} years. How many weeks?"},
      first, second, weeks[0], weeks[1], weeks[2], random.Pick(Names()), years);
  Trace trace(draft.thinking);
  const auto below = [&](int64_t limit) {
    const bool yes = trace.Compare(fmt::format("{:02}", years), fmt::format("{:02}", limit)) < 0;
    trace.Append(yes ? " yes" : " no");
    return yes;
  };
  const int64_t answer = below(first) ? weeks[0] : below(second) ? weeks[1] : weeks[2];
  draft.answer = std::to_string(answer);
  draft.choices = 3;
}

void Fine(Random& random, Draft& draft) {
  const int64_t due = random.In(1, 20), late = random.In(2, 31 - due), per_day = random.In(2, 9);
  const int64_t rule = random.Below(3);  // plain, some days free, at most
  const int64_t free = random.In(1, late < 6 ? late - 1 : 5);
  const int64_t cap = 5 * random.In(2, 25);
  const std::string_view name = random.Pick(Names()), month = random.Pick(kMonths);
  const std::string extra = rule == 0 ? ""
                            : rule == 1
                                ? fmt::format(" The first {} late day{} free.", free, free == 1 ? " is" : "s are")
                                : fmt::format(" The fine is at most {}.", cap);
  draft.question = Say(
      random,
      {"A book is due on {0} {1}. Each late day costs {2}.{3} {4} returns it on {0} {5}. What is the fine?",
       "A bill must be paid by {0} {1}; every day after that costs {2}.{3} {4} pays on {0} {5}. How much is the fine?",
       "Late days cost {2} each.{3} The due date is {0} {1}. {4} delivers on {0} {5}. What is the fine?"},
      month, due, per_day, extra, name, due + late);
  Trace trace(draft.thinking);
  int64_t days = trace.Subtract(due + late, due);
  if (rule == 1) days = trace.Subtract(days, free);
  int64_t fine = trace.Multiply(days, per_day);
  if (rule == 2) {
    const int sign = trace.Compare(fmt::format("{:03}", fine), fmt::format("{:03}", cap));
    fine = sign > 0 ? cap : fine;
    trace.Append(fmt::format(" {}", fine));
  }
  draft.answer = std::to_string(fine);
}

constexpr Kind kKinds[] = {{"conditions", Conditions}, {"deadline", Deadline}, {"notice", Notice}, {"fine", Fine}};

}  // namespace

std::span<const Kind> EligibilityKinds() { return kKinds; }

}  // namespace fathom
