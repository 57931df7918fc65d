#include "cache/admission.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

namespace fathom {
namespace {

constexpr double kDay = 86400;
constexpr double kMidnight = 20000 * kDay;

TEST(WriteBudget, WithoutABudgetEverythingIsAdmitted) {
  WriteBudget budget(0);
  EXPECT_TRUE(budget.Admit(std::numeric_limits<int64_t>::max(), 1, kMidnight));
  EXPECT_TRUE(budget.Admit(1000, 1, kMidnight));  // the count does not overflow
}

TEST(WriteBudget, TheCurve) {
  WriteBudget budget(8000);
  EXPECT_EQ(budget.Allowance(kMidnight), 2000);
  EXPECT_EQ(budget.Allowance(kMidnight + kDay / 2), 5000);
  EXPECT_NEAR(budget.Allowance(kMidnight + kDay - 1), 8000, 1);
  int64_t once = 0, twice = 0;
  while (budget.Admit(10, 1, kMidnight)) once += 10;
  while (budget.Admit(10, 2, kMidnight)) twice += 10;
  EXPECT_EQ(once, 1000);          // half of the allowance: anything
  EXPECT_EQ(once + twice, 2000);  // the rest: what was touched twice
  EXPECT_FALSE(budget.Admit(10, 1000, kMidnight));
  EXPECT_FALSE(budget.Admit(10, 1, kMidnight + kDay / 4));  // 3500: 2000 are more than half
  EXPECT_TRUE(budget.Admit(10, 2, kMidnight + kDay / 4));
  EXPECT_TRUE(budget.Admit(10, 1, kMidnight + kDay / 2));   // 5000
  EXPECT_EQ(budget.state().written, 2020);
}

TEST(WriteBudget, ANewDayBeginsAfreshAndAClockSetBackDoesNot) {
  WriteBudget budget(8000);
  while (budget.Admit(100, 2, kMidnight + kDay / 2)) {
  }
  EXPECT_FALSE(budget.Admit(100, 2, kMidnight - 10));
  EXPECT_FALSE(budget.Admit(100, 2, kMidnight + kDay / 2));
  EXPECT_TRUE(budget.Admit(100, 2, kMidnight + kDay));
  EXPECT_EQ(budget.state().day, 20001);
  EXPECT_EQ(budget.state().written, 100);
}

TEST(WriteBudget, SurvivesARestart) {
  WriteBudget before(8000);
  while (before.Admit(100, 2, kMidnight)) {
  }
  WriteBudget after(8000, before.state());
  EXPECT_FALSE(after.Admit(100, 2, kMidnight + 1));
  WriteBudget smaller(1000, before.state());  // the budget was lowered meanwhile
  EXPECT_FALSE(smaller.Admit(1, 2, kMidnight + kDay - 1));
  WriteBudget tomorrow(8000, before.state());
  EXPECT_TRUE(tomorrow.Admit(100, 1, kMidnight + kDay));
}

TEST(WriteBudget, RefundsWhatWasNotWritten) {
  WriteBudget budget(8000);
  while (budget.Admit(100, 2, kMidnight)) {
  }
  budget.Refund(100);
  EXPECT_TRUE(budget.Admit(100, 2, kMidnight));
  budget.Refund(1 << 30);
  EXPECT_EQ(budget.state().written, 0);
}

TEST(WriteBudget, NeverBeyondTheBudget) {
  std::mt19937 random(1);
  for (int round = 0; round < 50; ++round) {
    const int64_t daily = 1 + random() % 100000;
    WriteBudget budget(daily);
    int64_t written = 0;
    for (double t = 0; t < kDay; t += 200) {
      const int64_t bytes = 1 + random() % 2000;
      const bool admitted = budget.Admit(bytes, random() % 5, kMidnight + t);
      if (admitted) written += bytes;
      ASSERT_LE(written, budget.Allowance(kMidnight + t));
      ASSERT_LE(written, daily);
    }
    ASSERT_EQ(written, budget.state().written);
  }
}

}  // namespace
}  // namespace fathom
