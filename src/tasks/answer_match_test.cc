#include <gtest/gtest.h>

#include "tasks/problem.h"

namespace fathom {
namespace {

bool Matches(const char* answer, std::string_view given, const char* family = "arithmetic") {
  return AnswerMatches(Problem{family, "kind", "question", "thinking", answer}, given);
}

TEST(AnswerMatches, TrimsSpaceAndFullStop) {
  EXPECT_TRUE(Matches("yes", "yes"));
  EXPECT_TRUE(Matches("yes", " \t\r\nyes \n"));
  EXPECT_TRUE(Matches("yes", "yes."));
  EXPECT_TRUE(Matches("yes", "yes . "));
  EXPECT_TRUE(Matches("March 9", "March 9."));
  EXPECT_FALSE(Matches("yes", "yes.."));
  EXPECT_FALSE(Matches("yes", "no"));
  EXPECT_FALSE(Matches("yes", "Yes"));  // spelling counts
  EXPECT_FALSE(Matches("yes", ""));
  EXPECT_FALSE(Matches("yes", "."));
  EXPECT_FALSE(Matches("yes", "yes, because"));
}

TEST(AnswerMatches, ComparesNumbersByValue) {
  EXPECT_TRUE(Matches("1200", "1,200"));
  EXPECT_TRUE(Matches("1200", "1200.00"));
  EXPECT_TRUE(Matches("1200", "$1,200.00."));
  EXPECT_TRUE(Matches("1200", "$ 1200"));
  EXPECT_TRUE(Matches("1200", "\u20ac1200"));
  EXPECT_TRUE(Matches("1200", "01200"));
  EXPECT_TRUE(Matches("36.5", "36.50"));
  EXPECT_TRUE(Matches("1234567.5", "1,234,567.5"));
  EXPECT_TRUE(Matches("0", "-0.0"));
  EXPECT_TRUE(Matches("-3", "-3.0"));
  EXPECT_TRUE(Matches("0.5", "00.5"));

  EXPECT_FALSE(Matches("1200", "12,00"));
  EXPECT_FALSE(Matches("1200", "1,2,0,0"));
  EXPECT_FALSE(Matches("1200", ",1200"));
  EXPECT_FALSE(Matches("1200", "1,200,"));
  EXPECT_FALSE(Matches("1200", "1200,000"));
  EXPECT_FALSE(Matches("1200", "120"));
  EXPECT_FALSE(Matches("1200", "12000"));
  EXPECT_FALSE(Matches("1200", "1200.01"));
  EXPECT_FALSE(Matches("1200", "-1200"));
  EXPECT_FALSE(Matches("1200", "+1200"));
  EXPECT_FALSE(Matches("1200", "1.2e3"));
  EXPECT_FALSE(Matches("1200", "1200 1200"));
  EXPECT_FALSE(Matches("1200", "$$1200"));
  EXPECT_FALSE(Matches("1200", "1200%"));
  EXPECT_FALSE(Matches("0.5", ".5"));
  EXPECT_FALSE(Matches("5", "5.."));
  EXPECT_FALSE(Matches("5", "$"));
  EXPECT_FALSE(Matches("5", "-"));
}

TEST(AnswerMatches, PercentSignIsOptional) {
  EXPECT_TRUE(Matches("35%", "35%", "percent"));
  EXPECT_TRUE(Matches("35%", "35 %.", "percent"));
  EXPECT_TRUE(Matches("35%", "35", "percent"));
  EXPECT_TRUE(Matches("35%", "35.0%", "percent"));
  EXPECT_FALSE(Matches("35%", "35%%", "percent"));
  EXPECT_FALSE(Matches("35%", "%", "percent"));
}

TEST(AnswerMatches, TextWithNumbersIsText) {
  EXPECT_TRUE(Matches("5 km 300 m", "5 km 300 m"));
  EXPECT_FALSE(Matches("5 km 300 m", "5300 m"));
  EXPECT_FALSE(Matches("57 remainder 5", "57"));
  EXPECT_FALSE(Matches("1, 2, 3", "123"));
}

bool Countdown(const char* answer, std::string_view given) { return Matches(answer, given, "countdown"); }

TEST(AnswerMatches, AcceptsAnyRightCountdownExpression) {
  EXPECT_TRUE(Countdown("(7*3)+12", "(7*3)+12"));
  EXPECT_TRUE(Countdown("(7*3)+12", "12 + 3 * 7"));
  EXPECT_TRUE(Countdown("(7*3)+12", "((12)+((3)*7))."));
  EXPECT_TRUE(Countdown("(8-2)+5", "8-2+5"));
  EXPECT_TRUE(Countdown("(8-2)+5", "8+(5-2)"));

  EXPECT_FALSE(Countdown("(8-2)+5", "8-(2+5)"));    // another value
  EXPECT_FALSE(Countdown("(7*3)+12", "33"));        // not the numbers
  EXPECT_FALSE(Countdown("(7*3)+12", "7*3+6+6"));   // other numbers
  EXPECT_FALSE(Countdown("(7*3)+12", "7*3+12+0"));  // one too many
  EXPECT_FALSE(Countdown("(5+5)*2", "5*2+5-5+5"));  // one used too often
  EXPECT_FALSE(Countdown("(7*3)+12", "7*3+12=33"));
  EXPECT_FALSE(Countdown("(7*3)+12", "7*3+"));
  EXPECT_FALSE(Countdown("(7*3)+12", "(7*3+12"));
  EXPECT_FALSE(Countdown("(7*3)+12", "7*3)+12"));
  EXPECT_FALSE(Countdown("(7*3)+12", "7 3 12"));
  EXPECT_FALSE(Countdown("(7*3)+12", "-(-7*3)+12"));
  EXPECT_FALSE(Countdown("(7*3)+12", "()"));
  EXPECT_FALSE(Countdown("(7*3)+12", ""));
  EXPECT_FALSE(Countdown("(8*2)+4", "8*4/2+4"));
  EXPECT_FALSE(Countdown("(7*3)+12", "73+12"));
  // Where only + and - are allowed, * is wrong: 2+2+5 and 2*2+5.
  const Problem sums = {"countdown", "plus_minus", "Use 2, 2 and 5 once each with + - to make 9.", "", "(2+2)+5"};
  EXPECT_TRUE(AnswerMatches(sums, "5+2+2"));
  EXPECT_FALSE(AnswerMatches(sums, "2*2+5"));
}

TEST(AnswerMatches, SurvivesHostileText) {
  EXPECT_FALSE(Countdown("(7*3)+12", std::string(1'000'000, '(')));
  EXPECT_FALSE(Countdown("(7*3)+12", std::string(399, '(')));
  EXPECT_FALSE(Countdown("(7*3)+12", std::string(180, '(') + "7*3+12" + std::string(180, ')')));
  EXPECT_FALSE(Countdown("(7*3)+12", std::string(400, '9')));
  EXPECT_FALSE(Countdown("(7*3)+12", "999999999999*999999999999*999999999999*999999999999"));
  EXPECT_FALSE(Countdown("(7*3)+12", "9223372036854775807+9223372036854775807+35"));
  EXPECT_FALSE(Countdown("(7*3)+12", "18446744073709551616+7*3+12"));
  EXPECT_FALSE(Countdown("(7*3)+12", std::string_view("7*3\0+12", 7)));
  EXPECT_FALSE(Matches("5", std::string(10'000'000, ' ') + "6"));
  EXPECT_TRUE(Matches("5", std::string(1000, ' ') + "5"));
  EXPECT_FALSE(Matches("5", std::string(100'000, '0') + "5"));  // longer than any answer
  EXPECT_FALSE(Matches("5", "\xff\xfe\x80"));
  EXPECT_FALSE(Matches("5", "-$"));
  // Answers that no generator writes do no harm either.
  EXPECT_TRUE(Matches("", ""));
  EXPECT_FALSE(Matches("%", "1", "percent"));
  EXPECT_FALSE(Countdown("((((", "7"));
}

TEST(AnswerMatches, EveryProblemAcceptsItsOwnAnswerAndNoOther) {
  auto generator = TaskGenerator::Create(9, Split::kHeldOut);
  ASSERT_TRUE(generator.has_value());
  for (int i = 0; i < 3000; ++i) {
    const Problem problem = generator->Next();
    ASSERT_TRUE(AnswerMatches(problem, problem.answer)) << problem.question;
    ASSERT_TRUE(AnswerMatches(problem, " " + problem.answer + ".\n")) << problem.question;
    ASSERT_FALSE(AnswerMatches(problem, problem.answer + "1")) << problem.question;
    ASSERT_FALSE(AnswerMatches(problem, problem.question)) << problem.question;
  }
}

}  // namespace
}  // namespace fathom
