// Dates: the weekday some days away, the date some days later, days between two dates, days of months together, leap
// years.
#include <array>

#include "tasks/draft.h"
#include "tasks/trace.h"
#include "tasks/words.h"

namespace fathom {
namespace {

constexpr std::string_view kWeekdays[] = {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"};

struct Month {
  std::string_view name;
  int64_t days;
};
constexpr Month kMonths[] = {{"January", 31},   {"February", 28}, {"March", 31},    {"April", 30},
                             {"May", 31},       {"June", 30},     {"July", 31},     {"August", 31},
                             {"September", 30}, {"October", 31},  {"November", 30}, {"December", 31}};

int64_t DaysOf(size_t month, bool leap) { return kMonths[month].days + (month == 1 && leap ? 1 : 0); }
const char* YearWords(bool leap) { return leap ? "a leap year" : "a normal year"; }

void Weekday(Random& random, Draft& draft) {
  const size_t start = static_cast<size_t>(random.Below(7));
  const int64_t days = random.In(3, 365);
  const bool back = random.Below(3) == 0;
  draft.question =
      back ? Say(random,
                 {"Today is {0}. What day was it {1} days ago?", "It is {0}. Which weekday was {1} days ago?",
                  "{2} came {1} days ago. Today is {0}. On what weekday did {2} come?",
                  "If today is {0}, what weekday was it {1} days before?"},
                 kWeekdays[start], days, random.Pick(Names()))
           : Say(random,
                 {"Today is {0}. What day is it in {1} days?", "It is {0}. Which weekday comes {1} days later?",
                  "{2} leaves in {1} days. Today is {0}. On what weekday does {2} leave?",
                  "If today is {0}, what weekday will it be after {1} days?"},
                 kWeekdays[start], days, random.Pick(Names()));
  Trace trace(draft.thinking);
  const int64_t rest = trace.Divide(days, 7).remainder;
  size_t day = start;
  trace.Line("{} 0", kWeekdays[day]);
  for (int64_t i = 1; i <= rest; ++i) {
    day = (day + (back ? 6 : 1)) % 7;
    trace.Append(fmt::format(" {} {}", kWeekdays[day], i));
  }
  draft.answer = kWeekdays[day];
  draft.choices = 7;
}

void DateAfter(Random& random, Draft& draft) {
  const bool leap = random.Coin();
  size_t month = static_cast<size_t>(random.Below(10));
  int64_t day = random.In(1, DaysOf(month, leap));
  const int64_t days = random.In(4, 60);
  draft.question =
      Say(random,
          {"Which date is {0} days after {1} {2} in {3}?", "In {3}, what is the date {0} days after {1} {2}?",
           "It is {1} {2} of {3}. What date is it in {0} days?",
           "{4} starts on {1} {2} of {3} and ends {0} days later. On what date?",
           "A bill of {1} {2} is due after {0} days. On what date, in {3}?"},
          days, kMonths[month].name, day, YearWords(leap), random.Pick(Names()));
  Trace trace(draft.thinking);
  day = trace.Add(day, days);
  for (; day > DaysOf(month, leap); ++month) {
    trace.Line("{} {} {}>{}", kMonths[month].name, DaysOf(month, leap), day, DaysOf(month, leap));
    day = trace.Subtract(day, DaysOf(month, leap));
  }
  trace.Line("{} {} {}<={}", kMonths[month].name, DaysOf(month, leap), day, DaysOf(month, leap));
  draft.answer = fmt::format("{} {}", kMonths[month].name, day);
}

void DaysBetween(Random& random, Draft& draft) {
  const bool leap = random.Coin();
  const size_t first = static_cast<size_t>(random.Below(11));
  const size_t last = static_cast<size_t>(random.In(static_cast<int64_t>(first), std::min<int64_t>(first + 3, 11)));
  int64_t from = random.In(1, DaysOf(first, leap)), to = random.In(1, DaysOf(last, leap));
  if (first == last && from > to) std::swap(from, to);
  draft.question =
      Say(random,
          {"How many days is it from {0} {1} to {2} {3} in {4}?", "How many days after {0} {1} is {2} {3} in {4}?",
           "In {4}, how many days pass from {0} {1} to {2} {3}?",
           "{5} is away from {0} {1} to {2} {3} of {4}. How many days later is the second date?"},
          kMonths[first].name, from, kMonths[last].name, to, YearWords(leap), random.Pick(Names()));
  Trace trace(draft.thinking);
  if (first == last) {
    draft.answer = std::to_string(trace.Subtract(to, from));
    return;
  }
  trace.Line("{} {}", kMonths[first].name, DaysOf(first, leap));
  int64_t days = trace.Subtract(DaysOf(first, leap), from);
  for (size_t month = first + 1; month < last; ++month) {
    trace.Line("{} {}", kMonths[month].name, DaysOf(month, leap));
    days = trace.Add(days, DaysOf(month, leap));
  }
  trace.Line("{} {}", kMonths[last].name, to);
  draft.answer = std::to_string(trace.Add(days, to));
}

void MonthDays(Random& random, Draft& draft) {
  const bool leap = random.Coin();
  std::array<size_t, 12> order;
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  random.Shuffle(order);
  const size_t count = static_cast<size_t>(random.In(2, 3));
  std::vector<std::string> names;
  for (size_t i = 0; i < count; ++i) names.emplace_back(kMonths[order[i]].name);
  draft.question =
      Say(random,
          {"How many days do {0} have together in {1}?", "In {1}, how many days are there in {0} together?",
           "{2} works all days of {0} in {1}. How many days is that?",
           "What is the number of days of {0} in {1}, added up?"},
          JoinAnd(names), YearWords(leap), random.Pick(Names()));
  Trace trace(draft.thinking);
  std::vector<int64_t> days;
  for (size_t i = 0; i < count; ++i) {
    days.push_back(DaysOf(order[i], leap));
    trace.Line("{} {}", names[i], days.back());
  }
  draft.answer = std::to_string(trace.Add(days));
}

void LeapYear(Random& random, Draft& draft) {
  const bool century = random.Below(4) == 0;
  const int64_t year = century ? 100 * random.In(16, 30) : random.In(1600, 2999);
  draft.question =
      Say(random,
          {"Is {0} a leap year?", "Is the year {0} a leap year?", "{1} was told that {0} is a leap year. Is it?",
           "Does February have 29 days in {0}?", "Has the year {0} a 29th of February?"},
          year, random.Pick(Names()));
  Trace trace(draft.thinking);
  // A year that ends in 00 is judged by its hundreds, any other by its last two digits.
  const bool hundreds = year % 100 == 0;
  trace.Line("{:02} {:02}", year / 100, year % 100);
  const int64_t rest = trace.Divide(hundreds ? year / 100 : year % 100, 4).remainder;
  draft.answer = rest == 0 ? "yes" : "no";
  draft.choices = 2;
}

constexpr Kind kKinds[] = {{"weekday", Weekday},
                           {"date_after", DateAfter},
                           {"days_between", DaysBetween},
                           {"days_of_months", MonthDays},
                           {"leap_year", LeapYear}};

}  // namespace

std::span<const Kind> DateKinds() { return kKinds; }

}  // namespace fathom
