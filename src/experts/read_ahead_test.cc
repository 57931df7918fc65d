// Passes over about all experts: whole layers ahead, each expert once, and nobody who waits is kept waiting.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>

#include "experts/expert_store.h"
#include "experts/model_for_test.h"
#include "io/fault_env.h"
#include "io/temp_folder_for_test.h"

namespace fathom {
namespace {

constexpr int32_t kLayers = 3, kExperts = 8;

bool Eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 5000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

class ReadAheadTest : public testing::Test {
 protected:
  void Open(ExpertStoreOptions options, ExpertModelForTest::Kind kind = ExpertModelForTest::Kind::kStacks) {
    store_.reset();
    model_ = std::make_unique<ExpertModelForTest>(path_, kind);
    auto store = ExpertStore::Create(*model_, fault_, nullptr, options);
    ASSERT_TRUE(store) << store.error().message;
    store_ = std::move(*store);
  }
  /// One layer of a pass of all, as the model does it: the next layer is asked for before this one is computed, and
  /// leases are held in groups.
  void Layer(int32_t layer, size_t group_size) {
    std::vector<int32_t> all(kExperts);
    std::iota(all.begin(), all.end(), 0);
    ExpertBatch batch = store_->Fetch(layer, all);
    if (layer + 1 < kLayers) store_->ReadAhead(layer + 1);
    int32_t seen = 0;
    std::vector<ExpertLease> group;
    for (;;) {
      auto lease = batch.Next();
      EXPECT_TRUE(lease) << lease.error().message;
      if (!lease || !*lease) break;
      EXPECT_TRUE(model_->Holds((*lease)->views(), layer, (*lease)->expert()));
      ++seen;
      group.push_back(std::move(**lease));
      if (group.size() >= group_size) group.clear();
    }
    EXPECT_EQ(seen, kExperts);
  }
  void Pass(size_t group_size) {
    store_->ReadAhead(0);
    for (int32_t layer = 0; layer < kLayers; ++layer) Layer(layer, group_size);
  }
  int64_t Reads() const {
    const auto stats = store_->stats();
    return stats.demand_reads + stats.ahead_reads + stats.prefetch_reads;
  }
  bool Resident(int32_t count) {
    return Eventually([&] { return store_->stats().resident == count; });
  }

