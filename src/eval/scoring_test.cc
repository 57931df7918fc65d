// Scorers on examples of our own.
#include "eval/scoring.h"

#include <gtest/gtest.h>

#include "eval/tatqa_metric.h"

namespace fathom {
namespace {

TEST(LastNumber, FindsNumbersAsPeopleWriteThem) {
  EXPECT_EQ(LastNumber("so it costs $1,250.50."), 1250.5);
  EXPECT_EQ(LastNumber("first 3 then -4"), -4);
  EXPECT_EQ(LastNumber("7-4"), 4);  // a difference, not minus four
  EXPECT_EQ(LastNumber("the loss is -$20"), -20);
  EXPECT_EQ(LastNumber("1,2,3"), 3);  // a list, not 123
  EXPECT_EQ(LastNumber("12,345,678 people"), 12345678);
  EXPECT_EQ(LastNumber("about .5"), 0.5);
  EXPECT_EQ(LastNumber("5. "), 5);
  EXPECT_FALSE(LastNumber("none at all"));
  EXPECT_TRUE(LastNumber(std::string(100000, '9')).has_value());
}

TEST(WorkedAnswer, TheAnswerIsBeforeTheLastNumber) {
  EXPECT_EQ(WorkedAnswer("2 + 3 = 5. The answer is 5. That took 10 minutes."), 5);
  EXPECT_EQ(WorkedAnswer("The answer is 3. No: the answer is 4 apples, of 9."), 4);
  EXPECT_EQ(WorkedAnswer("6 * 7 = 42\n#### 42\n"), 42);
  EXPECT_EQ(WorkedAnswer("She has 8 of 12 left, so 8"), 8);
  EXPECT_EQ(WorkedAnswer("17 it is; the answer is clear"), 17);
  EXPECT_FALSE(WorkedAnswer(""));
  EXPECT_TRUE(SameNumber(0.3333, 1.0 / 3));
  EXPECT_FALSE(SameNumber(99, 100));
}

TEST(AnswerIs, ToTheEndOfItsLineWithoutTheStop) {
  EXPECT_EQ(AnswerIs("Hm. So the answer is (B).\nQ: next"), "(B)");
  EXPECT_EQ(AnswerIs("The answer is yes. So the answer is no."), "no");
  EXPECT_EQ(AnswerIs("So the answer is ] } >."), "] } >");
  EXPECT_EQ(AnswerIs("  True \n"), "True");
  EXPECT_EQ(AnswerIs(""), "");
}

TEST(NormalizeLegal, PunctuationAndCase) {
  EXPECT_EQ(NormalizeLegal(" Yes.\n"), "yes");
  EXPECT_EQ(NormalizeLegal("Choice-of-law!"), "choiceoflaw");
  EXPECT_EQ(FirstLine("\n\n  No \nbecause"), "No");
}

TEST(LawBench, OneOptionAndNoOther) {
  const std::vector<std::string> letters = {"A", "B", "C", "D"};
  EXPECT_TRUE(OnlyOptionNamed("[正确答案]B<eoa>", letters, "B"));
  EXPECT_TRUE(OnlyOptionNamed("B, B", letters, "B"));
  EXPECT_FALSE(OnlyOptionNamed("A or B", letters, "B"));
  EXPECT_FALSE(OnlyOptionNamed("?", letters, "B"));
}

TEST(LawBench, ArticleNumbers) {
  EXPECT_EQ(ChineseNumber("二百六十四"), 264);
  EXPECT_EQ(ChineseNumber("一百零三"), 103);
  EXPECT_EQ(ChineseNumber("十二"), 12);
  EXPECT_EQ(ChineseNumber("三四一"), 341);
  EXPECT_EQ(ChineseNumber("一千零一十"), 1010);
  EXPECT_FALSE(ChineseNumber("甲"));
  EXPECT_FALSE(ChineseNumber(""));
  EXPECT_EQ(ArticleNumbers("刑法第266、159条"), (std::vector<int>{266, 159}));
  EXPECT_EQ(ArticleNumbers("[法条]刑法第二百六十四条、第12条<eoa>"), (std::vector<int>{264, 12}));
  // The published pattern 第…款 begins at the first 第, so it takes the article with its clause.
  EXPECT_EQ(ArticleNumbers("第二百六十四条第一款、第12条"), (std::vector<int>{12}));
  EXPECT_TRUE(ArticleNumbers("不知道").empty());
  EXPECT_TRUE(ArticleNumbers("99999999999999999999").empty());
}

TEST(Sets, F1) {
  EXPECT_DOUBLE_EQ(SetF1({"a", "b"}, {"b", "c"}), 0.5);
  EXPECT_DOUBLE_EQ(SetF1({"a", "a"}, {"a"}), 1);
  EXPECT_DOUBLE_EQ(SetF1({}, {"a"}), 0);
}

TEST(RougeL, OverCharacters) {
  EXPECT_DOUBLE_EQ(RougeLCharacters("abcd", "abcd"), 1);
  EXPECT_DOUBLE_EQ(RougeLCharacters("axbx", "ab"), 2.0 * 2 / 6);
  EXPECT_DOUBLE_EQ(RougeLCharacters("成员大会", "社员大会"), 0.75);
  EXPECT_DOUBLE_EQ(RougeLCharacters("", "a"), 0);
  EXPECT_GT(RougeLCharacters(std::string(100000, 'a'), "aaa"), 0);
}

TEST(TatQa, NumbersAndText) {
  EXPECT_TRUE(TatQaIsNumber("$ 1,452.4"));
  EXPECT_TRUE(TatQaIsNumber("(22.5%)"));
  EXPECT_TRUE(TatQaIsNumber("3 million"));
  EXPECT_FALSE(TatQaIsNumber("3 apples"));
  EXPECT_FALSE(TatQaIsNumber("revenue"));
  EXPECT_FALSE(TatQaIsNumber(""));
  EXPECT_DOUBLE_EQ(TatQaToNumber("$1,452.4"), 1452.4);
  EXPECT_DOUBLE_EQ(TatQaToNumber("(22.5)"), -22.5);
  EXPECT_DOUBLE_EQ(TatQaToNumber("12%"), 0.12);
  EXPECT_DOUBLE_EQ(TatQaToNumber("3 million"), 3e6);
  EXPECT_EQ(TatQaNormalize("The  Total, of a plan"), "total of plan");
  EXPECT_EQ(TatQaNormalize("in 2019"), "in 2019");
  EXPECT_EQ(TatQaNormalize("5.00"), "5.0");
}

TEST(TatQa, ScalesCount) {
  const TatQaAnswer gold{{"-12.6"}, "million"};
  EXPECT_EQ(ScoreTatQa({{"-12.6"}, "million"}, gold, true).exact_match, 1);
  EXPECT_EQ(ScoreTatQa({{"(12.6)"}, "million"}, gold, true).exact_match, 1);
  EXPECT_EQ(ScoreTatQa({{"-12600000"}, ""}, gold, true).exact_match, 1);  // the same amount
  EXPECT_EQ(ScoreTatQa({{"-12.6"}, ""}, gold, true).exact_match, 0);
  EXPECT_EQ(ScoreTatQa({{"-12.6"}, "thousand"}, gold, true).f1, 0);
  const TatQaAnswer percent{{"23.42"}, "percent"};
  EXPECT_EQ(ScoreTatQa({{"23.42%"}, ""}, percent, true).exact_match, 1);
  EXPECT_EQ(ScoreTatQa({{"0.2342"}, ""}, percent, true).exact_match, 1);
  EXPECT_EQ(ScoreTatQa({{"23.42"}, "percent"}, percent, true).exact_match, 1);
  EXPECT_EQ(ScoreTatQa({{"23.42"}, ""}, percent, true).exact_match, 0);
}

TEST(TatQa, WordsByF1AndOrderOfSpansDoesNotCount) {
  const TatQaAnswer gold{{"fixed price", "cost-plus type"}, ""};
  EXPECT_EQ(ScoreTatQa({{"cost-plus type", "fixed price"}, ""}, gold, false).exact_match, 1);
  const TatQaScore part = ScoreTatQa({{"fixed price"}, ""}, gold, false);
  EXPECT_EQ(part.exact_match, 0);
  EXPECT_DOUBLE_EQ(part.f1, 0.67);  // 2 of 2 words, 2 of 4: 2/3, rounded to two places
  EXPECT_EQ(ScoreTatQa({}, gold, false).f1, 0);
}

}  // namespace
}  // namespace fathom
