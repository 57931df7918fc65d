#include "tasks/problem.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "tasks/random.h"

namespace fathom {
namespace {

TaskGenerator Make(uint64_t seed, Split split, std::vector<std::string> families = {}) {
  auto generator = TaskGenerator::Create(seed, split, families);
  EXPECT_TRUE(generator.has_value());
  return *generator;
}

std::string AllOf(const Problem& p) {
  return p.family + '\n' + p.kind + '\n' + p.question + '\n' + p.thinking + '\n' + p.answer;
}

uint64_t HashOfFirst(int count, Split split) {
  TaskGenerator generator = Make(1, split);
  uint64_t hash = 0;
  for (int i = 0; i < count; ++i) hash = Mix64(hash + HashText(AllOf(generator.Next())));
  return hash;
}

TEST(Random, IsTheSameOnEveryMachine) {
  EXPECT_EQ(Mix64(1), 0x5692161d100b05e5u);
  EXPECT_EQ(HashText(""), Mix64(0xcbf29ce484222325u));
  Random random(0);
  EXPECT_EQ(random.Next(), 0xe220a8397b1dcdafu);  // splitmix64's published first output for seed 0
  EXPECT_EQ(random.Next(), 0x6e789e6aa1b965f4u);
}

TEST(Random, StaysInRangeAndReachesBothEnds) {
  Random random(7);
  std::set<int64_t> seen;
  for (int i = 0; i < 1000; ++i) seen.insert(random.In(-2, 3));
  EXPECT_EQ(seen, (std::set<int64_t>{-2, -1, 0, 1, 2, 3}));
}

// A change of any wording, range or trace changes these. Models trained on the old text are then judged by other
// problems: change them on purpose only, and say so in the model card.
TEST(TaskGenerator, TextIsPinned) {
  EXPECT_EQ(HashOfFirst(1000, Split::kTrain), 16950021756998138230u);
  EXPECT_EQ(HashOfFirst(1000, Split::kHeldOut), 3940146024941658223u);
}

TEST(TaskGenerator, SplitsNeverShareAQuestion) {
  std::unordered_set<uint64_t> train;
  TaskGenerator generator = Make(3, Split::kTrain);
  for (int i = 0; i < 200'000; ++i) {
    const Problem problem = generator.Next();
    ASSERT_EQ(SplitOf(problem.question), Split::kTrain);
    train.insert(HashText(problem.question));
  }
  EXPECT_GT(train.size(), 170'000u);  // the space is large
  generator = Make(3, Split::kHeldOut);
  for (int i = 0; i < 10'000; ++i) {
    const Problem problem = generator.Next();
    ASSERT_EQ(SplitOf(problem.question), Split::kHeldOut);
    ASSERT_FALSE(train.contains(HashText(problem.question))) << problem.question;
  }
}

TEST(TaskGenerator, OneQuestionInSixteenIsHeldOut) {
  int held_out = 0;
  for (int i = 0; i < 160'000; ++i) held_out += SplitOf("question " + std::to_string(i)) == Split::kHeldOut ? 1 : 0;
  EXPECT_NEAR(held_out, 10'000, 400);  // four standard deviations
}

TEST(TaskGenerator, SameQuestionHasTheSameSolution) {
  std::unordered_map<std::string, std::string> seen;
  TaskGenerator generator = Make(5, Split::kTrain);
  for (int i = 0; i < 100'000; ++i) {
    const Problem p = generator.Next();
    const auto [at, fresh] = seen.emplace(p.question, p.family + p.kind + p.thinking + "\n=" + p.answer);
    ASSERT_TRUE(fresh || at->second == p.family + p.kind + p.thinking + "\n=" + p.answer) << p.question;
  }
}

TEST(TaskGenerator, SeekContinuesTheStream) {
  TaskGenerator generator = Make(42, Split::kHeldOut);
  std::vector<std::string> texts;
  for (int i = 0; i < 300; ++i) texts.push_back(AllOf(generator.Next()));
  EXPECT_EQ(generator.position(), 300u);
  for (const uint64_t at : {299u, 0u, 17u, 150u}) {
    TaskGenerator other = Make(42, Split::kHeldOut);
    other.Seek(at);
    EXPECT_EQ(other.position(), at);
    for (uint64_t i = at; i < 300; ++i) ASSERT_EQ(AllOf(other.Next()), texts[i]) << i;
  }
  // Far positions take no longer and give different problems.
  generator.Seek(uint64_t{1} << 60);
  const std::string far = AllOf(generator.Next());
  EXPECT_EQ(std::find(texts.begin(), texts.end(), far), texts.end());
}

TEST(TaskGenerator, SeedsDiffer) {
  TaskGenerator a = Make(1, Split::kTrain), b = Make(2, Split::kTrain);
  int same = 0;
  for (int i = 0; i < 1000; ++i) same += a.Next().question == b.Next().question ? 1 : 0;
  EXPECT_LT(same, 5);
}

TEST(TaskGenerator, FamiliesAndKindsAppearUniformly) {
  for (const Split split : {Split::kTrain, Split::kHeldOut}) {
    TaskGenerator generator = Make(11, split);
    std::map<std::string, int> families;
    std::map<std::string, std::map<std::string, int>> kinds;
    const int problems = split == Split::kTrain ? 39'000 : 13'000;
    for (int i = 0; i < problems; ++i) {
      const Problem problem = generator.Next();
      ++families[problem.family];
      ++kinds[problem.family][problem.kind];
    }
    ASSERT_EQ(families.size(), TaskFamilies().size());
    for (const auto& [family, count] : families) {
      EXPECT_NEAR(count, problems / 13.0, 4 * std::sqrt(problems / 13.0)) << family;  // four standard deviations
      for (const auto& [kind, of_kind] : kinds[family]) {
        const double share = 1.0 / static_cast<double>(kinds[family].size());
        // Small kinds may have fewer held-out questions than one in sixteen, so they are only loosely uniform.
        EXPECT_NEAR(of_kind, count * share, count * share * 0.35) << family << "." << kind;
      }
      EXPECT_GE(kinds[family].size(), 2u);
    }
  }
}

TEST(TaskGenerator, DrawsOnlyTheFamiliesAskedFor) {
  TaskGenerator generator = Make(1, Split::kTrain, {"logic", "dates", "logic"});
  std::map<std::string, int> families;
  for (int i = 0; i < 2000; ++i) ++families[generator.Next().family];
  ASSERT_EQ(families.size(), 2u);
  EXPECT_NEAR(families["logic"], 1000, 100);  // named twice, drawn like the other
}

TEST(TaskGenerator, UnknownFamilyIsNamed) {
  const std::vector<std::string> names = {"dates", "astrology"};
  const auto generator = TaskGenerator::Create(1, Split::kTrain, names);
  ASSERT_FALSE(generator.has_value());
  EXPECT_EQ(generator.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(generator.error().message.find("astrology"), std::string::npos);
  EXPECT_NE(generator.error().message.find("countdown"), std::string::npos);  // what there is
}

TEST(TaskGenerator, TextIsPlainAndShort) {
  TaskGenerator generator = Make(77, Split::kTrain);
  double thinking = 0;
  constexpr int kProblems = 40'000;
  for (int i = 0; i < kProblems; ++i) {
    const Problem p = generator.Next();
    ASSERT_GE(p.question.size(), 8u);
    ASSERT_LE(p.question.size(), 400u) << p.question;
    ASSERT_FALSE(p.thinking.empty()) << p.question;
    ASSERT_LE(p.thinking.size(), 600u) << p.thinking;
    ASSERT_FALSE(p.answer.empty()) << p.question;
    ASSERT_LE(p.answer.size(), 80u) << p.answer;
    thinking += static_cast<double>(p.thinking.size());
    for (const std::string* text : {&p.question, &p.thinking, &p.answer}) {
      // Control marks of chat templates are written with these; a wording must not look like one.
      for (const char* mark : {"<|", "|>", "<think", "</think", "<\uff5c", "{", "}", "  "}) {
        ASSERT_EQ(text->find(mark), std::string::npos) << *text;
      }
      for (const char c : *text) ASSERT_TRUE(c == '\n' || (c >= ' ' && c <= '~')) << *text;
      ASSERT_NE(text->front(), ' ');
      ASSERT_NE(text->back(), ' ');
      ASSERT_NE(text->back(), '\n');
    }
    ASSERT_EQ(p.answer.find('\n'), std::string::npos);
  }
  EXPECT_LT(thinking / kProblems, 100);
}

TEST(ChanceLevel, IsAShareAndKnowsYesAndNo) {
  for (const TaskFamily& family : TaskFamilies()) {
    const double level = ChanceLevel(family.name);
    EXPECT_GE(level, 0) << family.name;
    EXPECT_LT(level, 0.5) << family.name;
    EXPECT_EQ(level, ChanceLevel(family.name));
    EXPECT_FALSE(family.about.empty());
  }
  EXPECT_EQ(ChanceLevel("astrology"), 0);
  // Three of four kinds of logic have two answers, the fourth three to five names: 3/4 * 1/2 + 1/4 * 1/4 and a bit
  // more, because true is more frequent than false.
  EXPECT_NEAR(ChanceLevel("logic"), 0.44, 0.04);
  EXPECT_LT(ChanceLevel("sorting"), 0.02);
}

}  // namespace
}  // namespace fathom
