// The verifiable suite against the real generator: held out, seeded, scored by the problem's own rule.
#include <gtest/gtest.h>

#include <set>

#include "eval/suite.h"
#include "tasks/problem.h"

namespace fathom {
namespace {

TEST(Verifiable, ProblemsAreHeldOutAndFollowTheSeed) {
  const Suite* suite = FindSuite("verifiable");
  ASSERT_NE(suite, nullptr);
  const auto loaded = suite->load({.seed = 3, .n = 300});
  ASSERT_TRUE(loaded) << loaded.error().message;
  ASSERT_EQ(loaded->items.size(), 300u);
  EXPECT_EQ(loaded->families.size(), TaskFamilies().size());
  std::set<std::string> families, ids;
  for (const EvalItem& item : loaded->items) {
    EXPECT_EQ(SplitOf(item.prompt), Split::kHeldOut) << item.prompt;
    families.insert(item.family);
    EXPECT_TRUE(ids.insert(item.id).second) << item.id;
  }
  EXPECT_EQ(families.size(), TaskFamilies().size());
  EXPECT_EQ(suite->load({.seed = 3, .n = 300})->items[123].prompt, loaded->items[123].prompt);
  EXPECT_NE(suite->load({.seed = 4, .n = 300})->items[123].prompt, loaded->items[123].prompt);
  for (const FamilyInfo& family : loaded->families) {
    ASSERT_TRUE(family.chance.has_value());
    EXPECT_GE(*family.chance, 0);
    EXPECT_LT(*family.chance, 0.9) << family.name;
  }
}

TEST(Verifiable, OnlyTheRightAnswerScores) {
  const auto loaded = FindSuite("verifiable")->load({.seed = 5, .n = 60});
  ASSERT_TRUE(loaded);
  for (const EvalItem& item : loaded->items) {
    EXPECT_EQ(item.score(item.gold).value, 1) << item.prompt;
    EXPECT_EQ(item.score("\n" + item.gold + ".\n").value, 1) << item.prompt;
    EXPECT_EQ(item.score("").value, 0);
    EXPECT_EQ(item.score("zzz " + item.gold).value, 0);
  }
}

TEST(Verifiable, TextsForModelsWithoutAChatFormatEndInANewLine) {
  const auto loaded = FindSuite("verifiable")->load({.seed = 5, .n = 3, .chat = false});
  ASSERT_TRUE(loaded);
  EXPECT_TRUE(loaded->items[0].prompt.ends_with("\n"));
}

}  // namespace
}  // namespace fathom
