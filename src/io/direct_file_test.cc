#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <fstream>
#include <thread>

#include "io/env.h"
#include "io/fault_env.h"
#include "io/temp_folder_for_test.h"

namespace fathom {
namespace {

constexpr int64_t kPage = DirectFile::kAlignment;

std::unique_ptr<DirectFile> Open(Env& env, const std::string& path, bool direct = true) {
  auto file = env.OpenDirect(path, {.create = true, .direct = direct});
  EXPECT_TRUE(file) << file.error().message;
  return file ? std::move(*file) : nullptr;
}

TEST(DirectFile, KeepsWhatIsWrittenWithAndWithoutThePageCache) {
  const TempFolderForTest folder;
  for (bool direct : {true, false}) {
    auto file = Open(Env::Default(), folder / (direct ? "direct" : "cached"), direct);
    ASSERT_TRUE(file->Allocate(8 * kPage));
    EXPECT_EQ(file->Size().value(), 8 * kPage);
    if (!direct) {
      EXPECT_FALSE(file->is_direct());
    }
    EXPECT_GE(file->descriptor(), 0);
    PagesForTest out(2 * kPage), in(2 * kPage), zeros(2 * kPage);
    out.Fill(7);
    ASSERT_TRUE(file->Write(3 * kPage, out.span()));
    ASSERT_TRUE(file->Sync());
    ASSERT_TRUE(file->Read(3 * kPage, in.span()));
    EXPECT_EQ(std::memcmp(in.data(), out.data(), 2 * kPage), 0);
    ASSERT_TRUE(file->Read(kPage, in.span()));
    EXPECT_EQ(std::memcmp(in.data(), zeros.data(), 2 * kPage), 0) << "reserved, not written";
    auto punched = file->PunchHole(3 * kPage, kPage);
    if (punched) {
      ASSERT_TRUE(file->Read(3 * kPage, in.span()));
      EXPECT_EQ(std::memcmp(in.data(), zeros.data(), kPage), 0);
      EXPECT_EQ(std::memcmp(in.data() + kPage, out.data() + kPage, kPage), 0);
    } else {
      EXPECT_EQ(punched.error().code, ErrorCode::kUnsupported);
    }
  }
}

TEST(DirectFile, ReservesBlocksAndGivesThemBack) {
  const TempFolderForTest folder;
  auto file = Open(Env::Default(), folder / "f");
  ASSERT_TRUE(file->Allocate(256 * kPage));
  struct stat info{};
  ASSERT_EQ(::stat((folder / "f").c_str(), &info), 0);
  EXPECT_GE(info.st_blocks * 512, 256 * kPage);
  ASSERT_TRUE(file->Allocate(2 * kPage));
  EXPECT_EQ(file->Size().value(), 2 * kPage);
  // More than any device has: nothing changes.
  auto status = file->Allocate(int64_t{1} << 52);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kResource) << status.error().message;
  EXPECT_EQ(file->Size().value(), 2 * kPage);
}

TEST(DirectFile, RefusesWhatIsNotWholeBlocks) {
  const TempFolderForTest folder;
  auto file = Open(Env::Default(), folder / "f", false);
  ASSERT_TRUE(file->Allocate(4 * kPage));
  PagesForTest memory(2 * kPage);
  const auto code = [](const Status& status) { return status ? ErrorCode::kInternal : status.error().code; };
  EXPECT_EQ(code(file->Read(1, memory.span())), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(file->Read(-kPage, memory.span())), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(file->Read(0, memory.span().first(100))), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(file->Write(0, memory.span().subspan(8, kPage))), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(file->Allocate(kPage + 1)), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(file->Allocate(-kPage)), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(file->PunchHole(0, 5)), ErrorCode::kInvalidArgument);
}

TEST(DirectFile, AReadPastTheEndIsCorrupt) {
  const TempFolderForTest folder;
  std::ofstream(folder / "f") << std::string(kPage + 100, 'x');
  for (bool direct : {true, false}) {
    auto file = Open(Env::Default(), folder / "f", direct);
    PagesForTest memory(2 * kPage);
    auto status = file->Read(0, memory.span());
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kCorrupt);
    EXPECT_NE(status.error().message.find("ends at byte 4196"), std::string::npos) << status.error().message;
    EXPECT_FALSE(file->Read(16 * kPage, memory.span()));
  }
}

TEST(DirectFile, OpensOnlyRegularFilesThatAreThere) {
  const TempFolderForTest folder;
  auto missing = Env::Default().OpenDirect(folder / "none", {});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0644), 0);
  EXPECT_FALSE(Env::Default().OpenDirect(folder / "fifo", {}));
  EXPECT_FALSE(Env::Default().OpenDirect(folder.path(), {}));
}

TEST(Folders, AreMadeWithTheirParents) {
  const TempFolderForTest folder;
  ASSERT_TRUE(Env::Default().CreateDirectories(folder / "a/b/c/"));
  EXPECT_TRUE(Env::Default().IsDirectory(folder / "a/b/c"));
  ASSERT_TRUE(Env::Default().CreateDirectories(folder / "a/b/c"));
  std::ofstream(folder / "file") << "x";
  EXPECT_FALSE(Env::Default().CreateDirectories(folder / "file"));
  EXPECT_FALSE(Env::Default().CreateDirectories(folder / "file/below"));
  EXPECT_GT(Env::Default().FreeSpace(folder.path()).value(), 0);
  EXPECT_FALSE(Env::Default().FreeSpace(folder / "none"));
  EXPECT_GT(Env::Default().ModifiedSeconds(folder / "file").value(), 1600000000);
  EXPECT_FALSE(Env::Default().ModifiedSeconds(folder / "none"));
}

