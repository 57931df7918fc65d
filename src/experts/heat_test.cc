// Heat between runs: comes back, or is as if it had never been.
#include <gtest/gtest.h>
#include <xxhash.h>

#include <cmath>
#include <cstring>
#include <fstream>

#include "experts/heat_file.h"
#include "io/fault_env.h"
#include "io/temp_folder_for_test.h"

namespace fathom {
namespace {

class HeatTest : public testing::Test {
 protected:
  HeatTest() {
    heat_.fingerprint[0] = std::byte{0xab};
    for (int i = 0; i < 12; ++i) heat_.uses.push_back(static_cast<float>(i) / 16);
    path_ = HeatPath(folder_ / "sub", heat_.fingerprint);
  }
  Result<ExpertHeat> Load() { return LoadHeat(Env::Default(), path_, heat_.geometry, heat_.fingerprint); }
  void Write(const std::string& bytes) { std::ofstream(path_, std::ios::binary) << bytes; }

  const TempFolderForTest folder_;
  ExpertHeat heat_{.geometry = {3, 4, 2}};
  std::string path_;
};

TEST_F(HeatTest, ComesBack) {
  EXPECT_EQ(Load().error().code, ErrorCode::kNotFound);
  ASSERT_TRUE(SaveHeat(Env::Default(), path_, heat_));
  ASSERT_TRUE(SaveHeat(Env::Default(), path_, heat_));  // replaces
  const auto heat = Load();
  ASSERT_TRUE(heat) << heat.error().message;
  EXPECT_EQ(heat->uses, heat_.uses);
  EXPECT_TRUE(path_.ends_with("/ab000000000000000000000000000000.heat"));
}

TEST_F(HeatTest, OfAnotherModelIsRefused) {
  ASSERT_TRUE(SaveHeat(Env::Default(), path_, heat_));
  auto other = heat_.fingerprint;
  other[31] = std::byte{1};
  EXPECT_EQ(LoadHeat(Env::Default(), path_, heat_.geometry, other).error().code, ErrorCode::kCorrupt);
  EXPECT_FALSE(LoadHeat(Env::Default(), path_, {3, 4, 3}, heat_.fingerprint));
  EXPECT_FALSE(LoadHeat(Env::Default(), path_, {3, 5, 2}, heat_.fingerprint));
  EXPECT_FALSE(LoadHeat(Env::Default(), path_, {2, 4, 2}, heat_.fingerprint));
}

TEST_F(HeatTest, DamageIsSeen) {
  ASSERT_TRUE(SaveHeat(Env::Default(), path_, heat_));
  const std::string good = *ReadWholeFile(Env::Default(), path_, 4096);
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] ^= 4;
    Write(bad);
    EXPECT_FALSE(Load()) << i;
    Write(good.substr(0, i));
    EXPECT_FALSE(Load()) << i;
  }
  Write(good + "x");
  EXPECT_FALSE(Load());
  // Values that make no sense, rightly sealed.
  for (const float value : {-0.1f, 1.5f, std::nanf("")}) {
    std::string bad = good;
    std::memcpy(bad.data() + 64, &value, 4);
    const uint64_t sum = XXH3_64bits(bad.data(), bad.size() - 8);
    std::memcpy(bad.data() + bad.size() - 8, &sum, 8);
    Write(bad);
    EXPECT_EQ(Load().error().code, ErrorCode::kCorrupt);
  }
}

TEST_F(HeatTest, AFailedSaveKeepsTheOldFile) {
  ASSERT_TRUE(SaveHeat(Env::Default(), path_, heat_));
  FaultEnv env;
  env.faults.fail_write_after = 20;
  auto other = heat_;
  other.uses.assign(12, 0.5f);
  EXPECT_FALSE(SaveHeat(env, path_, other));
  EXPECT_EQ(Load()->uses, heat_.uses);
  other.uses.pop_back();
  EXPECT_EQ(SaveHeat(Env::Default(), path_, other).error().code, ErrorCode::kInvalidArgument);
}

TEST(Fingerprint, ParsesHex) {
  const std::string hex = "0f" + std::string(60, '0') + "a1";
  const auto bytes = ParseFingerprint(hex);
  ASSERT_TRUE(bytes);
  EXPECT_EQ((*bytes)[0], std::byte{0x0f});
  EXPECT_EQ((*bytes)[31], std::byte{0xa1});
  EXPECT_FALSE(ParseFingerprint(hex.substr(1)));
  EXPECT_FALSE(ParseFingerprint(std::string(64, 'g')));
}

}  // namespace
}  // namespace fathom
