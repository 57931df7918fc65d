// The cache manager over a tier that is no SSD: what it promises must not depend on which one is beneath it.
#include <gtest/gtest.h>

#include <atomic>
#include <random>

#include "cache/kv_cache_fixture_for_test.h"
#include "cache/remote_tier_for_test.h"

namespace fathom {
namespace {

class KvCacheOverRemote : public KvCacheTest {
 protected:
  CacheOptions Remote() const {
    CacheOptions options;
    options.tier = RemoteTier::Opener(store_, kSpace.layout);
    options.disk_bytes = store_->capacity * kSpace.layout.block_bytes();
    return options;
  }
  const std::shared_ptr<RemoteStore> store_ = std::make_shared<RemoteStore>();
};

TEST_F(KvCacheOverRemote, WhatIsThereIsFoundByTheNextProcess) {
  Open(Remote());
  const Tokens a = RandomTokens(200, 1), b = Join(Tokens(a.begin(), a.begin() + 100), RandomTokens(300, 2));
  Request(a);
  Request(b);
  ASSERT_TRUE(cache_->Flush());
  EXPECT_EQ(store_->blocks.size(), 10u);  // one of them shared
  Open(Remote());
  EXPECT_EQ(cache_->Explain("", b).disk_tokens, 400);
  EXPECT_EQ(Request(b), 399);
  EXPECT_EQ(Request(a), 199);
  EXPECT_EQ(Request(a, "other"), 0);
  EXPECT_FALSE(std::filesystem::exists(folder_)) << "nothing of it is on this machine's disk";
}

TEST_F(KvCacheOverRemote, AFullStoreMakesRoom) {
  store_->capacity = 12;
  CacheOptions options = Remote();
  options.memory_bytes = 16 * kSpace.layout.block_bytes();
  options.eviction = EvictionKind::kLru;
  Open(options);
  for (uint32_t i = 0; i < 10; ++i) {
    Request(RandomTokens(256, i));
    ASSERT_TRUE(cache_->Flush());
    ASSERT_LE(store_->blocks.size(), 12u);
  }
  EXPECT_GT(cache_->stats().evicted_disk, 0);
  EXPECT_EQ(cache_->stats().not_admitted, 0);
  Open(options);
  EXPECT_EQ(Request(RandomTokens(256, 9)), 255);
  EXPECT_EQ(Request(RandomTokens(256, 0)), 0);
}

TEST_F(KvCacheOverRemote, QuotasPinsAndForgettingHoldThereToo) {
  CacheOptions options = Remote();
  options.tenant_limits["small"] = {.disk_bytes = 4 * kSpace.layout.block_bytes(), .pinned_bytes = 0};
  Open(options);
  const Tokens kept = RandomTokens(192, 1);
  Request(kept, "large");
  for (uint32_t i = 0; i < 8; ++i) {
    Request(RandomTokens(128, 10 + i), "small");
    ASSERT_TRUE(cache_->Flush());
    ASSERT_LE(store_->blocks.size(), 7u);
  }
  EXPECT_FALSE(cache_->Pin("small", RandomTokens(128, 17), true));
  EXPECT_EQ(cache_->Pin("large", kept, true).value_or(-1), 3);
  const auto verified = cache_->Verify({});
  ASSERT_TRUE(verified);
  EXPECT_EQ(verified->second, 0);
  ASSERT_TRUE(cache_->ForgetTenant("small"));
  EXPECT_EQ(store_->blocks.size(), 3u);
  EXPECT_EQ(cache_->Explain("large", kept).tokens, 192);
}

TEST_F(KvCacheOverRemote, WhatDoesNotComeIsComputed) {
  Open(Remote());
  const Tokens a = RandomTokens(640, 1);
  Request(a);
  ASSERT_TRUE(cache_->Flush());
  Open(Remote());
  store_->get_errors = 1000;
  EXPECT_EQ(Request(a), 0);  // and every row is right
  store_->get_errors = 0;
  Open(Remote());
  store_->corrupt = 1000;
  EXPECT_EQ(Request(a), 0);
  // The request waits for the first that is bad only; the others are still on their way.
  ASSERT_TRUE(Eventually([&] { return cache_->stats().corrupt == 10; }));
  store_->corrupt = 0;
  ASSERT_TRUE(cache_->Flush());  // written anew
  Open(Remote());
  EXPECT_EQ(Request(a), 639);
  // Somebody else has emptied the store.
  Open(Remote());
  {
    const std::lock_guard lock(store_->mutex);
    store_->blocks.clear();
  }
  EXPECT_EQ(Request(a), 0);
}

TEST_F(KvCacheOverRemote, LoadsThatComeTogetherAreGivenTheTimeOfAll) {
  std::atomic<int> seconds = 0;
  const auto begin = std::chrono::steady_clock::now();
  CacheOptions options = Remote();
  options.clock = [&] { return begin + std::chrono::seconds(seconds); };
  Open(options);
  const Tokens a = RandomTokens(512, 1), b = RandomTokens(512, 2);
  Request(a);
  Request(b);
  ASSERT_TRUE(cache_->Flush());
  Open(options);
  store_->bytes_per_second = 256.0 * static_cast<double>(kSpace.layout.bytes_per_token());  // two seconds for each
  cache_->SetRates({.seconds_per_token = 0.2});
  store_->held = true;
  const KvPrefix first = cache_->Acquire("", a, 511), second = cache_->Acquire("", b, 511);
  ASSERT_TRUE(first.load && second.load);
  seconds = 12;  // longer than four times the first, not than four times both
  EXPECT_FALSE(first.load->WaitLayer(0));
  EXPECT_EQ(first.load->valid_tokens(), 0);
  store_->held = false;
  for (int64_t layer = 0; layer < kSpace.layout.layers; ++layer) EXPECT_TRUE(second.load->WaitLayer(layer));
  EXPECT_EQ(second.load->valid_tokens(), 511);
  ASSERT_TRUE(Eventually([&] { return first.load->Done(); }));
  Open(options);
  cache_->SetRates({.seconds_per_token = 0.2});
  store_->held = true;  // and what has come counts no more
  const KvPrefix third = cache_->Acquire("", b, 511);
  ASSERT_TRUE(third.load);
  seconds = 24;
  EXPECT_FALSE(third.load->WaitLayer(0));
  store_->held = false;
}

TEST_F(KvCacheOverRemote, AStoreThatIsAwayIsAnErrorAtTheStartAndMissesLater) {
  store_->unreachable = true;
  KvPool pool(kSpace.layout);
  EXPECT_FALSE(KvCache::Create(Env::Default(), kSpace, pool, Remote()));
  store_->unreachable = false;
  Open(Remote());
  store_->unreachable = true;
  const Tokens a = RandomTokens(300, 1);
  Request(a);
  EXPECT_FALSE(cache_->Flush());
  EXPECT_EQ(Request(a), 299);  // memory has it
  store_->unreachable = false;
  Request(Join(a, RandomTokens(10, 2)));  // offered again
  ASSERT_TRUE(cache_->Flush());
  EXPECT_GT(store_->blocks.size(), 0u);
}

// As RandomConversationsNeverSeeAWrongRow, over a far store that is late, refuses, fails and lies.
TEST_F(KvCacheOverRemote, RandomConversationsNeverSeeAWrongRow) {
  store_->capacity = 40;
  store_->most_latency_us = 300;
  CacheOptions options = Remote();
  options.memory_bytes = 24 * kSpace.layout.block_bytes();
  options.tenant_limits["small"] = {.memory_bytes = 6 * kSpace.layout.block_bytes(),
                                    .disk_bytes = 8 * kSpace.layout.block_bytes()};
  Open(options);
  store_->put_errors = 100;
  store_->get_errors = 100;
  store_->corrupt = 50;
  std::mt19937 random(7);
  std::vector<Tokens> conversations = {{}};
  int64_t known = 0;
  for (int round = 0; round < 300; ++round) {
    Tokens tokens = conversations[random() % conversations.size()];
    if (random() % 4 == 0 && !tokens.empty()) tokens.resize(random() % tokens.size());
    if (tokens.size() > 700) tokens.clear();
    for (size_t more = 1 + random() % 150; more > 0; --more) tokens.push_back(static_cast<int32_t>(random() % 3));
    known += Request(tokens, random() % 3 == 0 ? "small" : "", random() % 4 != 0);
    conversations.push_back(tokens);
    if (random() % 40 == 0) Open(options);
    if (random() % 20 == 0) {
      ASSERT_TRUE(cache_->Forget("", conversations[random() % conversations.size()], false));
      ASSERT_EQ(Trouble(), "");
    }
  }
  EXPECT_GT(known, 1000);
  EXPECT_GT(cache_->stats().lookups, 0);
}

}  // namespace
}  // namespace fathom
