#include "engine/buffer_loan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

namespace fathom {
namespace {

/// Slots without memory; those that are being read into follow a few looks later.
class FakeStore final : public ExpertStore {
 public:
  const ExpertLayout& layout() const override { std::abort(); }
  ExpertBatch Fetch(int32_t, std::span<const int32_t>, std::span<const int32_t>, int64_t) override { std::abort(); }
  void Hint(int32_t, std::span<const ExpertGuess>) override {}
  void ReadAhead(int32_t) override {}
  void Residents(int32_t, std::span<uint8_t>) const override {}
  Status Resize(int64_t slots) override {
    if (full && slots > target_) return Fail(ErrorCode::kResource, "no memory");
    asked.push_back(slots);
    target_ = slots;
    slots_ = std::max(slots_, slots);
    looks_ = 0;
    return {};
  }
  int64_t slots() const override {
    if (++looks_ > late) slots_ = target_;
    return slots_;
  }
  ExpertStoreStats stats() const override { return {}; }
  std::vector<float> Heat() const override { return {}; }
  Status CheckUnchanged() override { return {}; }

  std::vector<int64_t> asked;
  int late = 0;
  bool full = false;

 private:
  int64_t target_ = 100;
  mutable int64_t slots_ = 100;
  mutable int looks_ = 0;
};

class BufferLoanTest : public testing::Test {
 protected:
  Status Pass(int64_t rows) { return loan_.BeforePass(rows); }
  void Answer(int tokens = BufferLoan::kPatience) {
    for (int i = 0; i < tokens; ++i) ASSERT_TRUE(Pass(1));
  }

  FakeStore store_;
  int released_ = 0;
  BufferLoan loan_{{.experts = store_,
                    .release_buffers = [this] { ++released_; },
                    .slots = 100,
                    .lent = 9,
                    .patience = std::chrono::milliseconds(20)}};
};

TEST_F(BufferLoanTest, LentWhileTokensAreMadeOneByOne) {
  ASSERT_TRUE(Pass(1024));
  Answer(BufferLoan::kPatience - 1);
  EXPECT_FALSE(loan_.lent());
  ASSERT_TRUE(Pass(kShortPassRows));
  EXPECT_TRUE(loan_.lent());
  EXPECT_EQ(released_, 1);
  EXPECT_EQ(store_.asked, (std::vector<int64_t>{109}));
  Answer(50);
  EXPECT_EQ(store_.asked.size(), 1u);
  ASSERT_TRUE(Pass(kShortPassRows + 1));
  EXPECT_FALSE(loan_.lent());
  EXPECT_EQ(store_.asked, (std::vector<int64_t>{109, 100}));
  Answer();
  EXPECT_EQ(store_.asked, (std::vector<int64_t>{109, 100, 109}));
  EXPECT_EQ(released_, 2);
}

TEST_F(BufferLoanTest, AMixOfLongAndShortPassesLendsNothing) {
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(Pass(200));
    Answer(BufferLoan::kPatience - 1);
  }
  EXPECT_TRUE(store_.asked.empty());
  EXPECT_EQ(released_, 0);
}

TEST_F(BufferLoanTest, WaitsForSlotsThatAreBeingReadInto) {
  Answer();
  store_.late = 5;
  ASSERT_TRUE(Pass(200));
  EXPECT_EQ(store_.slots(), 100);
}

TEST_F(BufferLoanTest, ADiskThatDoesNotAnswerFailsThePassAndTheNextTriesAgain) {
  Answer();
  store_.late = 1 << 30;
  const Status failed = Pass(200);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::kIo);
  EXPECT_TRUE(loan_.lent());
  Answer(5);  // short passes go on
  store_.late = 0;
  EXPECT_TRUE(Pass(200));
  EXPECT_FALSE(loan_.lent());
}

TEST_F(BufferLoanTest, WithoutMemoryNothingIsLent) {
  store_.full = true;
  Answer(20);
  EXPECT_FALSE(loan_.lent());
  EXPECT_EQ(released_, 1);  // asked once, not before every token
  store_.full = false;
  ASSERT_TRUE(Pass(200));
  Answer();
  EXPECT_TRUE(loan_.lent());
}

}  // namespace
}  // namespace fathom
