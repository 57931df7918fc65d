#include "cache/eviction.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <vector>

namespace fathom {
namespace {

bool Always(CacheEntryId) { return true; }


class EveryPolicy : public testing::TestWithParam<EvictionKind> {
 protected:
  std::unique_ptr<EvictionPolicy> policy_ = MakeEvictionPolicy(GetParam(), 1000);
  /// Takes out the victim.
  std::optional<CacheEntryId> Evict(const std::function<bool(CacheEntryId)>& may_go = Always) {
    const auto victim = policy_->Victim(may_go);
    if (victim) policy_->Remove(*victim);
    return victim;
  }
};

INSTANTIATE_TEST_SUITE_P(Eviction, EveryPolicy,
                         testing::Values(EvictionKind::kSavedTime, EvictionKind::kLru, EvictionKind::kS3Fifo),
                         [](const auto& info) {
                           return info.param == EvictionKind::kLru      ? "Lru"
                                  : info.param == EvictionKind::kS3Fifo ? "S3Fifo"
                                                                        : "SavedTime";
                         });

TEST_P(EveryPolicy, KnowsItsName) {
  const auto parsed = ParseEvictionKind(EvictionKindName(GetParam()));
  ASSERT_TRUE(parsed);
  EXPECT_EQ(*parsed, GetParam());
}

TEST_P(EveryPolicy, EmptyHasNoVictim) {
  EXPECT_EQ(policy_->Victim(Always), std::nullopt);
  policy_->Insert(1, {.bytes = 10, .saved_seconds = 1}, 0);
  EXPECT_EQ(policy_->Victim([](CacheEntryId) { return false; }), std::nullopt);
  EXPECT_EQ(policy_->size(), 1u);
  EXPECT_EQ(policy_->Victim(Always), 1u);
  EXPECT_EQ(policy_->Victim(Always), 1u);  // asking does not remove
  policy_->Remove(1);
  EXPECT_EQ(policy_->Victim(Always), std::nullopt);
  policy_->Touch(1, 1);  // not there: nothing happens
  policy_->Remove(1);
  EXPECT_EQ(policy_->size(), 0u);
}

TEST_P(EveryPolicy, WithoutHitsTheOldestGoes) {
  for (CacheEntryId id = 1; id <= 5; ++id) policy_->Insert(id, {.bytes = 200, .saved_seconds = 1}, double(id));
  for (CacheEntryId id = 1; id <= 5; ++id) EXPECT_EQ(Evict(), id);
}

TEST_P(EveryPolicy, WhatARestartFoundIsAsOldAsItSays) {
  for (const CacheEntryId id : {3, 1, 5, 2, 4})
    policy_->Insert(id, {.bytes = 200, .saved_seconds = 1}, double(id) * 1e4);
  for (CacheEntryId id = 1; id <= 5; ++id) EXPECT_EQ(Evict(), id);
}

TEST_P(EveryPolicy, LeavesGoBeforeTheirParents) {
  // 1 - 2 - 3 - 4, and 5 under 2; touched from the root on, as a lookup does.
  const std::map<CacheEntryId, CacheEntryId> parent = {{1, kNoCacheEntry}, {2, 1}, {3, 2}, {4, 3}, {5, 2}};
  double now = 0;
  for (const auto& [id, up] : parent) policy_->Insert(id, {.bytes = 200, .saved_seconds = 1, .parent = up}, ++now);
  for (const CacheEntryId id : {1, 2, 3, 4}) policy_->Touch(id, ++now);
  std::set<CacheEntryId> gone;
  while (const auto victim = Evict([&](CacheEntryId id) {
           for (const auto& [child, up] : parent) {
             EXPECT_TRUE(up != id || gone.contains(child)) << "offered " << id << " before its child " << child;
           }
           return true;
         })) {
    gone.insert(*victim);
  }
  EXPECT_EQ(gone.size(), 5u);
}

TEST_P(EveryPolicy, ParentsMayComeAndGoInAnyOrder) {
  policy_->Insert(2, {.bytes = 10, .saved_seconds = 1, .parent = 1}, 0);  // its parent is not here
  policy_->Insert(1, {.bytes = 10, .saved_seconds = 1}, 0);
  policy_->Insert(3, {.bytes = 10, .saved_seconds = 1, .parent = 1}, 0);
  policy_->Remove(1);                                                   // before its child
  policy_->Insert(1, {.bytes = 10, .saved_seconds = 1}, 0);             // another life, no children counted
  policy_->Remove(3);
  policy_->Insert(4, {.bytes = 10, .saved_seconds = 1, .parent = 4}, 0);  // nonsense is not a cycle
  std::set<CacheEntryId> gone;
  while (const auto victim = Evict()) gone.insert(*victim);
  EXPECT_EQ(gone, (std::set<CacheEntryId>{1, 2, 4}));
}

TEST_P(EveryPolicy, RefusedEntriesComeLaterAndAreNotLost) {
  for (CacheEntryId id = 1; id <= 20; ++id) policy_->Insert(id, {.bytes = 50, .saved_seconds = 1}, double(id));
  for (int i = 0; i < 50; ++i) EXPECT_EQ(policy_->Victim([](CacheEntryId id) { return id == 20; }), 20u);
  std::set<CacheEntryId> gone;
  while (const auto victim = Evict()) gone.insert(*victim);
  EXPECT_EQ(gone.size(), 20u);
}

// Whatever happens: a victim is an entry that is there, may go, and has no child there; none only when there is none.
TEST_P(EveryPolicy, RandomTreesKeepTheRules) {
  std::mt19937 random(7);
  auto below = [&](uint64_t n) { return std::uniform_int_distribution<uint64_t>(0, n - 1)(random); };
  std::map<CacheEntryId, CacheEntryId> parent;
  std::map<CacheEntryId, int> children;
  double now = 0;
  for (int step = 0; step < 20000; ++step) {
    now += static_cast<double>(below(100)) / 10;
    const CacheEntryId id = 1 + below(300);
    switch (below(4)) {
      case 0:
      case 1: {
        if (parent.contains(id)) {
          policy_->Touch(id, now);
          break;
        }
        CacheEntryId up = id / 3;  // a fixed forest
        if (!parent.contains(up)) up = kNoCacheEntry;
        policy_->Insert(id, {.bytes = 1 + int64_t(below(30)), .saved_seconds = double(below(9)), .parent = up}, now);
        parent[id] = up;
        if (up != kNoCacheEntry) ++children[up];
        break;
      }
      case 2: {
        const uint64_t refused = below(4);
        auto may_go = [&](CacheEntryId candidate) { return candidate % 4 != refused; };
        const auto victim = policy_->Victim(may_go);
        bool any = false;
        for (const auto& [entry, up] : parent) any |= children[entry] == 0 && may_go(entry);
        ASSERT_EQ(victim.has_value(), any);
        if (!victim) break;
        ASSERT_TRUE(parent.contains(*victim) && may_go(*victim));
        ASSERT_EQ(children[*victim], 0);
        policy_->Remove(*victim);
        if (parent[*victim] != kNoCacheEntry) --children[parent[*victim]];
        parent.erase(*victim);
        break;
      }
      default:
        if (parent.contains(id) && children[id] == 0) {  // forgotten
          policy_->Remove(id);
          if (parent[id] != kNoCacheEntry) --children[parent[id]];
          parent.erase(id);
        }
    }
    ASSERT_EQ(policy_->size(), parent.size());
  }
}

TEST_P(EveryPolicy, ManyEntriesAreCheap) {
  // 100,000 entries in chains of 100, of which only the last may go, and 400,000 operations: well below a
  // second. A policy that walks over the inner nodes would take hours, and meet the test runner's time limit.
  constexpr CacheEntryId kEntries = 100'000;
  std::mt19937 random(3);
  double now = 0;
  CacheEntryId next = 1;
  auto grow = [&] {
    const CacheEntryId id = next++;
    const CacheEntryId parent = id % 100 == 1 ? kNoCacheEntry : id - 1;
    policy_->Insert(id, {.bytes = 1, .saved_seconds = 1, .parent = parent}, now += 0.01);
  };
  while (next <= kEntries) grow();
  for (int i = 0; i < 100'000; ++i) {
    for (int t = 0; t < 2; ++t) policy_->Touch(next - 1 - random() % kEntries, now);
    ASSERT_TRUE(Evict());
    grow();
  }
  EXPECT_EQ(policy_->size(), kEntries);
}

TEST(Eviction, UnknownNameListsTheNames) {
  const auto parsed = ParseEvictionKind("fifo");
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(parsed.error().message.find("saved-time, lru and s3-fifo"), std::string::npos);
}

TEST(Lru, AHitMakesYoung) {
  auto lru = MakeEvictionPolicy(EvictionKind::kLru, 1000);
  for (CacheEntryId id = 1; id <= 3; ++id) lru->Insert(id, {.bytes = 1}, 0);
  lru->Touch(1, 1);
  EXPECT_EQ(lru->Victim(Always), 2u);
  lru->Touch(2, 2);
  EXPECT_EQ(lru->Victim(Always), 3u);
  EXPECT_EQ(lru->Victim([](CacheEntryId id) { return id != 3; }), 1u);
}

TEST(S3Fifo, AScanDoesNotWashOutWhatWasHit) {
  auto policy = MakeEvictionPolicy(EvictionKind::kS3Fifo, 100);
  for (CacheEntryId id = 1; id <= 10; ++id) {
    policy->Insert(id, {.bytes = 5}, 0);
    policy->Touch(id, 0);
    policy->Touch(id, 0);  // more than once: worth the main queue
  }
  for (CacheEntryId id = 1001; id <= 1500; ++id) {
    policy->Insert(id, {.bytes = 5}, 0);
    if (policy->size() <= 20) continue;
    const auto victim = policy->Victim(Always);
    ASSERT_TRUE(victim);
    EXPECT_GT(*victim, 1000u);
    policy->Remove(*victim);
  }
}

TEST(S3Fifo, WhatComesBackSoonGoesToTheMainQueue) {
  auto policy = MakeEvictionPolicy(EvictionKind::kS3Fifo, 100);
  policy->Insert(1, {.bytes = 10}, 0);
  policy->Insert(2, {.bytes = 10}, 0);
  ASSERT_EQ(policy->Victim(Always), 1u);
  policy->Remove(1);
  policy->Insert(1, {.bytes = 10}, 0);  // a ghost
  policy->Insert(3, {.bytes = 10}, 0);
  EXPECT_EQ(policy->Victim(Always), 2u);
  policy->Remove(2);
  EXPECT_EQ(policy->Victim(Always), 3u);  // younger than 1, but in the small queue
  // Forgotten rather than evicted: not remembered.
  policy->Remove(3);
  policy->Insert(4, {.bytes = 10}, 0);
  policy->Remove(4);
  policy->Insert(5, {.bytes = 10}, 0);
  policy->Insert(4, {.bytes = 10}, 0);
  EXPECT_EQ(policy->Victim(Always), 5u);
}

TEST(SavedTime, CheapOrLargeGoesFirst) {
  auto policy = MakeEvictionPolicy(EvictionKind::kSavedTime, 1000);
  policy->Insert(1, {.bytes = 100, .saved_seconds = 10}, 0);
  policy->Insert(2, {.bytes = 100, .saved_seconds = 1}, 0);
  policy->Insert(3, {.bytes = 10000, .saved_seconds = 10}, 0);
  policy->Insert(4, {.bytes = 100, .saved_seconds = -5}, 0);  // loading is slower than computing: of no use
  std::vector<CacheEntryId> order;
  while (const auto victim = policy->Victim(Always)) order.push_back(*victim), policy->Remove(*victim);
  EXPECT_EQ(order, (std::vector<CacheEntryId>{4, 3, 2, 1}));
  // A cost may be learned later.
  policy->Insert(1, {.bytes = 100, .saved_seconds = 10}, 1);
  policy->Insert(2, {.bytes = 100, .saved_seconds = 1}, 1);
  policy->Insert(2, {.bytes = 100, .saved_seconds = 100}, 1);
  EXPECT_EQ(policy->Victim(Always), 1u);
}

// Blocks that were hit before are hit again every minute, others never are: the policy learns it, and an old proven
// block outlives a young unproven one, where LRU would do the opposite.
TEST(SavedTime, LearnsWhichClassesComeBack) {
  auto saved = MakeEvictionPolicy(EvictionKind::kSavedTime, 1000);
  double now = 0;
  CacheEntryId next = 1000;
  for (int minute = 0; minute < 60; ++minute, now += 60) {
    for (CacheEntryId id = 1; id <= 20; ++id) {
      if (minute == 0) saved->Insert(id, {.bytes = 10, .saved_seconds = 1}, now);
      if (minute > 0) saved->Touch(id, now);
    }
    for (int i = 0; i < 80; ++i) {
      saved->Insert(next++, {.bytes = 10, .saved_seconds = 1}, now + 0.5 * i);
      if (saved->size() <= 100) continue;
      const auto victim = saved->Victim(Always);
      EXPECT_TRUE(*victim >= 1000u || minute < 10) << "minute " << minute;
      saved->Remove(*victim);
      if (*victim < 1000) saved->Insert(*victim, {.bytes = 10, .saved_seconds = 1}, now);
    }
  }
}

}  // namespace
}  // namespace fathom
