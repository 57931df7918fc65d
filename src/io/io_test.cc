#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "io/env.h"
#include "io/fault_env.h"
#include "io/file_writer.h"

namespace fathom {
namespace {

class IoTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "fathom_io_XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  std::string Path(const std::string& name) const { return dir_ + "/" + name; }
  void Put(const std::string& name, const std::string& text) const { std::ofstream(Path(name)) << text; }
  static std::span<const std::byte> Bytes(const std::string& text) { return std::as_bytes(std::span(text)); }
  static std::string Text(std::span<const std::byte> bytes) {
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  size_t FilesInDir() const { return Env::Default().List(dir_)->size(); }
  std::string dir_;
};

TEST_F(IoTest, MapShowsTheBytesAndNoticesShrinking) {
  Put("a", "hello world");
  for (MapAdvice advice :
       {MapAdvice::kNormal, MapAdvice::kRandom, MapAdvice::kSequential, MapAdvice::kWillNeed, MapAdvice::kPopulate}) {
    auto mapped = Env::Default().Map(Path("a"), {.advice = advice, .populate = true});
    ASSERT_TRUE(mapped) << mapped.error().message;
    EXPECT_EQ(Text((*mapped)->bytes()), "hello world");
  }
  auto mapped = Env::Default().Map(Path("a"), {});
  ASSERT_TRUE(mapped);
  EXPECT_TRUE((*mapped)->CheckUnchanged());
  EXPECT_TRUE((*mapped)->Advise(3, 1 << 20, MapAdvice::kWillNeed));
  EXPECT_TRUE((*mapped)->Advise(100, 5, MapAdvice::kWillNeed));
  ASSERT_EQ(::truncate(Path("a").c_str(), 4), 0);
  auto changed = (*mapped)->CheckUnchanged();
  ASSERT_FALSE(changed);
  EXPECT_EQ(changed.error().code, ErrorCode::kCorrupt);
  EXPECT_NE(changed.error().message.find("shrank from 11 to 4"), std::string::npos);
}

TEST_F(IoTest, WhatHoldsPromptsIsItsUsersAlone) {
  Env& env = Env::Default();
  const auto mode = [](const std::string& path) {
    struct stat info{};
    EXPECT_EQ(::stat(path.c_str(), &info), 0) << path;
    return info.st_mode & 07777;
  };
  const mode_t before = ::umask(0);
  ASSERT_TRUE(env.CreateDirectories(Path("a/b")));
  ASSERT_TRUE(env.LockFile(Path("a/lock")));
  ASSERT_TRUE(env.OpenDirect(Path("a/direct"), {.create = true}));
  ASSERT_TRUE(WriteWholeFile(env, Path("a/private"), "x", FileAccess::kPrivate));
  ASSERT_TRUE(WriteWholeFile(env, Path("a/model"), "x"));
  ::umask(before);
  EXPECT_EQ(mode(Path("a")), 0700u);
  EXPECT_EQ(mode(Path("a/b")), 0700u);
  for (const char* name : {"a/lock", "a/direct", "a/private"}) EXPECT_EQ(mode(Path(name)), 0600u) << name;
  EXPECT_EQ(mode(Path("a/model")), 0644u) << "the umask's business";
  // What is there stays as its owner has it.
  ASSERT_EQ(::chmod(Path("a/b").c_str(), 0750), 0);
  ASSERT_TRUE(env.CreateDirectories(Path("a/b/c")));
  EXPECT_EQ(mode(Path("a/b")), 0750u);
  EXPECT_EQ(mode(Path("a/b/c")), 0700u);
}

TEST_F(IoTest, EmptyFilesMapToNothing) {
  Put("empty", "");
  auto mapped = Env::Default().Map(Path("empty"), {});
  ASSERT_TRUE(mapped);
  EXPECT_EQ((*mapped)->size(), 0);
}

TEST_F(IoTest, WhatIsNotARegularFileIsRefusedWithItsName) {
  auto missing = Env::Default().Map(Path("missing"), {});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_NE(missing.error().message.find(Path("missing")), std::string::npos);
  auto directory = Env::Default().Map(dir_, {});
  ASSERT_FALSE(directory);
  EXPECT_EQ(directory.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(directory.error().message.find("is a directory"), std::string::npos);
  ASSERT_EQ(::mkfifo(Path("pipe").c_str(), 0600), 0);
  auto pipe = Env::Default().OpenForReading(Path("pipe"));  // must not wait for a writer
  ASSERT_FALSE(pipe);
  EXPECT_EQ(pipe.error().code, ErrorCode::kInvalidArgument);
}

TEST_F(IoTest, WholeFilesAreReadOverShortReadsAndWithinTheLimit) {
  Put("a", "0123456789");
  FaultEnv env;
  env.faults.max_read = 3;
  EXPECT_EQ(ReadWholeFile(env, Path("a"), 10).value(), "0123456789");
  auto large = ReadWholeFile(env, Path("a"), 9);
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().code, ErrorCode::kResource);
  env.faults.fail_reads_from = 6;
  auto failed = ReadWholeFile(env, Path("a"), 10);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::kIo);
}

TEST_F(IoTest, ReadExactlyNamesTheEndOfAShortFile) {
  Put("a", "abc");
  auto file = Env::Default().OpenForReading(Path("a"));
  ASSERT_TRUE(file);
  std::byte out[8];
  auto status = ReadExactly(**file, Path("a"), 1, out);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kCorrupt);
  EXPECT_NE(status.error().message.find("ends at byte 3, 6 more expected"), std::string::npos);
}

