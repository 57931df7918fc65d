#include "base/available_memory.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "base/memory_info.h"

namespace fathom {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

class AvailableMemoryTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "fathom-memory-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root_ = name;
    Write("/proc/meminfo", "MemTotal:       16777216 kB\nMemAvailable:    8388608 kB\nHugePages_Total:       0\n");
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  int64_t MiB() const { return AvailableMemory(root_) / kMiB; }

  std::string root_;
};

TEST_F(AvailableMemoryTest, WithoutLimitsWhatTheMachineHas) {
  EXPECT_EQ(MiB(), 8192);
  Write("/proc/self/cgroup", "0::/\n");
  EXPECT_EQ(MiB(), 8192);
  Write("/sys/fs/cgroup/memory.max", "max\n");
  Write("/sys/fs/cgroup/memory.current", "123456\n");
  EXPECT_EQ(MiB(), 8192);
  Write("/proc/meminfo", "");
  EXPECT_EQ(MiB(), 0);
}

TEST_F(AvailableMemoryTest, Version2AndTheGroupsAbove) {
  Write("/proc/self/cgroup", "0::/outer/inner\n");
  Write("/sys/fs/cgroup/outer/inner/memory.max", "1073741824\n");  // 1024 MiB
  Write("/sys/fs/cgroup/outer/inner/memory.current", "629145600\n");  // 600
  Write("/sys/fs/cgroup/outer/inner/memory.stat", "anon 1\ninactive_file 104857600\nactive_file 209715200\n");  // 300
  EXPECT_EQ(MiB(), 1024 - 600 + 300);
  Write("/sys/fs/cgroup/outer/memory.max", "943718400\n");  // 900
  Write("/sys/fs/cgroup/outer/memory.current", "838860800\n");  // 800, without a word of what is page cache
  EXPECT_EQ(MiB(), 100);
  Write("/sys/fs/cgroup/outer/memory.current", "1048576000\n");  // 1000: over it
  EXPECT_EQ(AvailableMemory(root_), 0);
}

TEST_F(AvailableMemoryTest, Version1) {
  Write("/proc/self/cgroup", "9:name=systemd:/\n4:memory:/api/x\n3:cpu,cpuacct:/\n0::/\n");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  Write("/sys/fs/cgroup/memory/memory.usage_in_bytes", "500\n");
  EXPECT_EQ(MiB(), 8192);
  Write("/sys/fs/cgroup/memory/api/x/memory.limit_in_bytes", "3221225472\n");
  Write("/sys/fs/cgroup/memory/api/x/memory.usage_in_bytes", "2147483648\n");
  Write("/sys/fs/cgroup/memory/api/x/memory.stat", "total_inactive_file 1073741824\ntotal_active_file 0\n");
  EXPECT_EQ(MiB(), 2048);
  // In a container the group's own folder is the root of what is mounted.
  std::filesystem::remove_all(root_ + "/sys/fs/cgroup/memory/api");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n");
  EXPECT_EQ(MiB(), 1023);
}

TEST_F(AvailableMemoryTest, GroupsOfOtherNamespacesAreNotFollowed) {
  Write("/proc/self/cgroup", "0::/../../other\n");
  Write("/sys/fs/cgroup/memory.max", "1048576\n");
  Write("/sys/fs/cgroup/memory.current", "0\n");
  EXPECT_EQ(MiB(), 1);
}

TEST(AvailableMemory, OfThisMachine) {
  const int64_t available = AvailableMemory();
  EXPECT_GT(available, 0);
  EXPECT_LE(available, MemInfo("MemTotal"));
}

}  // namespace
}  // namespace fathom
