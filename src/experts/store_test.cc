// The store: what it hands out is what the file holds, whatever the disk does meanwhile.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "experts/expert_store.h"
#include "experts/model_for_test.h"
#include "io/fault_env.h"
#include "io/page_cache.h"
#include "io/temp_folder_for_test.h"

namespace fathom {
namespace {

using Kind = ExpertModelForTest::Kind;

bool Eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 5000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

class StoreTest : public testing::Test {
 protected:
  void Open(ExpertStoreOptions options, Kind kind = Kind::kStacks, Env* env = nullptr) {
    store_.reset();
    model_ = std::make_unique<ExpertModelForTest>(path_, kind);
    auto store = ExpertStore::Create(*model_, env != nullptr ? *env : fault_, nullptr, options);
    ASSERT_TRUE(store) << store.error().message;
    store_ = std::move(*store);
  }
  /// Fetches and compares; the experts in the order that they came.
  std::vector<int32_t> Check(int32_t layer, const std::vector<int32_t>& experts) {
    std::vector<int32_t> order;
    ExpertBatch batch = store_->Fetch(layer, experts);
    for (;;) {
      auto lease = batch.Next();
      EXPECT_TRUE(lease) << lease.error().message;
      if (!lease || !*lease) return order;
      EXPECT_EQ(experts[(*lease)->member()], (*lease)->expert());
      EXPECT_TRUE(model_->Holds((*lease)->views(), layer, (*lease)->expert())) << layer << " " << (*lease)->expert();
      order.push_back((*lease)->expert());
    }
  }
  Error FetchError(int32_t layer, const std::vector<int32_t>& experts) {
    ExpertBatch batch = store_->Fetch(layer, experts);
    for (;;) {
      auto lease = batch.Next();
      if (!lease) return lease.error();
      if (!*lease) return {ErrorCode::kInternal, "no error"};
    }
  }
  void Hang(bool hang) {
    fault_.ChangeDirect([&](DirectFaults& faults) { faults.hang = hang; });
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

TEST_F(StoreTest, EveryExpertOfEveryLayout) {
  for (const Kind kind : {Kind::kStacks, Kind::kFused, Kind::kPerExpert, Kind::kFp8, Kind::kUneven}) {
    for (const bool faulty : {true, false}) {  // threads, and whatever AsyncIo prefers
      for (const bool direct : {true, false}) {
        Open({.slots = 6, .resizable = direct, .io = {.direct = direct}}, kind, faulty ? &fault_ : &Env::Default());
        ASSERT_NE(model_->bytes() % 4096, 0);  // the last expert ends in a page that is not whole
        for (int round = 0; round < 2; ++round) {
          for (int layer = 0; layer < 3; ++layer) {
            for (int e = 0; e < 8; e += 2) EXPECT_EQ(Check(layer, {e, e + 1}).size(), 2u);
          }
        }
        const auto stats = store_->stats();
        EXPECT_EQ(stats.uses, 48);
        EXPECT_LE(stats.resident, 6);
        EXPECT_EQ(stats.demand_reads, 48 - stats.hits);
        EXPECT_EQ(stats.failures, 0);
        EXPECT_EQ(stats.io.direct, direct);
      }
    }
  }
}

TEST_F(StoreTest, OptionsAreChecked) {
  const ExpertModelForTest model(path_);
  for (const ExpertStoreOptions& options :
       {ExpertStoreOptions{.slots = 1}, ExpertStoreOptions{.slots = 25}, ExpertStoreOptions{.slots = 4, .most_slots = 3},
        ExpertStoreOptions{.slots = 4, .heat = {1, 2}}, ExpertStoreOptions{.slots = 4, .prefetch_piece = 100}}) {
    EXPECT_EQ(ExpertStore::Create(model, fault_, nullptr, options).error().code, ErrorCode::kInvalidArgument);
  }
  fault_.faults.fail_open = true;
  EXPECT_EQ(ExpertStore::Create(model, fault_, nullptr, {.slots = 4}).error().code, ErrorCode::kIo);
}

TEST_F(StoreTest, ResidentsDoNotWaitForTheOthers) {
  Open({.slots = 8});
  Check(0, {3, 5});
  Hang(true);
  {
    const std::vector<int32_t> experts = {1, 3, 2, 5};
    ExpertBatch batch = store_->Fetch(0, experts);
    EXPECT_TRUE(Eventually([&] { return fault_.direct_counts().waiting == 6; }));  // all reads at once
    for (const int32_t expert : {3, 5}) {
      auto lease = batch.Next();
      ASSERT_TRUE(lease && *lease);
      EXPECT_EQ((*lease)->expert(), expert);
    }
    EXPECT_EQ(batch.left(), 2);
    const auto none = batch.Try();
    EXPECT_TRUE(none && !*none);
    Hang(false);
    for (int i = 0; i < 2; ++i) {
      auto lease = batch.Next();
      ASSERT_TRUE(lease && *lease);
      EXPECT_TRUE(model_->Holds((*lease)->views(), 0, (*lease)->expert()));
    }
    EXPECT_FALSE(*batch.Next());
  }
  EXPECT_EQ(store_->stats().hits, 2);
  EXPECT_EQ(store_->stats().leased, 0);
}

TEST_F(StoreTest, MoreThanTheSlotsComesInWaves) {
  Open({.slots = 3});
  EXPECT_EQ(Check(1, {0, 1, 2, 3, 4, 5, 6, 7}).size(), 8u);
  // Who holds on to all slots is told so instead of waiting for ever.
  std::vector<ExpertLease> held;
  const std::vector<int32_t> all = {0, 1, 2, 3, 4, 5, 6, 7};
  ExpertBatch batch = store_->Fetch(2, all);
  for (int i = 0; i < 3; ++i) {
    auto lease = batch.Next();
    ASSERT_TRUE(lease && *lease);
    held.push_back(std::move(**lease));
  }
  const auto full = batch.Next();
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, ErrorCode::kResource);
  held.pop_back();
  auto more = batch.Next();
  ASSERT_TRUE(more && *more);
  EXPECT_TRUE(model_->Holds((*more)->views(), 2, (*more)->expert()));
  EXPECT_TRUE(model_->Holds(held[0].views(), 2, held[0].expert()));  // nobody took it away
}

TEST_F(StoreTest, AnAbandonedBatchLeavesItsReadsAsResidents) {
  Open({.slots = 6});
  Hang(true);
  const std::vector<int32_t> experts = {1, 2};
  { const ExpertBatch batch = store_->Fetch(0, experts); }
  Hang(false);
  EXPECT_TRUE(Resident(2));
  Check(0, {1, 2});
  EXPECT_EQ(store_->stats().hits, 2);
}

TEST_F(StoreTest, TheStoreMayGoWhileReading) {
  Open({.slots = 6});
  Hang(true);
  const std::vector<ExpertGuess> guesses = {{1, 0.9f}, {2, 0.9f}};
  store_->Hint(1, guesses);
  const std::vector<int32_t> experts = {1, 2};
  { const ExpertBatch batch = store_->Fetch(0, experts); }
  std::thread wake([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    Hang(false);
  });
  store_.reset();
  wake.join();
}

TEST_F(StoreTest, ReadsThatFailAreTriedAgain) {
  Open({.slots = 6});
  fault_.ChangeDirect([](DirectFaults& faults) { faults.reads_left = 1; });
  // The first try loses two of its three reads; from then on all is well.
  std::thread mend([&] {
    Eventually([&] { return store_->stats().retries > 0 || fault_.direct_counts().reads >= 2; });
    fault_.ChangeDirect([](DirectFaults& faults) { faults.reads_left = DirectFaults::kNever; });
  });
  // It may be too late for all tries; then the next Fetch tries anew.
  const std::vector<int32_t> experts = {4};
  for (int i = 0; i < 50; ++i) {
    ExpertBatch batch = store_->Fetch(0, experts);
    auto lease = batch.Next();
    if (lease && *lease) {
      EXPECT_TRUE(model_->Holds((*lease)->views(), 0, 4));
      break;
    }
    EXPECT_LT(i, 49);
  }
  mend.join();
  EXPECT_GT(store_->stats().retries, 0);
}

TEST_F(StoreTest, AReadThatKeepsFailingIsAnErrorAndNoMore) {
  Open({.slots = 6});
  Check(0, {1});
  fault_.ChangeDirect([](DirectFaults& faults) { faults.reads_left = 0; });
  const Error error = FetchError(0, {1, 2});
  EXPECT_EQ(error.code, ErrorCode::kIo);
  EXPECT_NE(error.message.find("layer 1, expert 2"), std::string::npos) << error.message;
  EXPECT_NE(error.message.find(path_), std::string::npos) << error.message;
  EXPECT_EQ(store_->stats().retries, ExpertStore::kTries - 1);
  EXPECT_EQ(store_->stats().failures, 1);
  EXPECT_EQ(store_->stats().leased, 0);
  Check(0, {1});  // what is resident goes on
  fault_.ChangeDirect([](DirectFaults& faults) { faults.reads_left = DirectFaults::kNever; });
  Check(0, {1, 2, 3, 4, 5, 6});
}

TEST_F(StoreTest, ATruncatedFileIsNeverComputedWith) {
  for (const auto& [env, direct] : {std::pair{static_cast<Env*>(&fault_), true}, {&Env::Default(), true},
                                    {static_cast<Env*>(&fault_), false}, {&Env::Default(), false}}) {
    Open({.slots = 6, .io = {.direct = direct}}, Kind::kStacks, env);
    Check(0, {1});
    std::filesystem::resize_file(path_, 100000);
    const Error error = FetchError(2, {7});
    EXPECT_EQ(error.code, ErrorCode::kCorrupt);
    EXPECT_NE(error.message.find(path_), std::string::npos) << error.message;
    EXPECT_EQ(FetchError(0, {2}).code, ErrorCode::kCorrupt);  // though its bytes are there
    EXPECT_FALSE(store_->CheckUnchanged());
  }
}

TEST_F(StoreTest, AChangedFileIsNeverComputedWith) {
  for (const bool direct : {true, false}) {
    Open({.slots = 6, .io = {.direct = direct}}, Kind::kStacks, &Env::Default());
    Check(0, {1});
    ASSERT_TRUE(store_->CheckUnchanged());
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // file systems' clocks are coarse
    std::fstream(path_, std::ios::in | std::ios::out | std::ios::binary).put('x');
    EXPECT_EQ(FetchError(0, {2}).code, ErrorCode::kCorrupt);
    EXPECT_FALSE(store_->CheckUnchanged());
  }
}

// Of the expert and nothing around it: what is not asked for would have to be paid for, in time and in memory.
TEST_F(StoreTest, ThroughThePageCacheNothingIsReadAhead) {
  Open({.slots = 6, .io = {.direct = false}}, Kind::kPerExpert, &Env::Default());
  ::sync();
  ASSERT_TRUE(DropCached(path_, 0, model_->bytes()));
  if (CachedBytes(path_).value_or(-1) != 0) GTEST_SKIP() << "this file system lives in the page cache";
  Check(1, {3});
  int64_t asked = 0;
  for (const ExpertRead& read : store_->layout().Reads(store_->layout().geometry().Id(1, 3))) {
    asked += read.bytes;
    EXPECT_EQ(CachedBytes(path_, read.offset, read.bytes).value_or(-1), read.bytes);
  }
  EXPECT_EQ(CachedBytes(path_).value_or(-1), asked);
  Open({.slots = 6}, Kind::kPerExpert, &Env::Default());
  ::sync();
  ASSERT_TRUE(DropCached(path_, 0, model_->bytes()));
  Check(1, {3});
  EXPECT_EQ(CachedBytes(path_).value_or(-1), 0);
}

// Where time of modification says nothing, what was read before is recognised.
TEST_F(StoreTest, ChangedContentIsSeenBySamples) {
  Open({.slots = 2});
  Check(0, {1, 2});
  Check(0, {3, 4});  // 1 and 2 are gone
  fault_.ChangeDirect([&](DirectFaults& faults) {
    for (int64_t at = 0; at < model_->bytes(); ++at) faults.read_xor[at] = 1;
  });
  const Error error = FetchError(0, {1});
  EXPECT_EQ(error.code, ErrorCode::kCorrupt);
  EXPECT_EQ(FetchError(1, {1}).code, ErrorCode::kCorrupt);
}

TEST_F(StoreTest, AFileReplacedByRenamingIsTheOldOne) {
  Open({.slots = 4}, Kind::kStacks, &Env::Default());
  Check(0, {1});
  std::ofstream(folder_ / "other") << "something else";
  std::filesystem::rename(folder_ / "other", path_);
  for (int layer = 0; layer < 3; ++layer) Check(layer, {5, 6, 7});
  EXPECT_TRUE(store_->CheckUnchanged());
}

TEST_F(StoreTest, HintsAreReadAhead) {
  Open({.slots = 8, .prefetch_piece = 4096});
  const std::vector<ExpertGuess> guesses = {{1, 0.9f}, {2, 0.1f}, {3, 0.8f}};
  Check(0, {0});
  store_->Hint(1, guesses);
  EXPECT_TRUE(Resident(3));
  EXPECT_EQ(Check(1, {3, 1}).size(), 2u);
  const auto stats = store_->stats();
  EXPECT_EQ(stats.hits, 2);
  EXPECT_EQ(stats.prefetch_reads, 2);
  EXPECT_EQ(stats.prefetch_used, 2);
  EXPECT_EQ(stats.hinted, 3);
  EXPECT_EQ(stats.hints_used, 2);
  EXPECT_EQ(stats.demand_reads, 1);
}

TEST_F(StoreTest, HintsThatAreSeldomRightAreNotRead) {
  Open({.slots = 8, .prefetch_piece = 4096});
  // One layer ahead always wrong, two layers ahead always right.
  const std::vector<ExpertGuess> wrong = {{6, 0.9f}, {7, 0.9f}};
  int64_t reads = 0, used = 0;
  for (int pass = 0; pass < 40; ++pass) {
    const int expert = pass % 5;
    Check(0, {expert});
    store_->Hint(1, wrong);
    Check(1, {expert});
    const std::vector<ExpertGuess> right = {{(pass + 1) % 5, 0.9f}};
    store_->Hint(0, right);  // beyond layer 2
    Check(2, {expert});
    if (pass == 30) reads = store_->stats().prefetch_reads, used = store_->stats().prefetch_used;
  }
  const auto stats = store_->stats();
  EXPECT_GT(stats.prefetch_used, used);
  // None of the wrong ones any more; one may be between reading and use at either end.
  EXPECT_NEAR(static_cast<double>(stats.prefetch_reads - reads), static_cast<double>(stats.prefetch_used - used), 1);
}

TEST_F(StoreTest, PrefetchIsBoundedAndYieldsToDemand) {
  Open({.slots = 12, .prefetch_piece = 4096, .prefetch_pieces = 3});
  Hang(true);
  std::vector<ExpertGuess> guesses;
  for (int e = 0; e < 6; ++e) guesses.push_back({e, 0.9f});
  store_->Hint(1, guesses);
  EXPECT_TRUE(Eventually([&] { return fault_.direct_counts().waiting == 3; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(fault_.direct_counts().waiting, 3);
  // A demanded expert's three reads join at once, and until they are there no prefetch is issued.
  const std::vector<int32_t> experts = {7};
  ExpertBatch batch = store_->Fetch(0, experts);
  EXPECT_TRUE(Eventually([&] { return fault_.direct_counts().waiting == 6; }));
  EXPECT_EQ(store_->stats().prefetch_reads, 1);
  Hang(false);
  auto lease = batch.Next();
  ASSERT_TRUE(lease && *lease);
  EXPECT_TRUE(Resident(7));
  EXPECT_EQ(store_->stats().prefetch_reads, 6);
}

TEST_F(StoreTest, APrefetchThatIsDemandedIsReadAtOnce) {
  Open({.slots = 12, .prefetch_piece = 4096, .prefetch_pieces = 1});
  Hang(true);
  const std::vector<ExpertGuess> guesses = {{5, 0.9f}};
  store_->Hint(0, guesses);
  EXPECT_TRUE(Eventually([&] { return fault_.direct_counts().waiting == 1; }));
  const std::vector<int32_t> experts = {5};
  ExpertBatch batch = store_->Fetch(0, experts);
  EXPECT_TRUE(Eventually([&] { return fault_.direct_counts().waiting == 4; }));  // the piece, and the rest
  Hang(false);
  auto lease = batch.Next();
  ASSERT_TRUE(lease && *lease);
  EXPECT_TRUE(model_->Holds((*lease)->views(), 0, 5));
  EXPECT_EQ(store_->stats().arriving, 1);
  EXPECT_EQ(store_->stats().demand_reads, 0);
}

TEST_F(StoreTest, APrefetchThatFailsIsForgotten) {
  Open({.slots = 12, .prefetch_piece = 4096});
  fault_.ChangeDirect([](DirectFaults& faults) { faults.reads_left = 0; });
  const std::vector<ExpertGuess> guesses = {{5, 0.9f}};
  store_->Hint(0, guesses);
  EXPECT_TRUE(Eventually([&] { return store_->stats().failures == 1; }));
  fault_.ChangeDirect([](DirectFaults& faults) { faults.reads_left = DirectFaults::kNever; });
  Check(0, {5, 6});
}

TEST_F(StoreTest, HeatFillsTheSlots) {
  std::vector<float> heat(24, 0.01f);
  for (const ExpertId id : {3, 9, 17}) heat[id] = 0.5f;
  heat[20] = 0;
  Open({.slots = 3, .heat = heat});
  EXPECT_TRUE(Resident(3));
  EXPECT_EQ(Check(0, {3}).size() + Check(1, {1}).size() + Check(2, {1}).size(), 3u);
  EXPECT_EQ(store_->stats().hits, 3);
  EXPECT_EQ(store_->stats().demand_reads, 0);
  const auto now = store_->Heat();
  EXPECT_GT(now[3], now[0]);
}

TEST_F(StoreTest, SlotsGrowAndShrink) {
  Open({.slots = 4});
  Check(0, {0, 1, 2, 3});
  ASSERT_TRUE(store_->Resize(12));
  Check(1, {0, 1, 2, 3});
  Check(2, {0, 1, 2, 3});
  EXPECT_EQ(store_->stats().resident, 12);
  EXPECT_EQ(store_->Resize(1).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(store_->Resize(25).error().code, ErrorCode::kInvalidArgument);
  const std::vector<int32_t> experts = {0, 1, 2};
  {
    ExpertBatch batch = store_->Fetch(2, experts);
    std::vector<ExpertLease> leases;
    for (int i = 0; i < 3; ++i) {
      auto lease = batch.Next();
      ASSERT_TRUE(lease && *lease);
      leases.push_back(std::move(**lease));
    }
    ASSERT_TRUE(store_->Resize(4));
    EXPECT_GT(store_->slots(), 4);  // leased slots stay where they are
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(model_->Holds(leases[i].views(), 2, leases[i].expert()));
  }
  EXPECT_EQ(store_->slots(), 4);
  EXPECT_EQ(store_->stats().resident, 4);
  const int64_t before = store_->stats().hits;
  Check(2, {0, 1, 2});
  EXPECT_EQ(store_->stats().hits, before + 3);  // moved, not lost
  for (int layer = 0; layer < 3; ++layer) Check(layer, {4, 5, 6, 7});
}

// Slots of two sizes: each expert in one of its own, the shares of both kept through every change.
TEST_F(StoreTest, SlotsOfTwoSizesGrowAndShrink) {
  Open({.slots = 8}, Kind::kUneven);
  const ExpertLayout& layout = store_->layout();
  ASSERT_EQ(layout.slot_classes().size(), 2u);
  const auto expect_resident = [&](int layer, const std::vector<int>& experts) {
    std::vector<uint8_t> residents(8);
    store_->Residents(layer, residents);
    for (int e = 0; e < 8; ++e) EXPECT_EQ(residents[e], std::ranges::count(experts, e)) << layer << " " << e;
  };
  for (int layer = 0; layer < 2; ++layer) Check(layer, {0, 1, 2, 3});
  EXPECT_EQ(store_->stats().resident, 8);
  // A ninth expert takes the place of one of its own size, though those of the other have not been used for longer.
  Check(1, {4});
  expect_resident(0, {0, 1, 2, 3});
  EXPECT_EQ(store_->stats().evictions, 1);
  ASSERT_TRUE(store_->Resize(13));  // 6 and 7
  EXPECT_EQ(store_->slots(), 13);
  Check(2, {0, 1, 2, 3});  // two of the four take others' places
  EXPECT_EQ(store_->stats().evictions, 3);
  Check(3, {0, 1, 2});
  EXPECT_EQ(store_->stats().evictions, 3);
  EXPECT_EQ(store_->stats().resident, 13);
  ASSERT_TRUE(store_->Resize(4));
  EXPECT_EQ(store_->slots(), 4);
  EXPECT_EQ(store_->stats().resident, 4);
  for (int layer = 0; layer < 4; ++layer) EXPECT_EQ(Check(layer, {4, 5, 6, 7}).size(), 4u);
  EXPECT_EQ(store_->stats().resident, 4);
  EXPECT_EQ(store_->stats().slot_bytes, layout.slot_bytes());
  // Heat fills both.
  std::vector<float> heat(32, 0);
  for (const int id : {0, 1, 2, 9, 10, 16, 17, 25}) heat[id] = 0.5f;
  Open({.slots = 8, .heat = heat}, Kind::kUneven);
  EXPECT_TRUE(Resident(7));  // five of the large ones are hot, and there are four such slots
  expect_resident(1, {1, 2});
  expect_resident(3, {1});
}

TEST_F(StoreTest, FixedSlotsStayFixed) {
  Open({.slots = 4, .resizable = false}, Kind::kStacks, &Env::Default());
  EXPECT_EQ(store_->Resize(5).error().code, ErrorCode::kInvalidArgument);
  Check(1, {2, 3});
}

// Fetches, hints and resizes from many threads, on a disk that fails now and then: whatever is handed out is right.
TEST_F(StoreTest, ManyThreads) {
  for (const auto& [policy, kind] : std::vector<std::pair<ExpertPolicyKind, Kind>>{
           {ExpertPolicyKind::kPredicted, Kind::kStacks}, {ExpertPolicyKind::kPredicted, Kind::kUneven},
           {ExpertPolicyKind::kLru, Kind::kStacks}, {ExpertPolicyKind::kLru, Kind::kUneven},
           {ExpertPolicyKind::kLfu, Kind::kStacks}, {ExpertPolicyKind::kS3Fifo, Kind::kUneven}}) {
    Open({.slots = 14, .policy = policy, .prefetch_piece = 8192}, kind);
    std::atomic<bool> stop{false};
    std::atomic<int64_t> good{0}, bad{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&, t] {
        std::mt19937 random(t);
        for (int i = 0; i < 60; ++i) {
          const auto layer = static_cast<int32_t>(random() % 3), first = static_cast<int32_t>(random() % 8);
          const std::vector<int32_t> experts = {first, (first + 1) % 8, (first + 5) % 8};
          const std::vector<ExpertGuess> guesses = {{static_cast<int32_t>(random() % 8), 0.7f}, {first, 0.3f}};
          ExpertBatch batch = store_->Fetch(layer, experts);
          store_->Hint((layer + 1) % 3, guesses);
          while (random() % 16 != 0) {
            auto lease = batch.Next();
            if (!lease) {
              ++bad;
              continue;
            }
            if (!*lease) break;
            ASSERT_TRUE(model_->Holds((*lease)->views(), layer, (*lease)->expert()));
            ++good;
          }
        }
      });
    }
    std::thread trouble([&] {
      std::mt19937 random(77);
      while (!stop) {
        (void)store_->Resize(12 + static_cast<int64_t>(random() % 12));
        (void)store_->stats();
        fault_.ChangeDirect([&](DirectFaults& faults) { faults.reads_left = random() % 4 == 0 ? 2 : DirectFaults::kNever; });
        std::this_thread::sleep_for(std::chrono::microseconds(300));
      }
      fault_.ChangeDirect([](DirectFaults& faults) { faults.reads_left = DirectFaults::kNever; });
    });
    for (std::thread& thread : threads) thread.join();
    stop = true;
    trouble.join();
    EXPECT_GT(good, 200);
    EXPECT_EQ(store_->stats().leased, 0);
    EXPECT_TRUE(store_->Resize(2));
    EXPECT_TRUE(Eventually([&] { return store_->slots() == 2; }));
  }
}

}  // namespace
}  // namespace fathom