TEST_F(IoTest, WriterIsInvisibleUntilFinishedAndReplacesAtomically) {
  Put("out", "old");
  auto writer = FileWriter::Create(Env::Default(), Path("out"), 4);
  ASSERT_TRUE(writer) << writer.error().message;
  ASSERT_TRUE((*writer)->Append(Bytes("ab")));
  ASSERT_TRUE((*writer)->Append(Bytes("cdefghij")));
  ASSERT_TRUE((*writer)->AppendZeros(3));
  EXPECT_EQ((*writer)->position(), 13);
  EXPECT_EQ(ReadWholeFile(Env::Default(), Path("out"), 100).value(), "old");
  ASSERT_TRUE((*writer)->Finish());
  EXPECT_EQ(ReadWholeFile(Env::Default(), Path("out"), 100).value(), std::string("abcdefghij\0\0\0", 13));
  EXPECT_FALSE((*writer)->Append(Bytes("x")));
  EXPECT_FALSE((*writer)->Finish());
  EXPECT_EQ(FilesInDir(), 1u);
}

TEST_F(IoTest, AbandonedWriterLeavesNothing) {
  {
    auto writer = FileWriter::Create(Env::Default(), Path("out"));
    ASSERT_TRUE(writer);
    ASSERT_TRUE((*writer)->Append(Bytes("abc")));
    EXPECT_EQ(FilesInDir(), 1u);
  }
  EXPECT_EQ(FilesInDir(), 0u);
}

TEST_F(IoTest, EveryWriteFaultIsReportedAndCleanedUp) {
  const auto attempt = [&](auto set) -> Status {
    FaultEnv env;
    set(env.faults);
    FATHOM_TRY(auto writer, FileWriter::Create(env, Path("out"), 4));
    FATHOM_CHECK_OK(writer->Append(Bytes("abcdefgh")));
    FATHOM_CHECK_OK(writer->Append(Bytes("ij")));
    return writer->Finish();
  };
  for (int64_t torn = 0; torn < 10; ++torn) {
    auto status = attempt([torn](Faults& faults) { faults.fail_write_after = torn; });
    ASSERT_FALSE(status) << torn;
    EXPECT_EQ(status.error().code, ErrorCode::kResource);
    EXPECT_EQ(FilesInDir(), 0u);
  }
  EXPECT_FALSE(attempt([](Faults& faults) { faults.fail_create = true; }));
  EXPECT_FALSE(attempt([](Faults& faults) { faults.fail_sync = true; }));
  EXPECT_FALSE(attempt([](Faults& faults) { faults.fail_close = true; }));
  EXPECT_FALSE(attempt([](Faults& faults) { faults.fail_rename = true; }));
  EXPECT_EQ(FilesInDir(), 0u);
  // The name is in place but may not survive a power cut: an error, and the file stays.
  EXPECT_FALSE(attempt([](Faults& faults) { faults.fail_sync_directory = true; }));
  EXPECT_EQ(FilesInDir(), 1u);
  EXPECT_TRUE(attempt([](Faults&) {}));
}

TEST_F(IoTest, AWriterStaysFailedAfterAnError) {
  FaultEnv env;
  env.faults.fail_write_after = 2;
  auto writer = FileWriter::Create(env, Path("out"), 1);
  ASSERT_TRUE(writer);
  EXPECT_FALSE((*writer)->Append(Bytes("abcd")));
  env.faults.fail_write_after = Faults::kNever;
  EXPECT_FALSE((*writer)->Append(Bytes("e")));
  EXPECT_FALSE((*writer)->Finish());
  writer->reset();
  EXPECT_EQ(FilesInDir(), 0u);
}

TEST_F(IoTest, WriterRefusesDirectoriesAndMissingParents) {
  auto directory = FileWriter::Create(Env::Default(), dir_);
  ASSERT_FALSE(directory);
  EXPECT_EQ(directory.error().code, ErrorCode::kInvalidArgument);
  auto missing = FileWriter::Create(Env::Default(), dir_ + "/no/such/file");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
}

TEST_F(IoTest, FaultEnvCutsAndFlipsMappedBytes) {
  Put("a", "abcdef");
  FaultEnv env;
  env.faults.map_truncate = 4;
  env.faults.map_xor = {{1, 0x20}, {100, 1}};
  auto mapped = env.Map(Path("a"), {});
  ASSERT_TRUE(mapped);
  EXPECT_EQ(Text((*mapped)->bytes()), "aBcd");
  env.faults.shrink_after_map = 2;
  auto shrunk = env.Map(Path("a"), {});
  ASSERT_TRUE(shrunk);
  EXPECT_FALSE((*shrunk)->CheckUnchanged());
  env.faults.only = "other";
  EXPECT_EQ(Text((*env.Map(Path("a"), {}))->bytes()), "abcdef");
}

TEST(Paths, AreTakenApartAndJoined) {
  EXPECT_EQ(BaseName("/a/b.gguf"), "b.gguf");
  EXPECT_EQ(BaseName("dir/"), "dir");
  EXPECT_EQ(BaseName("/"), "/");
  EXPECT_EQ(DirectoryOf("/a/b"), "/a");
  EXPECT_EQ(DirectoryOf("/b"), "/");
  EXPECT_EQ(DirectoryOf("b"), ".");
  EXPECT_EQ(JoinPath(".", "b"), "b");
  EXPECT_EQ(JoinPath("/a/", "b"), "/a/b");
  EXPECT_EQ(JoinPath("/a", "b"), "/a/b");
}

}  // namespace
}  // namespace fathom
