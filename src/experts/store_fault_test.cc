// The store on disks that hang, cut reads short and fail for a while: bounded waits, errors that say what and where, slots
// that nobody else gets before a late read has ended, and everything as before when the disk is back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "experts/expert_store.h"
#include "experts/model_for_test.h"
#include "io/fault_env.h"
#include "io/left_behind.h"
#include "io/temp_folder_for_test.h"

namespace fathom {
namespace {

using testing::HasSubstr;
using Clock = std::chrono::steady_clock;
using Kind = ExpertModelForTest::Kind;
using std::chrono::milliseconds;

bool Eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 20000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(milliseconds(1));
  }
  return false;
}

class StoreFaultTest : public testing::Test {
 protected:
  ~StoreFaultTest() override {
    Change([](DirectFaults& faults) { faults = {}; });
    store_.reset();
    EXPECT_TRUE(Eventually([] { return LeftBehind() == 0; }));  // they use fault_
  }
  void Open(const ExpertStoreOptions& options, Kind kind = Kind::kStacks) {
    store_.reset();
    model_ = std::make_unique<ExpertModelForTest>(path_, kind);
    auto store = ExpertStore::Create(*model_, fault_, nullptr, options);
    ASSERT_TRUE(store) << store.error().message;
    store_ = std::move(*store);
  }
  void Change(const std::function<void(DirectFaults&)>& change) { fault_.ChangeDirect(change); }
  void Hang(bool hang) {
    Change([&](DirectFaults& faults) { faults.hang = hang; });
  }
  /// Takes all of a batch; those that came, and the errors of the others.
  struct Taken {
    std::vector<int32_t> came, failed;
    std::vector<Error> errors;
  };
  Taken Take(int32_t layer, const std::vector<int32_t>& experts) {
    Taken taken;
    ExpertBatch batch = store_->Fetch(layer, experts);
    while (batch.left() > 0) {
      const int32_t left = batch.left();
      auto lease = batch.Next();
      if (!lease) {
        taken.errors.push_back(lease.error());
        if (batch.left() == left) break;  // the whole batch
        continue;
      }
      if (!*lease) break;
      EXPECT_TRUE(model_->Holds((*lease)->views(), layer, (*lease)->expert())) << layer << " " << (*lease)->expert();
      taken.came.push_back((*lease)->expert());
    }
    taken.failed = batch.failed();
    return taken;
  }
  void CheckAll() {
    for (int layer = 0; layer < 3; ++layer)
      for (int e = 0; e < 8; e += 2) EXPECT_EQ(Take(layer, {e, e + 1}).came.size(), 2u) << layer << " " << e;
  }

  const TempFolderForTest folder_;
  const std::string path_ = folder_ / "model";
  FaultEnv fault_;
  std::unique_ptr<ExpertModelForTest> model_;
  std::unique_ptr<ExpertStore> store_;
};

TEST_F(StoreFaultTest, ADiskThatHangsIsAnErrorThatSaysSo) {
  constexpr milliseconds kLimit{2000};  // a tenth of it is still long for a busy machine
  Open({.slots = 8, .stall_limit = kLimit});
  Take(0, {1});
  Hang(true);
  const auto began = Clock::now();
  const Taken taken = Take(0, {1, 2, 5});
  EXPECT_GE(Clock::now() - began, kLimit);
  EXPECT_EQ(taken.came, std::vector<int32_t>{1});  // residents are not affected
  EXPECT_THAT(taken.failed, testing::UnorderedElementsAre(2, 5));
  ASSERT_EQ(taken.errors.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(taken.errors[i].code, ErrorCode::kIo);
    EXPECT_THAT(taken.errors[i].message, HasSubstr("layer 1, expert " + std::to_string(taken.failed[i])));
    EXPECT_THAT(taken.errors[i].message, HasSubstr(path_));
    EXPECT_THAT(taken.errors[i].message, testing::ContainsRegex("has not answered any read for [1-9]"));
  }
  EXPECT_EQ(store_->stats().unanswered, 2);
  EXPECT_EQ(store_->stats().leased, 0);
  // Who comes now is told sooner, and residents are still handed out.
  const auto again = Clock::now();
  EXPECT_EQ(Take(0, {2}).failed.size(), 1u);
  EXPECT_LT(Clock::now() - again, kLimit * 9 / 10);
  EXPECT_EQ(Take(0, {1}).came.size(), 1u);
  // The disk is back: late reads arrive as residents, and everything goes on.
  Hang(false);
  EXPECT_TRUE(Eventually([&] { return store_->stats().resident >= 3; }));
  const int64_t hits = store_->stats().hits;
  EXPECT_EQ(Take(0, {2, 5}).came.size(), 2u);
  EXPECT_EQ(store_->stats().hits, hits + 2);
  CheckAll();
}

