// Memory that moves between slots and the pool: the sum stays, and both sides go on working.
#include "engine/memory_share.h"

#include <gtest/gtest.h>

#include <cstring>

#include "experts/model_for_test.h"
#include "io/temp_folder_for_test.h"

namespace fathom {
namespace {

class MemoryShareTest : public testing::Test {
 protected:
  void SetUp() override {
    model_ = std::make_unique<ExpertModelForTest>(folder_ / "model", ExpertModelForTest::Kind::kStacks, 4, 32);
    auto store = ExpertStore::Create(*model_, Env::Default(), nullptr, {.slots = 40});
    ASSERT_TRUE(store) << store.error().message;
    store_ = std::move(*store);
    slot_ = store_->layout().slot_bytes();
    const int64_t begin = 40 * layout_.block_bytes();
    pool_ = std::make_unique<KvPool>(
        layout_, MemoryShare::MostKvBytes(begin, layout_.block_bytes(), store_->slots(), kLeastSlots, slot_));
    share_ = std::make_unique<MemoryShare>(MemoryShare::Parts{.experts = *store_,
                                                              .pool = *pool_,
                                                              .kv_begin = begin,
                                                              .kv_least = 4 * layout_.block_bytes(),
                                                              .least_slots = kLeastSlots,
                                                              .cache = [this] { return cache_; }});
    all_ = Sum();
  }
  /// What both may take now.
  int64_t Sum() const {
    return pool_->max_bytes() - share_->ballast_blocks() * layout_.block_bytes() + store_->slots() * slot_;
  }
  /// A pass whose experts all have to be read, as slowly as a test likes.
  void Work() {
    for (int32_t layer = 0; layer < 4; ++layer) {
      std::vector<int32_t> chosen;
      for (int32_t e = 0; e < 32; e += 1 + (pass_ + layer) % 2) chosen.push_back(e);
      ExpertBatch batch = store_->Fetch(layer, chosen);
      for (;;) {
        auto lease = batch.Next();
        ASSERT_TRUE(lease) << lease.error().message;
        if (!*lease) break;
        ASSERT_TRUE(model_->Holds((*lease)->views(), layer, (*lease)->expert()));
      }
    }
    ++pass_;
  }
  void Period(int64_t let_go) {
    Work();
    cache_.evicted_memory += let_go;
    if (let_go > 0) cache_.memory_hit_tokens += 1000;
    now_ += MemoryShare::kPeriod;
    share_->Tick(now_, {.seconds_per_token = 0.01});
    share_->Tick(now_ + 0.1, {});  // not time yet
    ASSERT_LE(Sum(), all_);
    ASSERT_GE(store_->slots(), kLeastSlots);
  }

  static constexpr int64_t kLeastSlots = 4;
  const TempFolderForTest folder_;
  const KvLayout layout_{DType::kBF16, 4, 160};
  std::unique_ptr<ExpertModelForTest> model_;
  std::unique_ptr<ExpertStore> store_;
  std::unique_ptr<KvPool> pool_;
  CacheStats cache_;
  std::unique_ptr<MemoryShare> share_;
  int64_t slot_ = 0, all_ = 0;
  int pass_ = 0;
  double now_ = 100;
};

TEST_F(MemoryShareTest, UnusedMemoryGoesToExpertsAndComesBack) {
  const int64_t begin = share_->kv_bytes(), slots = store_->slots();
  EXPECT_EQ(pool_->used_bytes(), share_->ballast_blocks() * layout_.block_bytes());
  for (int i = 0; i < 60; ++i) Period(0);
  EXPECT_LT(share_->kv_bytes(), begin / 2);
  EXPECT_GT(store_->slots(), slots);
  EXPECT_GT(Sum(), all_ - 3 * (slot_ + layout_.block_bytes()));
  // Blocks that are there can be written and keep what was written.
  auto block = pool_->Take();
  ASSERT_TRUE(block);
  std::memset((*block)->data(), 7, static_cast<size_t>(layout_.block_bytes()));
  for (int i = 0; i < 60; ++i) Period(1);
  EXPECT_GE(share_->kv_bytes(), begin - begin / 8);
  EXPECT_LE(store_->slots(), slots + 4);
  for (int64_t i = 0; i < layout_.block_bytes(); ++i) ASSERT_EQ((*block)->data()[i], std::byte{7});
}

TEST_F(MemoryShareTest, BlocksInUseAreNotTaken) {
  std::vector<KvBlockRef> held;
  while (auto block = pool_->Take()) held.push_back(std::move(*block));
  EXPECT_EQ(static_cast<int64_t>(held.size()) * layout_.block_bytes(), share_->kv_bytes());
  const int64_t before = share_->kv_bytes();
  for (int i = 0; i < 20; ++i) Period(0);
  EXPECT_EQ(share_->kv_bytes(), before);
  EXPECT_EQ(pool_->used_bytes(), pool_->max_bytes());
}

}  // namespace
}  // namespace fathom