TEST(FileLock, IsHeldByOneAndSaysByWhom) {
  const TempFolderForTest folder;
  auto first = Env::Default().LockFile(folder / "lock");
  ASSERT_TRUE(first) << first.error().message;
  auto second = Env::Default().LockFile(folder / "lock");
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kResource);
  EXPECT_NE(second.error().message.find(folder.path()), std::string::npos);
  EXPECT_NE(second.error().message.find("another fathom process (process " + std::to_string(::getpid()) + ")"),
            std::string::npos)
      << second.error().message;
  first->reset();
  EXPECT_TRUE(Env::Default().LockFile(folder / "lock"));
  EXPECT_FALSE(Env::Default().LockFile(folder / "no/lock"));
}

class FaultyDirectFile : public ::testing::Test {
 protected:
  void SetUp() override {
    file_ = Open(env_, folder_ / "f");
    ASSERT_TRUE(file_->Allocate(8 * kPage));
    out_.Fill(3);
  }
  const TempFolderForTest folder_;
  FaultEnv env_;
  std::unique_ptr<DirectFile> file_;
  PagesForTest out_{2 * kPage}, in_{2 * kPage};
};

TEST_F(FaultyDirectFile, GoesThroughCallsOnly) { EXPECT_EQ(file_->descriptor(), -1); }

TEST_F(FaultyDirectFile, FailsByOffsetAndByCount) {
  env_.ChangeDirect(
      [](DirectFaults& faults) { faults.fail_reads_from = 3 * kPage, faults.fail_writes_from = 5 * kPage; });
  EXPECT_TRUE(file_->Read(kPage, in_.span()));
  EXPECT_FALSE(file_->Read(2 * kPage, in_.span()));
  EXPECT_TRUE(file_->Write(3 * kPage, out_.span()));
  EXPECT_FALSE(file_->Write(4 * kPage, out_.span()));
  env_.ChangeDirect([](DirectFaults& faults) {
    faults = {};
    faults.reads_left = 1, faults.writes_left = 2, faults.write_error = ErrorCode::kResource;
  });
  EXPECT_TRUE(file_->Read(0, in_.span()));
  EXPECT_FALSE(file_->Read(0, in_.span()));
  EXPECT_TRUE(file_->Write(0, out_.span()));
  EXPECT_TRUE(file_->Write(0, out_.span()));
  auto full = file_->Write(0, out_.span());
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, ErrorCode::kResource);
  env_.ChangeDirect(
      [](DirectFaults& faults) { faults = {.fail_sync = true, .fail_allocate = true, .fail_punch = true}; });
  EXPECT_FALSE(file_->Sync());
  EXPECT_FALSE(file_->Allocate(16 * kPage));
  EXPECT_FALSE(file_->PunchHole(0, kPage));
}

TEST_F(FaultyDirectFile, TearsAtAnyByte) {
  for (int64_t torn : {0, 1, 512, 4095, 4096, 4608, 8191}) {
    for (bool silent : {false, true}) {
      env_.ChangeDirect([](DirectFaults& faults) { faults = {}; });
      PagesForTest zeros(2 * kPage);
      ASSERT_TRUE(file_->Write(0, zeros.span()));
      env_.ChangeDirect([&](DirectFaults& faults) { faults.write_budget = torn, faults.silent = silent; });
      EXPECT_EQ(file_->Write(0, out_.span()).has_value(), silent);
      EXPECT_EQ(file_->Write(0, out_.span()).has_value(), silent) << "nothing of later writes arrives";
      ASSERT_TRUE(file_->Read(0, in_.span()));
      EXPECT_EQ(std::memcmp(in_.data(), out_.data(), torn), 0);
      EXPECT_EQ(std::memcmp(in_.data() + torn, zeros.data(), 2 * kPage - torn), 0) << torn;
    }
  }
}

TEST_F(FaultyDirectFile, FlipsDropsAndDelays) {
  ASSERT_TRUE(file_->Write(0, out_.span()));
  env_.ChangeDirect(
      [](DirectFaults& faults) { faults.read_xor = {{5000, 0x40}}, faults.delay = std::chrono::milliseconds(5); });
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_TRUE(file_->Read(kPage, in_.span().first(kPage)));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(5));
  EXPECT_EQ(in_[5000 - kPage], out_[5000] ^ std::byte{0x40});
  const int64_t next = env_.direct_counts().writes;
  env_.ChangeDirect([next](DirectFaults& faults) {
    faults = {};
    faults.drop_write = [next](int64_t call) { return call == next; };
  });
  PagesForTest zeros(2 * kPage);
  EXPECT_TRUE(file_->Write(0, zeros.span()));
  ASSERT_TRUE(file_->Read(0, in_.span()));
  EXPECT_EQ(in_[5000], out_[5000]);
  EXPECT_TRUE(file_->Write(0, zeros.span()));
  ASSERT_TRUE(file_->Read(0, in_.span()));
  EXPECT_EQ(in_[5000], std::byte{0});
}

TEST_F(FaultyDirectFile, HangsUntilReleased) {
  env_.ChangeDirect([](DirectFaults& faults) { faults.hang = true; });
  std::thread reader([&] { EXPECT_TRUE(file_->Read(0, in_.span())); });
  while (env_.direct_counts().waiting == 0) std::this_thread::yield();
  EXPECT_EQ(env_.direct_counts().reads, 0);
  env_.ChangeDirect([](DirectFaults& faults) { faults.hang = false; });
  reader.join();
  EXPECT_EQ(env_.direct_counts().reads, 1);
}

}  // namespace
}  // namespace fathom
