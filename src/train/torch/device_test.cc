#include "train/torch/device.h"

#include <gmock/gmock.h>

namespace fathom::train {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

LaunchPlace Place(int rank, int size, std::optional<int> local_rank, std::optional<int> local_size) {
  LaunchPlace place;
  place.rank = rank, place.size = size, place.local_rank = local_rank, place.local_size = local_size;
  return place;
}

TEST(Device, TheOnesThatCompute) {
  const auto devices = UsableDevices();
  EXPECT_THAT(devices, Contains("cpu"));
  EXPECT_THAT(devices, Not(Contains("meta")));
  for (const std::string& name : devices) EXPECT_TRUE(FindDevice(name, {})) << name;
}

TEST(Device, OthersAreRefusedWithTheList) {
  for (const char* name : {"foo", "", "meta", "cpu:x", "cpu:1", "cpu,cpu", ":0", "xla", "vulkan"}) {
    const auto found = FindDevice(name, {});
    ASSERT_FALSE(found) << name;
    EXPECT_EQ(found.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(found.error().message, AllOf(HasSubstr(name), HasSubstr("cpu"), Not(HasSubstr("\n")))) << name;
  }
}

// No machine here has several devices, so the count is given; any kind that is not the CPU will do.
TEST(Device, LocalRanksShareOutTheDevices) {
  const at::Device kind(at::kCUDA);
  EXPECT_EQ(*DeviceOfRank(kind, 4, Place(6, 8, 2, 4)), at::Device(at::kCUDA, 2));
  EXPECT_EQ(*DeviceOfRank(kind, 4, Place(1, 2, 1, std::nullopt)), at::Device(at::kCUDA, 1));
  const auto many = DeviceOfRank(kind, 2, Place(2, 4, 2, 4));
  ASSERT_FALSE(many);
  EXPECT_THAT(many.error().message, AllOf(HasSubstr("local rank 2"), HasSubstr("2 of")));
  // One rank a machine, one visible device (the launcher shows each rank its own), a device that was named, no launcher.
  EXPECT_EQ(*DeviceOfRank(kind, 4, Place(1, 2, 0, 1)), kind);
  EXPECT_EQ(*DeviceOfRank(kind, 1, Place(1, 2, 1, 2)), kind);
  EXPECT_EQ(*DeviceOfRank(at::Device(at::kCUDA, 3), 4, Place(1, 2, 1, 2)), at::Device(at::kCUDA, 3));
  EXPECT_EQ(*DeviceOfRank(kind, 4, LaunchPlace{}), kind);
  EXPECT_EQ(*DeviceOfRank(at::Device(at::kCPU), 1, Place(1, 2, 1, 2)), at::Device(at::kCPU));
}

}  // namespace
}  // namespace fathom::train
