#include "io/page_cache.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <fstream>

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

TEST(PageCache, SaysWhatIsWrong) {
  EXPECT_EQ(CachedBytes("/nowhere/at/all").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(CachedBytes("/tmp").error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace fathom
