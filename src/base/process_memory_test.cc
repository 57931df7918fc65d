#include "base/process_memory.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/aligned_buffer.h"

namespace fathom {
namespace {

TEST(ProcessMemory, FollowsWhatIsTouched) {
  const ProcessMemory before = ReadProcessMemory();
  if (before.resident == 0) GTEST_SKIP() << "the kernel does not tell";
  EXPECT_GE(before.peak, before.resident);
  EXPECT_LE(before.anonymous, before.resident);
  constexpr size_t kBytes = size_t{64} << 20;
  {
    auto buffer = AlignedBuffer::Allocate(kBytes);
    ASSERT_TRUE(buffer);
    std::memset(buffer->data(), 1, kBytes);
    EXPECT_GE(ReadProcessMemory().anonymous, before.anonymous + static_cast<int64_t>(kBytes) / 8 * 7);
  }
  const ProcessMemory after = ReadProcessMemory();
  EXPECT_LT(after.resident, before.resident + static_cast<int64_t>(kBytes) / 2);
  EXPECT_GE(after.peak, before.resident + static_cast<int64_t>(kBytes) / 8 * 7);
}

}  // namespace
}  // namespace fathom
