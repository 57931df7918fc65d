#include "cli/roofline.h"

#include <gtest/gtest.h>

namespace fathom {
namespace {

TEST(Roofline, EachStageIsHeldToItsOwnCeiling) {
  Profile profile;
  profile.Start();
  profile.counter()->bytes = 3e6;
  profile.counter()->int8 = 1e6;
  profile.Lap(Stage::kHead);
  profile.counter()->bytes = 1e3;
  profile.counter()->int8 = 4e6;
  profile.counter()->bf16 = 2e6;
  profile.Lap(Stage::kAttention);
  profile.Lap(Stage::kSwiGlu);
  const Roofline roofline = MakeRoofline(profile, {.bandwidth = 1e9, .int8 = 2e9, .bf16 = 1e9, .f32 = 5e8});
  ASSERT_EQ(roofline.rows.size(), 3u);  // in the order of a pass
  EXPECT_EQ(roofline.rows[0].name, "attention");
  EXPECT_EQ(roofline.rows[1].name, "SwiGLU");
  EXPECT_EQ(roofline.rows[2].name, "head");
  EXPECT_STREQ(roofline.rows[0].bound, "arithmetic");
  EXPECT_STREQ(roofline.rows[1].bound, "");
  EXPECT_STREQ(roofline.rows[2].bound, "memory");
  EXPECT_DOUBLE_EQ(roofline.rows[0].operations, 6e6);
  // 4e6 / 2e9 + 2e6 / 1e9 seconds of arithmetic, 3e6 / 1e9 of reading.
  EXPECT_NEAR(roofline.rows[0].share * roofline.rows[0].seconds, 4e-3, 1e-12);
  EXPECT_NEAR(roofline.rows[2].share * roofline.rows[2].seconds, 3e-3, 1e-12);
  EXPECT_EQ(roofline.rows[1].share, 0);
  EXPECT_DOUBLE_EQ(roofline.total.bytes, 3.001e6);
  EXPECT_NEAR(roofline.total.share * roofline.total.seconds, 7e-3, 1e-12);
  double shares = 0;
  for (const RooflineRow& row : roofline.rows) shares += row.time_share;
  EXPECT_NEAR(shares, 1, 1e-9);
}

TEST(Roofline, WithoutCeilingsThereAreNoShares) {
  Profile profile;
  profile.Start();
  profile.counter()->int8 = 1e6;
  profile.Lap(Stage::kOutput);
  const Roofline roofline = MakeRoofline(profile, {});
  ASSERT_EQ(roofline.rows.size(), 1u);
  EXPECT_EQ(roofline.rows[0].share, 0);
  EXPECT_STREQ(roofline.rows[0].bound, "");
  EXPECT_TRUE(MakeRoofline(Profile(), {}).rows.empty());
}

}  // namespace
}  // namespace fathom
