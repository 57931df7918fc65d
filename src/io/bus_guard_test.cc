#include "io/bus_guard.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "io/env.h"
#include "io/temp_folder_for_test.h"

namespace fathom {
namespace {

int64_t Sum(std::span<const std::byte> bytes) {
  int64_t sum = 0;
  for (const std::byte b : bytes) sum += std::to_integer<int>(b);
  return sum;
}

TEST(BusGuardTest, WhatWasCutReadsAsZerosAndIsSaidToBeLost) {
  const TempFolderForTest folder;
  const std::string path = folder / "file", other = folder / "other";
  std::ofstream(path) << std::string(100'000, 'a');
  std::ofstream(other) << std::string(5000, 'b');
  const auto mapped = Env::Default().Map(path, {}), kept = Env::Default().Map(other, {});
  ASSERT_TRUE(mapped && kept);
  BusGuard moved((*mapped)->bytes());
  const BusGuard guard = std::move(moved), second((*kept)->bytes());
  EXPECT_EQ(Sum((*mapped)->bytes()), 100'000 * 'a');
  EXPECT_FALSE(guard.lost());
  std::filesystem::resize_file(path, 10'000);
  // From several threads at once.
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] { EXPECT_EQ(Sum((*mapped)->bytes()), 10'000 * 'a'); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(guard.lost());
  EXPECT_FALSE(moved.lost());
  EXPECT_FALSE(second.lost());
  EXPECT_EQ(Sum((*kept)->bytes()), 5000 * 'b');
}

TEST(BusGuardTest, AFreedPlaceIsNewAgain) {
  const TempFolderForTest folder;
  const std::string path = folder / "file";
  std::ofstream(path) << std::string(9000, 'a');
  for (int round = 0; round < 3; ++round) {
    std::filesystem::resize_file(path, 9000);
    const auto mapped = Env::Default().Map(path, {});
    ASSERT_TRUE(mapped);
    const BusGuard guard((*mapped)->bytes());
    EXPECT_FALSE(guard.lost());
    std::filesystem::resize_file(path, 0);
    EXPECT_EQ(Sum((*mapped)->bytes()), 0);
    EXPECT_TRUE(guard.lost());
  }
}

TEST(BusGuardDeathTest, OthersBusErrorsStayTheirs) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const TempFolderForTest folder;
  const std::string path = folder / "file";
  std::ofstream(path) << std::string(9000, 'a');
  const auto guarded = Env::Default().Map(path, {}), mapped = Env::Default().Map(path, {});
  ASSERT_TRUE(guarded && mapped);
  const BusGuard guard((*guarded)->bytes());
  EXPECT_DEATH(
      {
        std::filesystem::resize_file(path, 0);
        volatile int64_t sum = Sum((*mapped)->bytes());
        (void)sum;
      },
      "");
}

}  // namespace
}  // namespace fathom