TEST_F(StoreFaultTest, SlotsOfLateReadsAreNobodyElses) {
  Open({.slots = 3, .stall_limit = milliseconds(50)});
  Hang(true);
  EXPECT_EQ(Take(0, {1, 2, 3}).failed.size(), 3u);
  // There is no slot left: the same error, not a wait for ever, and not "all slots are held".
  const Taken none = Take(1, {4, 5});
  ASSERT_EQ(none.failed.size(), 2u);
  EXPECT_EQ(none.errors[0].code, ErrorCode::kIo);
  EXPECT_EQ(store_->stats().resident, 0);
  ASSERT_TRUE(store_->Resize(2));
  EXPECT_EQ(store_->slots(), 3);  // memory that is being read into is not given back
  Hang(false);
  CheckAll();
  EXPECT_TRUE(Eventually([&] { return store_->slots() == 2; }));
}

TEST_F(StoreFaultTest, WhileTheDiskHangsResidentsKeepTheirSlots) {
  Open({.slots = 8, .stall_limit = milliseconds(50)});
  for (int e = 0; e < 8; ++e) Take(0, {e});
  Hang(true);
  EXPECT_EQ(Take(1, {0, 1}).failed.size(), 2u);
  EXPECT_EQ(store_->stats().resident, 6);
  EXPECT_EQ(Take(2, {0, 1, 2, 3}).failed.size(), 4u);  // one read is enough to see that it still hangs
  EXPECT_EQ(store_->stats().resident, 5);
  EXPECT_EQ(Take(1, {0, 1}).failed.size(), 2u);  // of reads that are under way none is issued again
  EXPECT_EQ(store_->stats().resident, 5);
  Hang(false);
  CheckAll();
}

TEST_F(StoreFaultTest, OneReadThatHangsAmongOthers) {
  constexpr milliseconds kLimit{500};  // longer than a busy machine lets the other thread wait
  Open({.slots = 8, .stall_limit = kLimit}, Kind::kPerExpert);
  const TensorInfo* tensor = model_->Find("model.layers.1.mlp.experts.3.gate_proj.weight");
  Change([&](DirectFaults& faults) {
    faults.hang_begin = tensor->offset;
    faults.hang_end = tensor->offset + 4096;
  });
  std::atomic<bool> stop{false};
  std::thread others([&] {
    std::mt19937 random(1);
    while (!stop) {
      // Of twice as many as there are slots: the disk is asked again and again.
      const auto layer = static_cast<int32_t>(1 + random() % 2), expert = static_cast<int32_t>(random() % 8);
      EXPECT_EQ(Take(layer, {expert}).came.size(), 1u);
      std::this_thread::sleep_for(milliseconds(1));
    }
  });
  const auto began = Clock::now();
  const Taken taken = Take(0, {3, 7});
  EXPECT_GE(Clock::now() - began, ExpertStore::kStuckLimits * kLimit);
  stop = true;
  others.join();
  EXPECT_EQ(taken.came, std::vector<int32_t>{7});
  ASSERT_EQ(taken.failed, std::vector<int32_t>{3});
  EXPECT_THAT(taken.errors[0].message, HasSubstr("has not answered this read"));
  Change([](DirectFaults& faults) { faults = {}; });
  CheckAll();
}

