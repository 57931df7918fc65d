#include "io/page_cache.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <fstream>

#include "base/aligned_buffer.h"
#include "io/env.h"
#include "io/temp_folder_for_test.h"

namespace fathom {
namespace {

TEST(PageCache, CountsAndDrops) {
  const TempFolderForTest folder;
  const std::string path = folder / "file";
  constexpr int64_t kBytes = int64_t{8} << 20;
  std::ofstream(path, std::ios::binary) << std::string(static_cast<size_t>(kBytes), 'x');
  ::sync();  // what is not on the device cannot be dropped
  const auto map = Env::Default().Map(path, {});
  ASSERT_TRUE(map);
  int64_t sum = 0;
  for (const std::byte byte : (*map)->bytes()) sum += std::to_integer<int>(byte);
  EXPECT_EQ(sum, kBytes * 'x');
  const auto before = CachedBytes(path);
  ASSERT_TRUE(before) << before.error().message;
  EXPECT_EQ(*before, kBytes);

  ASSERT_TRUE((*map)->Advise(0, kBytes / 2, MapAdvice::kDrop));
  const auto after = CachedBytes(path);
  ASSERT_TRUE(after);
  if (*after == kBytes) GTEST_SKIP() << "this file system lives in the page cache";
  EXPECT_EQ(*after, kBytes / 2);
  EXPECT_EQ((*map)->bytes()[5], std::byte{'x'});  // still there, on the device
}

TEST(PageCache, Ranges) {
  const TempFolderForTest folder;
  const std::string path = folder / "file";
  constexpr int64_t kBytes = (int64_t{4} << 20) + 5000;
  std::ofstream(path, std::ios::binary) << std::string(static_cast<size_t>(kBytes), 'x');
  ::sync();
  ASSERT_TRUE(DropCached(path, 0, kBytes));
  if (CachedBytes(path).value_or(-1) != 0) GTEST_SKIP() << "this file system lives in the page cache";
  constexpr int64_t kBegin = 1 << 20, kDropped = 2 << 20, kAll = (kBytes + 4095) / 4096 * 4096;
  {
    // Page by page: what was written together is one folio, and given up whole or not at all.
    const auto file = Env::Default().OpenDirect(path, {.direct = false, .random = true});
    ASSERT_TRUE(file) << file.error().message;
    auto buffer = AlignedBuffer::Allocate(4 << 20);
    ASSERT_TRUE(buffer);
    ASSERT_TRUE((*file)->Read(0, {buffer->data(), buffer->size()}));
    const auto reader = Env::Default().OpenForReading(path);
    ASSERT_TRUE(reader && (*reader)->Read(4 << 20, {buffer->data(), buffer->size()}));
  }
  EXPECT_EQ(CachedBytes(path, 0, kBytes).value_or(-1), kAll);
  EXPECT_EQ(CachedBytes(path, 0, INT64_MAX).value_or(-1), kAll);
  EXPECT_EQ(CachedBytes(path, 4095, 2).value_or(-1), 8192);
  EXPECT_EQ(CachedBytes(path, 4096, 0).value_or(-1), 0);
  EXPECT_EQ(CachedBytes(path, kBytes, 100).value_or(-1), 0);
  ASSERT_TRUE(DropCached(path, 0, 0));
  EXPECT_EQ(CachedBytes(path).value_or(-1), kAll);
  ASSERT_TRUE(DropCached(path, kBegin, kDropped));
  EXPECT_EQ(CachedBytes(path, kBegin, kDropped).value_or(-1), 0);
  EXPECT_EQ(CachedBytes(path, 0, kBegin).value_or(-1), kBegin);
  EXPECT_EQ(CachedBytes(path).value_or(-1), kAll - kDropped);
}

// Otherwise a read of a little, anywhere, fetches as much as the device's read-ahead.
TEST(PageCache, RandomFilesAreNotReadAhead) {
  const TempFolderForTest folder;
  const std::string path = folder / "file";
  constexpr int64_t kBytes = int64_t{4} << 20, kAt = 1 << 20, kRead = 64 << 10;
  std::ofstream(path, std::ios::binary) << std::string(static_cast<size_t>(kBytes), 'x');
  ::sync();
  ASSERT_TRUE(DropCached(path, 0, kBytes));
  if (CachedBytes(path).value_or(-1) != 0) GTEST_SKIP() << "this file system lives in the page cache";
  const auto file = Env::Default().OpenDirect(path, {.direct = false, .random = true});
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_FALSE((*file)->is_direct());
  auto buffer = AlignedBuffer::Allocate(4 << 20);  // as aligned as DirectFile wants it
  ASSERT_TRUE(buffer);
  ASSERT_TRUE((*file)->Read(kAt, {buffer->data(), kRead}));
  EXPECT_EQ(buffer->data()[kRead - 1], std::byte{'x'});
  EXPECT_EQ(CachedBytes(path, kAt, kRead).value_or(-1), kRead);
  EXPECT_EQ(CachedBytes(path).value_or(-1), kRead);
}

TEST(PageCache, SaysWhatIsWrong) {
  EXPECT_EQ(CachedBytes("/nowhere/at/all", 0, 1).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(CachedBytes("/tmp", -1, 1).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(DropCached("/tmp", 0, -1).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(DropCached("/nowhere/at/all", 0, 1).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(CachedBytes("/nowhere/at/all").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(CachedBytes("/tmp").error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace fathom