  const TempFolderForTest folder_;
  const std::string path_ = folder_ / "model";
  FaultEnv fault_;
  std::unique_ptr<ExpertModelForTest> model_;
  std::unique_ptr<ExpertStore> store_;
};

TEST_F(ReadAheadTest, EveryExpertIsReadOnceAPassHoweverFewSlotsThereAre) {
  for (const int64_t slots : {2, 3, 4, 8, 12, 16, 23}) {
    Open({.slots = slots});
    int64_t before = 0;
    for (int pass = 0; pass < 4; ++pass) {
      Pass(static_cast<size_t>(std::max<int64_t>(1, slots / 2)));
      if (HasFailure()) return;
      const int64_t reads = Reads() - before;
      before += reads;
      EXPECT_LE(reads, kLayers * kExperts) << slots << " slots, pass " << pass;
      // Two layers' worth of slots pass experts through; what others hold is not read again.
      const int64_t kept = pass == 0 ? 0 : std::max<int64_t>(0, slots - 2 * kExperts);
      EXPECT_LE(reads, kLayers * kExperts - kept) << slots << " slots, pass " << pass;
    }
    const auto stats = store_->stats();
    EXPECT_EQ(stats.ahead_used, stats.ahead_reads);
    EXPECT_EQ(stats.leased, 0);
    EXPECT_EQ(stats.hinted, 0);  // that is not a guess
    EXPECT_GT(stats.busy_seconds, 0);
    EXPECT_GE(stats.uses, 4 * kLayers * kExperts);
  }
}

TEST_F(ReadAheadTest, ALayerIsThereBeforeItIsAskedFor) {
  Open({.slots = 16});
  store_->ReadAhead(0);
  EXPECT_TRUE(Resident(8));
  Layer(0, 4);
  EXPECT_TRUE(Eventually([&] { return store_->stats().ahead_reads == 16 && store_->stats().resident == 16; }));
  std::vector<uint8_t> residents(kExperts);
  store_->Residents(1, residents);
  EXPECT_EQ(std::accumulate(residents.begin(), residents.end(), 0), 8);
  store_->Residents(2, residents);
  EXPECT_EQ(std::accumulate(residents.begin(), residents.end(), 0), 0);
  Layer(1, 4);
  const auto stats = store_->stats();
  EXPECT_EQ(stats.demand_reads, 0);
  EXPECT_EQ(stats.hits, 16);
}

TEST_F(ReadAheadTest, ResidentsAreNotReadAgainAndStayUntilTheirLayer) {
  Open({.slots = 10});
  const std::vector<int32_t> two = {2, 5};
  for (int round = 0; round < 2; ++round) {
    ExpertBatch batch = store_->Fetch(1, two);
    while (true) {
      auto lease = batch.Next();
      ASSERT_TRUE(lease);
      if (!*lease) break;
    }
  }
  store_->ReadAhead(1);
  EXPECT_TRUE(Eventually([&] { return store_->stats().ahead_reads == 6 && store_->stats().resident == 8; }));
  // Others' wishes take the two free slots, and then what is wanted by nobody.
  const std::vector<ExpertGuess> guesses = {{0, 0.9f}, {1, 0.9f}, {2, 0.9f}, {3, 0.9f}};
  store_->Hint(2, guesses);
  EXPECT_TRUE(Resident(10));
  Layer(1, 4);
  EXPECT_EQ(store_->stats().demand_reads, 2);
}

TEST_F(ReadAheadTest, YieldsToDemandAndIsBounded) {
  // Each expert is three reads; two pieces of one are in flight at most.
  Open({.slots = 24, .ahead_pieces = 2});
  fault_.ChangeDirect([](DirectFaults& faults) { faults.hang = true; });
  store_->ReadAhead(1);
  EXPECT_TRUE(Eventually([&] { return fault_.direct_counts().waiting == 2; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(fault_.direct_counts().waiting, 2);
  const std::vector<int32_t> experts = {7};
  ExpertBatch batch = store_->Fetch(0, experts);
  EXPECT_TRUE(Eventually([&] { return fault_.direct_counts().waiting == 5; }));  // at once, and nothing more ahead
  EXPECT_EQ(store_->stats().ahead_reads, 1);
  fault_.ChangeDirect([](DirectFaults& faults) { faults.hang = false; });
  auto lease = batch.Next();
  ASSERT_TRUE(lease && *lease);
  EXPECT_TRUE(model_->Holds((*lease)->views(), 0, 7));
  EXPECT_TRUE(Resident(9));
}

TEST_F(ReadAheadTest, FailuresAreForgottenUntilTheyAreDemanded) {
  Open({.slots = 16});
  fault_.ChangeDirect([](DirectFaults& faults) { faults.reads_left = 0; });
  store_->ReadAhead(0);
  EXPECT_TRUE(Eventually([&] { return store_->stats().failures == 8; }));
  fault_.ChangeDirect([](DirectFaults& faults) { faults.reads_left = DirectFaults::kNever; });
  Layer(0, 4);
  EXPECT_EQ(store_->stats().demand_reads, 8);
}

TEST_F(ReadAheadTest, OptionsAreChecked) {
  const ExpertModelForTest model(path_);
  for (const ExpertStoreOptions& options :
       {ExpertStoreOptions{.slots = 4, .ahead_piece = 100}, ExpertStoreOptions{.slots = 4, .ahead_pieces = 0}}) {
    EXPECT_EQ(ExpertStore::Create(model, fault_, nullptr, options).error().code, ErrorCode::kInvalidArgument);
  }
}

// Long prompts and short answers in turn, a governor that takes and gives slots meanwhile.
class AmongResizes : public ReadAheadTest, public testing::WithParamInterface<ExpertModelForTest::Kind> {};
INSTANTIATE_TEST_SUITE_P(Experts, AmongResizes,
                         testing::Values(ExpertModelForTest::Kind::kStacks, ExpertModelForTest::Kind::kUneven));
TEST_P(AmongResizes, AndShortPasses) {
  Open({.slots = 12}, GetParam());
  std::atomic<bool> stop{false};
  std::thread governor([&] {
    for (int64_t i = 0; !stop; ++i) {
      (void)store_->Resize(4 + i * 7 % 20);
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  });
  for (int round = 0; round < 30; ++round) {
    Pass(GetParam() == ExpertModelForTest::Kind::kUneven ? 1 : 2);  // of four slots two may be of a size
    for (int32_t layer = 0; layer < kLayers; ++layer) {
      const std::vector<int32_t> two = {round % kExperts, (round + 3) % kExperts};
      const std::vector<ExpertGuess> guess = {{round % kExperts, 0.9f}};
      ExpertBatch batch = store_->Fetch(layer, two);
      if (layer + 1 < kLayers) store_->Hint(layer + 1, guess);
      while (true) {
        auto lease = batch.Next();
        EXPECT_TRUE(lease) << lease.error().message;
        if (!lease || !*lease) break;
        EXPECT_TRUE(model_->Holds((*lease)->views(), layer, (*lease)->expert()));
      }
    }
  }
  stop = true;
  governor.join();
  EXPECT_EQ(store_->stats().leased, 0);
}

}  // namespace
}  // namespace fathom