TEST_F(StoreFaultTest, ASlowDiskIsNotOneThatHangs) {
  Open({.slots = 8, .stall_limit = milliseconds(400)});
  Change([](DirectFaults& faults) { faults.delay = milliseconds(60); });
  // 24 reads by 8 threads, none sooner than 60 ms: every one of them is progress.
  EXPECT_EQ(Take(0, {0, 1, 2, 3, 4, 5, 6, 7}).came.size(), 8u);
  EXPECT_EQ(Take(1, {0, 1, 2, 3, 4, 5, 6, 7}).came.size(), 8u);
  EXPECT_EQ(store_->stats().unanswered, 0);
}

TEST_F(StoreFaultTest, AStoreGoesThoughItsReadsDoNotComeBack) {
  Open({.slots = 6, .stall_limit = milliseconds(100)});
  Hang(true);
  const std::vector<ExpertGuess> guesses = {{1, 0.9f}, {2, 0.9f}};
  store_->Hint(1, guesses);
  const std::vector<int32_t> experts = {1, 2};
  { const ExpertBatch batch = store_->Fetch(0, experts); }
  const auto began = Clock::now();
  store_.reset();
  EXPECT_LT(Clock::now() - began, std::chrono::seconds(20));
  EXPECT_EQ(LeftBehind(), 1);
  EXPECT_GT(fault_.direct_counts().waiting, 0);
  // Their memory is still there when they end.
  Hang(false);
  EXPECT_TRUE(Eventually([] { return LeftBehind() == 0; }));
  EXPECT_EQ(fault_.direct_counts().waiting, 0);
}

TEST_F(StoreFaultTest, FailuresForAWhileAreNotNoticed) {
  Open({.slots = 6}, Kind::kPerExpert);  // one read an expert
  for (const ErrorCode code : {ErrorCode::kIo, ErrorCode::kResource}) {
    const int64_t before = store_->stats().retries;
    Change([&](DirectFaults& faults) {
      faults.read_error = code;
      faults.failing_reads = ExpertStore::kTries - 1;
    });
    EXPECT_EQ(Take(0, {code == ErrorCode::kIo ? 1 : 2}).came.size(), 1u);
    EXPECT_EQ(store_->stats().retries, before + ExpertStore::kTries - 1);
  }
  // For too long: an error of the disk, whatever it called it, and only of what it concerns.
  Change([](DirectFaults& faults) { faults.failing_reads = ExpertStore::kTries; });
  const Taken taken = Take(0, {1, 3});
  EXPECT_EQ(taken.came, std::vector<int32_t>{1});
  ASSERT_EQ(taken.errors.size(), 1u);
  EXPECT_EQ(taken.errors[0].code, ErrorCode::kIo);
  EXPECT_EQ(Take(0, {3}).came.size(), 1u);
}

TEST_F(StoreFaultTest, ShortReadsAreTriedAgain) {
  Open({.slots = 6}, Kind::kPerExpert);
  Change([](DirectFaults& faults) { faults.short_reads = ExpertStore::kTries - 1; });
  EXPECT_EQ(Take(0, {1}).came.size(), 1u);
  EXPECT_EQ(store_->stats().retries, ExpertStore::kTries - 1);
  // The file is as long as before, so this is the disk's error and not the file's: the next Fetch tries anew.
  Change([](DirectFaults& faults) { faults.short_reads = ExpertStore::kTries; });
  const Taken taken = Take(0, {2});
  ASSERT_EQ(taken.errors.size(), 1u);
  EXPECT_EQ(taken.errors[0].code, ErrorCode::kIo);
  EXPECT_THAT(taken.errors[0].message, HasSubstr("layer 1, expert 2"));
  EXPECT_TRUE(store_->CheckUnchanged());
  CheckAll();
}

