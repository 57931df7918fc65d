// Every answer is worked out a second time, from the question's text alone and by other means than the generator's:
// numeric families here, words and rules in verify_words_test.cc.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <map>
#include <regex>
#include <sstream>

#include "tasks/problem.h"
#include "tasks/reading_for_test.h"

namespace fathom {
namespace {

using std::chrono::sys_days;

// --- arithmetic -----------------------------------------------------------------------------------------------------

/// The longest stretch of digits, operators and brackets.
std::string ExpressionIn(const std::string& question) {
  std::string best;
  static const std::regex kExpression("[0-9(][0-9+*() -]*[0-9)]");
  for (std::sregex_iterator it(question.begin(), question.end(), kExpression), end; it != end; ++it) {
    if (it->length() > static_cast<std::ptrdiff_t>(best.size())) best = it->str();
  }
  return best;
}

std::string Arithmetic(const Problem& p) {
  const std::vector<double> n = NumbersIn(p.question);
  if (p.kind == "addition" || p.kind == "three_summands") {
    double sum = 0;
    for (const double value : n) sum += value;
    return Text(sum);
  }
  if (p.kind == "subtraction") return Text(std::abs(n.at(0) - n.at(1)));
  if (p.kind == "multiplication" || p.kind == "long_multiplication") return Text(n.at(0) * n.at(1));
  if (p.kind == "division") {
    const double a = std::max(n.at(0), n.at(1)), b = std::min(n.at(0), n.at(1));
    return Text(std::floor(a / b)) + " remainder " + Text(std::fmod(a, b));
  }
  return Text(Calculate(ExpressionIn(p.question)));
}

// --- percent and interest -------------------------------------------------------------------------------------------

double First(const std::string& text, const char* pattern) {
  std::smatch match;
  return std::regex_search(text, match, std::regex(pattern)) ? std::atof(match[1].str().c_str()) : -1;
}

std::string Percent(const Problem& p) {
  std::vector<double> n = NumbersIn(p.question);
  if (p.kind == "share") {
    return Text(100 * std::min(n.at(0), n.at(1)) / std::max(n.at(0), n.at(1))) + "%";
  }
  const double rate = First(p.question, "([0-9]+) ?(?:%|percent)");
  n.erase(std::find(n.begin(), n.end(), rate));
  const double share = n.at(0) * rate / 100;
  return Text(p.kind == "percent_of" ? share : p.kind == "increase" ? n[0] + share : n[0] - share);
}

std::string Interest(const Problem& p) {
  std::vector<double> n = NumbersIn(p.question);
  const double rate = First(p.question, "([0-9]+) ?(?:%|percent)");
  const double periods = First(p.question, "([0-9]+) (?:year|month)");
  n.erase(std::find(n.begin(), n.end(), rate));
  n.erase(std::find(n.begin(), n.end(), periods));
  EXPECT_EQ(n.size(), 1u) << p.question;
  const double amount = n.at(0), yearly = amount * rate / 100;
  if (p.kind == "simple_interest") return Text(yearly * periods);
  if (p.kind == "final_amount") return Text(amount + yearly * periods);
  if (p.kind == "monthly_interest") return Text(yearly * periods / 12);
  return Text(amount * std::pow(1 + rate / 100, periods));
}

// --- units ----------------------------------------------------------------------------------------------------------

const std::map<std::string, double> kSizes = {{"km", 100000}, {"m", 100},  {"cm", 1}, {"kg", 1000}, {"g", 1},
                                              {"h", 3600},    {"min", 60}, {"s", 1},  {"l", 1000},  {"ml", 1}};

std::string Units(const Problem& p) {
  static const std::regex kAmount("([0-9]+) (km|cm|kg|min|ml|m|g|h|s|l)\\b");
  const auto total = [](const std::string& text) {
    double sum = 0;
    for (std::sregex_iterator it(text.begin(), text.end(), kAmount), end; it != end; ++it) {
      sum += std::atof((*it)[1].str().c_str()) * kSizes.at((*it)[2]);
    }
    return sum;
  };
  double expected = total(p.question);
  if (p.kind == "pieces") {
    std::vector<double> n = NumbersIn(p.question);
    expected *= n.at(0) * n.at(1) / First(p.question, "([0-9]+) (?:km|cm|kg|min|ml|m|g|h|s|l)\\b");
  }
  // The answer must have the same total, and its smaller part must be below one larger unit.
  std::smatch match;
  static const std::regex kMixed("([0-9]+) ([a-z]+) ([0-9]+) ([a-z]+)");
  const bool normal = p.kind == "to_small_unit"
                          ? p.answer.find(' ') == p.answer.rfind(' ')
                          : std::regex_match(p.answer, match, kMixed) &&
                                std::atof(match[3].str().c_str()) * kSizes.at(match[4]) < kSizes.at(match[2]);
  return normal && std::abs(total(p.answer) - expected) < 1e-6 ? p.answer : "another amount";
}

// --- dates, by the calendar of the standard library ------------------------------------------------------------------

const std::vector<std::string> kMonthNames = {"January", "February", "March",     "April",   "May",      "June",
                                              "July",    "August",   "September", "October", "November", "December"};
const std::vector<std::string> kDayNames = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                            "Thursday", "Friday", "Saturday"};

std::string Dates(const Problem& p) {
  const std::string& q = p.question;
  if (p.kind == "leap_year") {
    static const std::regex kYear("[0-9]{4}");
    std::smatch match;
    EXPECT_TRUE(std::regex_search(q, match, kYear));
    return std::chrono::year(std::atoi(match.str().c_str())).is_leap() ? "yes" : "no";
  }
  const std::chrono::year year(q.find("a leap year") != std::string::npos ? 2024 : 2023);
  if (p.kind == "weekday") {
    const bool back = q.find("ago") != std::string::npos || q.find("before") != std::string::npos;
    const int days = static_cast<int>(NumbersIn(q).at(0));
    for (unsigned i = 0; i < 7; ++i) {
      if (q.find(kDayNames[i]) == std::string::npos) continue;
      const std::chrono::weekday day = std::chrono::weekday(i) + std::chrono::days(back ? -days : days);
      return kDayNames[day.c_encoding()];
    }
    return "no weekday";
  }
  if (p.kind == "days_of_months") {
    unsigned days = 0;
    for (unsigned m = 1; m <= 12; ++m) {
      if (q.find(kMonthNames[m - 1]) == std::string::npos) continue;
      days += static_cast<unsigned>((year / std::chrono::month(m) / std::chrono::last).day());
    }
    return std::to_string(days);
  }
  static const std::regex kDate(
      "(January|February|March|April|May|June|July|August|September|October|November|December) "
      "([0-9]+)");
  std::vector<sys_days> dates;
  std::string rest;
  for (std::sregex_iterator it(q.begin(), q.end(), kDate), end; it != end; ++it) {
    const auto month = std::find(kMonthNames.begin(), kMonthNames.end(), (*it)[1].str()) - kMonthNames.begin() + 1;
    dates.push_back(year / std::chrono::month(static_cast<unsigned>(month)) /
                    std::chrono::day(static_cast<unsigned>(std::atoi((*it)[2].str().c_str()))));
  }
  if (p.kind == "days_between") return std::to_string((dates.at(1) - dates.at(0)).count());
  const int days = static_cast<int>(First(q, "([0-9]+) days"));
  const std::chrono::year_month_day end(dates.at(0) + std::chrono::days(days));
  return kMonthNames[static_cast<unsigned>(end.month()) - 1] + " " + std::to_string(static_cast<unsigned>(end.day()));
}

// --- comparison, sorting of numbers, tables, countdown ---------------------------------------------------------------

std::string Comparison(const Problem& p) {
  std::vector<double> n = NumbersIn(p.question);
  std::sort(n.begin(), n.end());
  if (p.kind == "second_largest") return Text(n.at(n.size() - 2));
  const bool most = p.question.find("larg") != std::string::npos || p.question.find("maximum") != std::string::npos;
  return Text(most ? n.back() : n.front());
}

std::string SortedNumbers(const Problem& p) {
  std::vector<double> n = NumbersIn(p.question);
  std::sort(n.begin(), n.end());
  static const std::regex kDown("descending|largest to smallest|largest first|high to low");
  if (std::regex_search(p.question, kDown)) std::reverse(n.begin(), n.end());
  std::string text;
  for (const double value : n) text += (text.empty() ? "" : ", ") + Text(value);
  return text;
}

std::string Tables(const Problem& p) {
  std::istringstream lines(p.question);
  std::string line, asked;
  std::map<std::string, std::map<std::string, double>> rows;
  std::getline(lines, line);
  while (std::getline(lines, line)) {
    std::smatch match;
    static const std::regex kRow("\\| ([A-Za-z]+) \\| ([0-9]+) \\| ([0-9]+) \\|");
    if (std::regex_match(line, match, kRow)) {
      rows[match[1]] = {{"revenue", std::stod(match[2])}, {"costs", std::stod(match[3])}};
    } else {
      asked = line;
    }
  }
  std::vector<std::string> named;
  for (const auto& [name, values] : rows) {
    if (asked.find(name) != std::string::npos) named.push_back(name);
  }
  const std::string column = asked.find("revenue") != std::string::npos ? "revenue" : "costs";
  if (p.kind == "profit") return Text(rows[named.at(0)]["revenue"] - rows[named[0]]["costs"]);
  if (p.kind == "difference") return Text(std::abs(rows[named.at(0)][column] - rows[named.at(1)][column]));
  double sum = 0;
  if (p.kind == "total") {
    for (auto& [name, values] : rows) sum += values[column];
    return Text(sum);
  }
  if (p.kind == "largest_row") {
    const double sign = asked.find("highest") != std::string::npos ? 1 : -1;
    return std::max_element(rows.begin(), rows.end(),
                            [&](auto& a, auto& b) { return sign * a.second[column] < sign * b.second[column]; })
        ->first;
  }
  std::smatch test, summed;
  static const std::regex kTest("(revenue|costs) (?:is |are )?(above|below) ([0-9]+)");
  static const std::regex kSummed("(?:total|Add up the|sum of their) (revenue|costs)");
  EXPECT_TRUE(std::regex_search(asked, test, kTest) && std::regex_search(asked, summed, kSummed)) << asked;
  for (auto& [name, values] : rows) {
    const double value = values[test[1]], limit = std::stod(test[3]);
    if (test[2] == "above" ? value > limit : value < limit) sum += values[summed[1]];
  }
  return Text(sum);
}

std::string Countdown(const Problem& p) {
  std::vector<double> n = NumbersIn(p.question), used = NumbersIn(p.answer);
  EXPECT_EQ(n.size(), 4u) << p.question;
  const double target = n.back();
  n.pop_back();
  std::sort(n.begin(), n.end());
  std::sort(used.begin(), used.end());
  const bool allowed = p.kind == "plus_minus_times" || p.answer.find('*') == std::string::npos;
  return n == used && allowed && Calculate(p.answer) == target ? p.answer : "a wrong expression";
}

TEST(VerifyNumbers, AnswersAreRight) {
  const std::map<std::string, std::string (*)(const Problem&)> solvers = {
      {"arithmetic", Arithmetic}, {"percent", Percent},       {"interest", Interest}, {"units", Units},
      {"dates", Dates},           {"comparison", Comparison}, {"tables", Tables},     {"countdown", Countdown}};
  for (const auto& [family, solve] : solvers) {
    const std::vector<std::string> families = {family};
    auto generator = TaskGenerator::Create(31, Split::kTrain, families);
    ASSERT_TRUE(generator.has_value());
    for (int i = 0; i < 4000; ++i) {
      const Problem p = generator->Next();
      ASSERT_EQ(solve(p), p.answer) << p.question << "\n" << p.thinking;
    }
  }
  const std::vector<std::string> sorting = {"sorting"};
  auto generator = TaskGenerator::Create(31, Split::kTrain, sorting);
  for (int i = 0; i < 4000; ++i) {
    const Problem p = generator->Next();
    if (p.kind != "numbers") continue;
    ASSERT_EQ(SortedNumbers(p), p.answer) << p.question;
  }
}

// --- the steps ------------------------------------------------------------------------------------------------------

/// "3300/60=330/6": both sides have one value. "4*6=24+4=28" is read from left to right: the next side begins with the
/// value of the one before. "34/6=5 r4" is a division with remainder; "3<7" and "25<=31" hold.
void CheckStep(const std::string& token, const std::string& next, const Problem& p) {
  static const std::regex kEquation("[0-9.+*/-]+(=[0-9.+*/-]+)+"), kOrder("([0-9.]+)(<=|>=|<|>)([0-9.]+)");
  std::smatch match;
  if (std::regex_match(token, match, kOrder)) {
    const double a = std::stod(match[1]), b = std::stod(match[3]);
    const std::string sign = match[2];
    EXPECT_TRUE(sign == "<"    ? a < b
                : sign == ">"  ? a > b
                : sign == "<=" ? a <= b
                               : a >= b)
        << token << "\n"
        << p.thinking;
    return;
  }
  if (!std::regex_match(token, kEquation)) return;
  if (next.size() > 1 && next[0] == 'r' && std::isdigit(static_cast<unsigned char>(next[1])) != 0) {
    const std::vector<double> n = NumbersIn(token);
    ASSERT_EQ(n.size(), 3u) << token;
    const double rest = std::stod(next.substr(1));
    EXPECT_EQ(n[0], n[1] * n[2] + rest) << token << " " << next << "\n" << p.thinking;
    EXPECT_LT(rest, n[1]) << token;
    return;
  }
  std::istringstream sides(token);
  std::string side;
  std::getline(sides, side, '=');
  double value = Calculate(side);
  while (std::getline(sides, side, '=')) {
    const double next_value = Calculate(side);
    EXPECT_TRUE(std::abs(next_value - value) < 1e-9 || NumbersIn(side).at(0) == value) << token << "\n" << p.thinking;
    value = next_value;
  }
}

TEST(VerifyNumbers, EveryStepHolds) {
  auto generator = TaskGenerator::Create(32, Split::kTrain);
  ASSERT_TRUE(generator.has_value());
  int64_t steps = 0;
  for (int i = 0; i < 20'000 && !testing::Test::HasFailure(); ++i) {
    const Problem p = generator->Next();
    std::istringstream words(p.thinking);
    std::string token, next;
    words >> token;
    for (; !token.empty(); token = next) {
      next.clear();
      words >> next;
      std::string bare = token;
      while (!bare.empty() && (bare.back() == ';' || bare.back() == ',' || bare.back() == ':')) bare.pop_back();
      CheckStep(bare, next, p);
      steps += bare.find('=') != std::string::npos ? 1 : 0;
    }
  }
  EXPECT_GT(steps, 40'000);
}

}  // namespace
}  // namespace fathom
