#include "cache/kv_store.h"

#include <gtest/gtest.h>

#include <cstring>

namespace fathom {
namespace {

TEST(KvStore, GrowsInBlocksAndReusesThem) {
  KvPool pool({.dtype = DType::kBF16, .layers = 3, .row_values = 40});
  EXPECT_EQ(pool.layout().row_bytes(), 128);
  KvSequence a(pool);
  ASSERT_TRUE(a.Reserve(65));
  EXPECT_EQ(a.block_starts().size(), 2u);
  EXPECT_EQ(a.length(), 0);
  // Every row is a distinct place.
  for (int layer = 0; layer < 3; ++layer)
    for (int t = 0; t < 128; ++t) std::memset(a.Row(layer, t), layer * 80 + t % 80, pool.layout().row_bytes());
  for (int layer = 0; layer < 3; ++layer)
    for (int t = 0; t < 128; ++t) ASSERT_EQ(static_cast<int>(*a.Row(layer, t)), layer * 80 + t % 80);
  a.SetLength(65);
  const int64_t bytes = pool.allocated_bytes();
  EXPECT_EQ(bytes, 2 * pool.layout().block_bytes());
  a.Truncate(64);
  EXPECT_EQ(a.length(), 64);
  EXPECT_EQ(a.block_starts().size(), 1u);
  KvSequence b(pool);
  ASSERT_TRUE(b.Reserve(1));
  EXPECT_EQ(pool.allocated_bytes(), bytes);  // a's second block
  a.Truncate(100);  // longer than it is: no change
  EXPECT_EQ(a.length(), 64);
}

TEST(KvStore, FailureLeavesTheSequenceAsItWas) {
  KvPool pool({.dtype = DType::kF32, .layers = int64_t{1} << 22, .row_values = int64_t{1} << 20});  // absurd
  KvSequence a(pool);
  auto status = a.Reserve(1);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kResource);
  EXPECT_EQ(a.block_starts().size(), 0u);
}

}  // namespace
}  // namespace fathom