// As the model does it: groups of at most half of the slots, leases given back before anything is waited for.
TEST_F(StoreFaultTest, BatchesLargerThanTheSlotsFromManyThreads) {
  for (const int64_t slots : {2, 3, 5}) {
    Open({.slots = slots});
    std::atomic<bool> stop{false};
    std::thread watch([&] {
      while (!stop) {
        const auto stats = store_->stats();
        EXPECT_LE(stats.leased, slots);
        EXPECT_LE(stats.slots, slots);
      }
    });
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        const std::vector<int32_t> all = {0, 1, 2, 3, 4, 5, 6, 7};
        for (int round = 0; round < 8; ++round) {
          const int32_t layer = (round + t) % 3;
          ExpertBatch batch = store_->Fetch(layer, all);
          store_->ReadAhead((layer + 1) % 3);
          size_t came = 0;
          for (;;) {
            std::vector<ExpertLease> group;
            auto next = batch.Next();
            while (next && *next) {
              EXPECT_TRUE(model_->Holds((*next)->views(), layer, (*next)->expert()));
              group.push_back(std::move(**next));
              if (static_cast<int64_t>(group.size()) >= std::max<int64_t>(1, slots / 2)) break;
              next = batch.Try();
            }
            ASSERT_TRUE(next) << next.error().message;
            if (group.empty()) break;
            came += group.size();
          }
          EXPECT_EQ(came, all.size());
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    stop = true;
    watch.join();
    EXPECT_EQ(store_->stats().leased, 0);
  }
}

// A disk that hangs again and again under many threads, and slots that come and go: what is handed out is right.
TEST_F(StoreFaultTest, HangsUnderLoad) {
  Open({.slots = 10, .prefetch_piece = 8192, .stall_limit = milliseconds(20)});
  std::atomic<bool> stop{false};
  std::atomic<int64_t> came{0}, failed{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      // As long as it takes to have met both, on whatever machine.
      for (int i = 0; i < 60 || ((came < 150 || failed < 10) && i < 5000); ++i) {
        const auto layer = static_cast<int32_t>(random() % 3), first = static_cast<int32_t>(random() % 8);
        const std::vector<ExpertGuess> guesses = {{static_cast<int32_t>(random() % 8), 0.7f}};
        store_->Hint((layer + 1) % 3, guesses);
        const Taken taken = Take(layer, {first, (first + 1) % 8, (first + 5) % 8});
        EXPECT_EQ(taken.came.size() + taken.failed.size(), 3u);
        for (const Error& error : taken.errors) EXPECT_EQ(error.code, ErrorCode::kIo);
        came += static_cast<int64_t>(taken.came.size());
        failed += static_cast<int64_t>(taken.failed.size());
      }
    });
  }
  std::thread trouble([&] {
    std::mt19937 random(5);
    while (!stop) {
      const auto kind = random() % 4;
      Change([&](DirectFaults& faults) {
        faults.hang = kind == 0;
        faults.short_reads = kind == 1 ? 2 : 0;
        faults.failing_reads = kind == 2 ? 2 : 0;
      });
      (void)store_->Resize(6 + static_cast<int64_t>(random() % 8));
      std::this_thread::sleep_for(milliseconds(kind == 0 ? 60 : 15));
    }
    Change([](DirectFaults& faults) { faults = {}; });
  });
  for (std::thread& thread : threads) thread.join();
  stop = true;
  trouble.join();
  EXPECT_GE(came, 150);
  EXPECT_GE(failed, 10);
  EXPECT_EQ(store_->stats().leased, 0);
  // All come again; a busy machine may itself take longer than so low a limit, now and then.
  for (int layer = 0; layer < 3; ++layer)
    for (int e = 0; e < 8; e += 2)
      EXPECT_TRUE(Eventually([&] { return Take(layer, {e, e + 1}).came.size() == 2; })) << layer << " " << e;
}

TEST_F(StoreFaultTest, TheLimitIsChecked) {
  const ExpertModelForTest model(path_);
  EXPECT_EQ(ExpertStore::Create(model, fault_, nullptr, {.slots = 4, .stall_limit = milliseconds(0)}).error().code,
            ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace fathom
