#include "train/output_folder.h"

#include <gmock/gmock.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "io/fault_env.h"

namespace fathom {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class OutputFolderTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "fathom_output_XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  std::string Path(const std::string& name) const { return JoinPath(root_, name); }

  std::string root_;
  FaultEnv env_;
};

TEST_F(OutputFolderTest, IsMadeAndLeftEmpty) {
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(TryOutputFolder(env_, Path("a/b")));
  EXPECT_TRUE(std::filesystem::is_directory(Path("a/b")));
  EXPECT_TRUE(std::filesystem::is_empty(Path("a/b")));
  EXPECT_GT(env_.bytes_appended, 0);
}

TEST_F(OutputFolderTest, WhatFailsIsNamedWithWhatToDo) {
  std::ofstream(Path("file")) << "in the way";
  for (const std::string& folder : {Path("file"), Path("file/below"), std::string("/proc/x")}) {
    const Status status = TryOutputFolder(env_, folder);
    ASSERT_FALSE(status) << folder;
    EXPECT_THAT(status.error().message, AllOf(HasSubstr(folder.substr(0, 6)), HasSubstr("--set output.path=")));
  }
}

TEST_F(OutputFolderTest, AFullOrFailingDiskIsSeenAndNothingStays) {
  env_.faults.fail_create = true;
  EXPECT_FALSE(TryOutputFolder(env_, Path("out")));
  env_.faults = {.fail_write_after = 0};
  const Status full = TryOutputFolder(env_, Path("out"));
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, ErrorCode::kResource);
  env_.faults = {.fail_close = true};
  EXPECT_FALSE(TryOutputFolder(env_, Path("out")));
  EXPECT_TRUE(std::filesystem::is_empty(Path("out")));
  env_.faults = {};
  EXPECT_TRUE(TryOutputFolder(env_, Path("out")));
}

}  // namespace
}  // namespace fathom
