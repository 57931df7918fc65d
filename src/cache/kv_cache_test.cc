#include "cache/kv_cache.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <thread>

#include "cache/kv_cache_fixture_for_test.h"
#include "io/env.h"
#include "io/fault_env.h"

namespace fathom {
namespace {

TEST_F(KvCacheTest, HitsAreTokenExactAndTenantsDoNotMeet) {
  Open({});
  const Tokens a = RandomTokens(200, 1);
  EXPECT_EQ(Request(a), 0);
  EXPECT_EQ(Request(a), 199);
  Tokens b = a;
  b[150] = 5000;
  EXPECT_EQ(Request(b), 150);  // inside a block
  EXPECT_EQ(Request(Join(a, RandomTokens(100, 2))), 200);
  EXPECT_EQ(Request(a, "somebody else"), 0);
  EXPECT_EQ(Request(a, "somebody else"), 199);
  const CacheStats stats = cache_->stats();
  EXPECT_EQ(stats.lookups, 6);
  EXPECT_EQ(stats.hit_tokens, 199 + 150 + 200 + 199);
}

TEST_F(KvCacheTest, EverythingComesBackAfterARestart) {
  Open(OnDisk());
  const Tokens a = RandomTokens(200, 1), b = Join(Tokens(a.begin(), a.begin() + 100), RandomTokens(300, 2));
  Request(a);
  Request(b, "", true);
  ASSERT_TRUE(cache_->Flush());
  Open(OnDisk());
  const KvPrefix explained = cache_->Explain("", b);
  EXPECT_EQ(explained.tokens, 400);
  EXPECT_EQ(explained.disk_tokens, 400);
  EXPECT_NE(explained.reason.find("400 on disk"), std::string::npos) << explained.reason;
  EXPECT_EQ(Request(b), 399);
  EXPECT_EQ(Request(a), 199);
  EXPECT_EQ(Request(a, "other"), 0);
  EXPECT_EQ(cache_->stats().corrupt, 0);
  EXPECT_EQ(cache_->Explain("", b).memory_tokens, 400);  // now in memory
}

TEST_F(KvCacheTest, AnotherModelsBlocksAreNotTouched) {
  Open(OnDisk());
  const Tokens a = RandomTokens(200, 1);
  Request(a);
  ASSERT_TRUE(cache_->Flush());
  cache_.reset();
  KvSpace other = kSpace;
  other.model_fingerprint = "beef";
  {
    KvPool pool(other.layout);
    auto cache = KvCache::Create(Env::Default(), other, pool, OnDisk());
    ASSERT_TRUE(cache) << cache.error().message;
    EXPECT_EQ((*cache)->Explain("", a).tokens, 0);
  }
  Open(OnDisk());
  EXPECT_EQ(Request(a), 199);
}

// Opening reads the latest of what is stored, where it is enough, requests the rest: damage is found by either.
class KvCacheDamageTest : public KvCacheTest, public testing::WithParamInterface<bool> {};
INSTANTIATE_TEST_SUITE_P(Opened, KvCacheDamageTest, testing::Bool());

TEST_P(KvCacheDamageTest, ADamagedBlockIsAMissAndHeals) {
  Open(OnDisk());
  for (uint32_t i = 0; i < 12; ++i) Request(RandomTokens(640, 100 + i));  // 4 MiB and more
  const Tokens a = RandomTokens(640, 1);
  Request(a);
  ASSERT_TRUE(cache_->Flush());
  cache_.reset();
  const bool opened = GetParam();
  if (opened) Open(OnDisk());
  // One byte in the rows of some block of each segment file.
  for (const auto& file : std::filesystem::recursive_directory_iterator(folder_)) {
    if (!file.is_regular_file() || file.file_size() < 100000) continue;
    std::fstream stream(file.path(), std::ios::in | std::ios::out | std::ios::binary);
    std::vector<char> bytes(file.file_size());
    stream.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    // A row's bytes that we know: of token 300, layer 2.
    std::vector<std::byte> row(static_cast<size_t>(kSpace.layout.row_bytes()));
    FillRow(a, 2, 300, row.data());
    const auto* begin = reinterpret_cast<const char*>(row.data());
    const auto found = std::search(bytes.begin(), bytes.end(), begin, begin + row.size());
    if (found == bytes.end()) continue;
    stream.seekp(found - bytes.begin());
    stream.put(static_cast<char>(*found ^ 4));
  }
  if (!opened) {
    Open(OnDisk());
    EXPECT_EQ(cache_->stats().corrupt, 1) << "before anybody asked";
    EXPECT_GT(cache_->stats().disk.read_bytes_per_second, 0);
  }
  EXPECT_EQ(Request(a), 256);
  EXPECT_EQ(Request(a), 639);  // what was computed in its place, whether or not all of its layers have been answered for
  ASSERT_TRUE(Eventually([&] { return cache_->stats().corrupt == 1; }));
  ASSERT_TRUE(cache_->Flush());
  Open(OnDisk());
  EXPECT_EQ(Request(a), 639);
  const auto verified = cache_->Verify({});
  ASSERT_TRUE(verified);
  EXPECT_EQ(verified->first, 130);
  EXPECT_EQ(verified->second, 0);
}

TEST_F(KvCacheTest, OpeningATinyCacheReadsNoRows) {
  FaultEnv env;
  Open(OnDisk(), env);
  Request(RandomTokens(640, 1));
  cache_.reset();
  Open(OnDisk(), env);
  EXPECT_EQ(cache_->Explain("", RandomTokens(640, 1)).tokens, 640);
  EXPECT_EQ(cache_->stats().disk.reads, 0);
  cache_.reset();  // before the env
}

TEST_F(KvCacheTest, MemoryIsGivenUpForRunningSequencesAndFoundAgainOnDisk) {
  CacheOptions options = OnDisk();
  options.memory_bytes = 12 * kSpace.layout.block_bytes();
  Open(options);
  for (uint32_t i = 0; i < 8; ++i) {
    EXPECT_EQ(Request(RandomTokens(300, i)), 0);
    ASSERT_TRUE(cache_->Flush());  // faster than the device, blocks would be given up before they are written
  }
  EXPECT_LE(pool_->used_bytes(), options.memory_bytes);
  EXPECT_GT(cache_->stats().evicted_memory, 0);
  for (uint32_t i = 0; i < 8; ++i) EXPECT_EQ(Request(RandomTokens(300, i)), 299);
}

TEST_F(KvCacheTest, WithoutADiskTheEndsOfPrefixesGoFirst) {
  CacheOptions options;
  options.memory_bytes = 8 * kSpace.layout.block_bytes();
  options.eviction = EvictionKind::kLru;
  Open(options);
  Request(RandomTokens(256, 1));
  Request(RandomTokens(256, 2));
  Request(RandomTokens(128, 3));  // drives out two blocks of the first
  EXPECT_EQ(cache_->Explain("", RandomTokens(256, 1)).tokens, 128);
  EXPECT_EQ(cache_->Explain("", RandomTokens(256, 2)).tokens, 256);
}

TEST_F(KvCacheTest, ALongerTailReplacesAShorterOne) {
  Open(OnDisk());
  const Tokens all = RandomTokens(300, 9);
  for (const size_t count : {70u, 90u, 128u, 200u, 300u}) {
    Request(Tokens(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count)));
    ASSERT_TRUE(cache_->Flush());
  }
  EXPECT_EQ(cache_->List().size(), 5u);
  Open(OnDisk());
  EXPECT_EQ(cache_->List().size(), 5u);
  EXPECT_EQ(Request(all), 299);
}

TEST_F(KvCacheTest, ForgettingErasesWhatOnlyThisConversationHolds) {
  Open(OnDisk());
  const Tokens system = RandomTokens(128, 1);
  const Tokens secret = Join(system, RandomTokens(200, 2)), other = Join(system, RandomTokens(200, 3));
  Request(secret);
  Request(other);
  Request(Join(secret, RandomTokens(50, 4)));  // it went on
  ASSERT_TRUE(cache_->Flush());
  const auto forgotten = cache_->Forget("", secret, false);
  ASSERT_TRUE(forgotten) << forgotten.error().message;
  EXPECT_GE(*forgotten, 4);
  EXPECT_EQ(cache_->Explain("", secret).tokens, 128);
  EXPECT_EQ(cache_->Explain("", other).tokens, 328);
  EXPECT_TRUE(cache_->Check());
  cache_.reset();
  // Neither its rows nor its tokens stand anywhere on disk.
  std::vector<std::byte> row(static_cast<size_t>(kSpace.layout.row_bytes()));
  FillRow(secret, 0, 200, row.data());
  int files = 0;
  bool other_is_there = false;
  std::vector<std::byte> other_row(row.size());
  FillRow(other, 0, 200, other_row.data());
  for (const auto& file : std::filesystem::recursive_directory_iterator(folder_)) {
    if (!file.is_regular_file()) continue;
    ++files;
    std::ifstream stream(file.path(), std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(stream)), {});
    const auto contains = [&](const void* data, size_t size) {
      return bytes.find(std::string_view(static_cast<const char*>(data), size)) != std::string::npos;
    };
    EXPECT_FALSE(contains(row.data(), row.size()));
    EXPECT_FALSE(contains(secret.data() + 128, 64 * sizeof(int32_t)));
    other_is_there |= contains(other_row.data(), other_row.size());
  }
  EXPECT_GT(files, 0);
  EXPECT_TRUE(other_is_there);
}

TEST_F(KvCacheTest, ATenantIsForgottenWhole) {
  Open(OnDisk());
  Request(RandomTokens(200, 1), "a");
  Request(RandomTokens(200, 1), "b");
  const auto forgotten = cache_->ForgetTenant("a");
  ASSERT_TRUE(forgotten);
  EXPECT_EQ(*forgotten, 4);
  EXPECT_EQ(cache_->Explain("a", RandomTokens(200, 1)).tokens, 0);
  EXPECT_EQ(cache_->Explain("b", RandomTokens(200, 1)).tokens, 200);
}

TEST_F(KvCacheTest, PinnedPrefixesStayAndAreRememberedAcrossRestarts) {
  CacheOptions options = OnDisk(10);
  Open(options);
  const Tokens important = RandomTokens(320, 1);
  Request(important);
  EXPECT_EQ(cache_->Pin("", important, true).value_or(-1), 5);
  ASSERT_TRUE(cache_->Flush());
  for (uint32_t i = 2; i < 12; ++i) {
    Request(RandomTokens(320, i));
    ASSERT_TRUE(cache_->Flush());
  }
  const CacheStats stats = cache_->stats();
  EXPECT_GT(stats.evicted_disk, 0) << stats.disk.used_bytes << " of " << stats.disk.capacity_bytes << ", not admitted " << stats.not_admitted;
  Open(options);
  EXPECT_EQ(cache_->stats().pinned_blocks, 5);
  EXPECT_EQ(cache_->Explain("", important).tokens, 320);
  EXPECT_EQ(cache_->Pin("", important, false).value_or(-1), 5);
  EXPECT_EQ(cache_->stats().pinned_blocks, 0);
}

TEST_F(KvCacheTest, QuotasOfATenantDriveOutItsOwnBlocksOnly) {
  CacheOptions options = OnDisk();
  options.tenant_limits["small"] = {.memory_bytes = 4 * kSpace.layout.block_bytes(),
                                    .disk_bytes = 4 * (kSpace.layout.block_bytes() + 4096)};
  Open(options);
  Request(RandomTokens(320, 1), "large");
  for (uint32_t i = 0; i < 6; ++i) {
    Request(RandomTokens(128, 10 + i), "small");
    ASSERT_TRUE(cache_->Flush());
  }
  int64_t small_on_disk = 0;
  for (const CacheEntryInfo& info : cache_->List())
    if (info.root == RootKey(kSpace, "small")) small_on_disk += info.on_disk;
  EXPECT_LE(small_on_disk, 4);
  EXPECT_GT(small_on_disk, 0);
  EXPECT_EQ(cache_->Explain("large", RandomTokens(320, 1)).tokens, 320);
}

// A tenant that goes round at its quota asks for victims again and again; that must not make others' blocks look younger:
// when memory is short for everybody, the oldest goes first, whoever's it is. (After so many rounds, as a policy passes
// over a block a few times before it moves it.)
TEST_F(KvCacheTest, ATenantAtItsQuotaLeavesTheOrderOfOthersAlone) {
  const int64_t block = kSpace.layout.block_bytes();
  CacheOptions options;
  options.eviction = EvictionKind::kLru;
  options.memory_bytes = 8 * block;
  options.tenant_limits["small"] = {.memory_bytes = 2 * block};
  const Tokens old = RandomTokens(128, 1);
  for (uint32_t rounds = 10; rounds < 18; ++rounds) {
    Open(options);
    Request(old, "large");
    for (uint32_t i = 0; i < rounds; ++i) Request(RandomTokens(64, 100 + i), "small");
    EXPECT_EQ(cache_->Explain("large", old).tokens, 128);
    EXPECT_EQ(cache_->Explain("small", RandomTokens(64, 100 + rounds - 3)).tokens, 0);
    Request(RandomTokens(320, 2), "third");  // one more than is free
    EXPECT_EQ(cache_->Explain("small", RandomTokens(64, 100 + rounds - 2)).tokens, 64) << rounds;
    EXPECT_EQ(cache_->Explain("small", RandomTokens(64, 100 + rounds - 1)).tokens, 64) << rounds;
    EXPECT_EQ(cache_->Explain("large", old).tokens, 64) << rounds;
  }
}

TEST_F(KvCacheTest, ATenantAtItsDiskQuotaLeavesTheOrderOfOthersAlone) {
  CacheOptions options = OnDisk(8);
  options.eviction = EvictionKind::kLru;
  options.tenant_limits["small"] = {.disk_bytes = 2 * (kSpace.layout.block_bytes() + 4096)};
  const auto on_disk = [&](std::string_view tenant) {
    const auto list = cache_->List();
    return std::count_if(list.begin(), list.end(), [&](const CacheEntryInfo& info) {
      return info.root == RootKey(kSpace, tenant) && info.on_disk;
    });
  };
  for (uint32_t rounds = 10; rounds < 18; ++rounds) {
    Open(options);
    Request(RandomTokens(128, 1), "large");
    ASSERT_TRUE(cache_->Flush());
    for (uint32_t i = 0; i < rounds; ++i) {
      Request(RandomTokens(64, 100 + i), "small");
      ASSERT_TRUE(cache_->Flush());
      ASSERT_LE(on_disk("small"), 2);
    }
    ASSERT_EQ(on_disk("large"), 2);
    ASSERT_EQ(on_disk("small"), 2);
    Request(RandomTokens(256, 2), "third");  // one more than is free: a slot's worth goes to the file's header
    ASSERT_TRUE(cache_->Flush());
    EXPECT_EQ(on_disk("third"), 4);
    EXPECT_EQ(on_disk("small"), 2) << rounds;
    EXPECT_EQ(on_disk("large"), 1) << rounds;
    cache_.reset();
    std::filesystem::remove_all(folder_);
  }
}

// Blocks that only wait to be written do not vanish because their tenant has little memory.
TEST_F(KvCacheTest, ASmallShareOfMemoryDoesNotKeepBlocksFromTheDisk) {
  CacheOptions options = OnDisk();
  options.tenant_limits["small"] = {.memory_bytes = 0};
  options.tenant_limits["memory only"] = {.disk_bytes = 0};
  Open(options);
  Request(RandomTokens(640, 1), "small");
  Request(RandomTokens(640, 1), "memory only");
  ASSERT_TRUE(cache_->Flush());
  EXPECT_EQ(Trouble(), "");
  KvPrefix known = cache_->Explain("small", RandomTokens(640, 1));
  EXPECT_EQ(known.tokens, 640) << known.reason;
  EXPECT_EQ(known.memory_tokens, 0);
  known = cache_->Explain("memory only", RandomTokens(640, 1));
  EXPECT_EQ(known.memory_tokens, 640);
  Open(options);
  EXPECT_EQ(cache_->Explain("memory only", RandomTokens(640, 1)).tokens, 0);
  EXPECT_EQ(Request(RandomTokens(640, 1), "small"), 639);
  EXPECT_EQ(Trouble(), "");
}

// What a folder holds is nobody's by name; limits must hold for it before its tenant has asked for anything.
TEST_F(KvCacheTest, LimitsHoldForWhatARestartFound) {
  CacheOptions options = OnDisk();
  Open(options);
  Request(RandomTokens(200, 1), "brief");
  ASSERT_TRUE(cache_->Flush());
  std::this_thread::sleep_for(std::chrono::milliseconds(2100));  // the time of writing is kept in seconds
  options.tenant_limits["brief"] = {.ttl_seconds = 1};
  Open(options);
  const auto dropped = cache_->CollectGarbage();
  ASSERT_TRUE(dropped);
  EXPECT_EQ(*dropped, 4);
}

TEST_F(KvCacheTest, ATenantPinsAsMuchAsItMay) {
  CacheOptions options = OnDisk();
  options.tenant_limits["small"] = {.pinned_bytes = 4 * kSpace.layout.block_bytes()};
  options.tenant_limits["none"] = {.pinned_bytes = 0};
  Open(options);
  const Tokens a = RandomTokens(192, 1), b = RandomTokens(128, 2);
  for (const char* tenant : {"small", "none", "free"}) {
    Request(a, tenant);
    Request(b, tenant);
  }
  EXPECT_EQ(cache_->Pin("small", a, true).value_or(-1), 3);
  EXPECT_EQ(cache_->Pin("small", a, true).value_or(-1), 3);  // again: nothing more
  const auto refused = cache_->Pin("small", b, true);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kResource);
  EXPECT_EQ(cache_->stats().pinned_blocks, 3);
  EXPECT_FALSE(cache_->Pin("none", a, true));
  EXPECT_EQ(cache_->Pin("none", a, false).value_or(-1), 3);
  EXPECT_EQ(cache_->Pin("free", b, true).value_or(-1), 2);
  ASSERT_TRUE(cache_->Flush());
  Open(options);  // what is pinned still counts
  EXPECT_EQ(Trouble(), "");
  EXPECT_FALSE(cache_->Pin("small", b, true));
  EXPECT_EQ(cache_->Pin("small", a, false).value_or(-1), 3);
  EXPECT_EQ(cache_->Pin("small", b, true).value_or(-1), 2);
  EXPECT_EQ(Trouble(), "");
}

TEST_F(KvCacheTest, WhatIsNotUsedExpires) {
  CacheOptions options = OnDisk();
  options.tenant_limits["brief"] = {.ttl_seconds = 1};
  Open(options);
  Request(RandomTokens(200, 1), "brief");
  Request(RandomTokens(200, 1));
  ASSERT_TRUE(cache_->Flush());
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));
  EXPECT_EQ(cache_->Explain("brief", RandomTokens(200, 1)).tokens, 0);
  const auto dropped = cache_->CollectGarbage();
  ASSERT_TRUE(dropped);
  EXPECT_EQ(*dropped, 4);
  EXPECT_EQ(cache_->Explain("", RandomTokens(200, 1)).tokens, 200);
}

// The file of use times: there or not, a block that was used after it was written outlives one that was written later.
TEST_F(KvCacheTest, WhatWasUsedLastIsKnownAfterARestart) {
  const auto file = [&] {
    for (const auto& entry : std::filesystem::directory_iterator(folder_))
      if (entry.path().filename().string().starts_with("uses-")) return entry.path();
    return std::filesystem::path();
  };
  CacheOptions options = OnDisk(9);  // eight blocks and the file's header
  options.eviction = EvictionKind::kLru;
  const Tokens used = RandomTokens(256, 1), newer = RandomTokens(256, 2);
  const auto prepare = [&] {
    cache_.reset();
    std::filesystem::remove_all(folder_);
    Open(options);
    Request(used);
    ASSERT_TRUE(cache_->Flush());
    std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // slots say seconds
    Request(newer);
    ASSERT_TRUE(cache_->Flush());
    EXPECT_EQ(file(), "") << "nothing was used twice: no file";
    for (int i = 0; i < 3; ++i) EXPECT_EQ(cache_->Acquire("", used, 256).tokens, 256);
    cache_.reset();
    EXPECT_NE(file(), "");
  };
  const auto survivors = [&] {  // of (used, newer), once two blocks more are kept
    Open(options);
    for (const size_t count : {64u, 128u}) {
      const Tokens third = RandomTokens(128, 3);
      Request(Tokens(third.begin(), third.begin() + static_cast<std::ptrdiff_t>(count)));
      EXPECT_TRUE(cache_->Flush());
    }
    return std::pair(cache_->Explain("", used).tokens, cache_->Explain("", newer).tokens);
  };
  prepare();
  Open(options);
  for (const CacheEntryInfo& info : cache_->List()) EXPECT_EQ(info.hits > 0, info.idle_seconds < info.age_seconds - 0.5);
  EXPECT_EQ(survivors(), (std::pair<int64_t, int64_t>(256, 128)));
  // A process that was killed leaves none, or an old one; a damaged one counts for nothing.
  prepare();
  std::filesystem::remove(file());
  EXPECT_EQ(survivors(), (std::pair<int64_t, int64_t>(128, 256)));
  for (const int64_t at : {0, 9, 20, 50}) {
    prepare();
    {
      std::fstream stream(file(), std::ios::in | std::ios::out | std::ios::binary);
      stream.seekg(at);
      const char byte = static_cast<char>(stream.get() ^ 0x10);
      stream.seekp(at);
      stream.put(byte);
    }
    EXPECT_EQ(survivors(), (std::pair<int64_t, int64_t>(128, 256))) << at;
  }
  prepare();
  std::filesystem::resize_file(file(), 40);
  EXPECT_EQ(survivors(), (std::pair<int64_t, int64_t>(128, 256)));
  // Forgotten: its keys are in no file.
  prepare();
  Open(options);
  ASSERT_TRUE(cache_->Forget("", used, true));
  EXPECT_EQ(std::filesystem::file_size(file()), 24u);
}

TEST_F(KvCacheTest, AKeepGoesOnFromItsCursor) {
  Open({});
  const Tokens all = RandomTokens(64 * 12 + 10, 1);
  KvSequence sequence(*pool_);
  Compute(sequence, all);
  const auto keep = [&](size_t count, bool tail, KeepCursor* cursor, std::string_view tenant = "") {
    cache_->Keep(tenant, std::span(all).first(count), sequence.blocks().first((count + 63) / 64), tail, cursor);
    EXPECT_EQ(Trouble(), "");
  };
  KeepCursor cursor;
  keep(64 * 4, false, &cursor);
  EXPECT_EQ(cursor.blocks, 4);
  keep(64 * 6 + 30, false, &cursor);  // the last one is not whole
  EXPECT_EQ(cursor.blocks, 6);
  keep(64 * 6, false, &cursor);  // nothing new
  EXPECT_EQ(cursor.blocks, 6);
  EXPECT_EQ(cache_->Explain("", all).tokens, 64 * 6);
  // Another tenant's cursor, one of other tokens, one that reaches too far: from the beginning.
  KeepCursor other = cursor;
  keep(64 * 7, false, &other, "other");
  EXPECT_EQ(other.blocks, 7);
  EXPECT_EQ(cache_->Explain("other", all).tokens, 64 * 7);
  Tokens edited = all;
  edited[64 * 5 + 3] = -7;
  other = cursor;
  cache_->Keep("", std::span(edited).first(64 * 7), sequence.blocks().first(7), false, &other);
  EXPECT_EQ(cache_->Explain("", edited).tokens, 64 * 7);
  EXPECT_EQ(cache_->Explain("", all).tokens, 64 * 6);
  other = {.blocks = 100, .last = cursor.last};
  keep(64 * 2, false, &other);
  EXPECT_EQ(other.blocks, 2);
  other = {.blocks = -3, .last = cursor.last};
  keep(64 * 2, false, &other);
  EXPECT_EQ(other.blocks, 2);
  // What the cursor stands on is forgotten: everything is kept again.
  ASSERT_TRUE(cache_->Forget("", all, true));
  ASSERT_EQ(cache_->Explain("", all).tokens, 0);
  keep(64 * 8, false, &cursor);
  EXPECT_EQ(cursor.blocks, 8);
  EXPECT_EQ(cache_->Explain("", all).tokens, 64 * 8);
  keep(all.size(), true, &cursor);
  EXPECT_EQ(cursor.blocks, 12);
  EXPECT_EQ(cache_->Explain("", all).tokens, static_cast<int64_t>(all.size()));
}

TEST_F(KvCacheTest, LogitsComeWithTheEndOfAPrompt) {
  Open({});
  const Tokens a = RandomTokens(100, 1);
  Request(a);
  const std::vector<float> logits = {1, 2, 3};
  cache_->KeepLogits("", a, logits);
  const KvPrefix whole = cache_->Acquire("", a, 100);
  EXPECT_EQ(whole.tokens, 100);
  EXPECT_EQ(whole.last_logits, logits);
  EXPECT_TRUE(cache_->Acquire("", Tokens(a.begin(), a.begin() + 90), 90).last_logits.empty());
}

TEST_F(KvCacheTest, AFolderHasOneOwner) {
  Open(OnDisk());
  KvPool pool(kSpace.layout);
  const auto second = KvCache::Create(Env::Default(), kSpace, pool, OnDisk());
  ASSERT_FALSE(second);
}

// Random conversations that grow and branch, over tiny tiers, with restarts: every row that is handed out is right and
// the accounts agree after every request.
TEST_F(KvCacheTest, RandomConversationsNeverSeeAWrongRow) {
  for (const EvictionKind kind : {EvictionKind::kLru, EvictionKind::kS3Fifo, EvictionKind::kSavedTime}) {
    CacheOptions options = OnDisk(40);
    options.memory_bytes = 24 * kSpace.layout.block_bytes();
    options.eviction = kind;
    Open(options);
    std::mt19937 random(7);
    std::vector<Tokens> conversations = {{}};
    int64_t known = 0;
    for (int round = 0; round < 150; ++round) {
      Tokens tokens = conversations[random() % conversations.size()];
      if (random() % 4 == 0 && !tokens.empty()) tokens.resize(random() % tokens.size());
      if (tokens.size() > 700) tokens.clear();
      for (size_t more = 1 + random() % 150; more > 0; --more) tokens.push_back(static_cast<int32_t>(random() % 3));
      known += Request(tokens, "", random() % 4 != 0);
      conversations.push_back(tokens);
      if (random() % 40 == 0) Open(options);
      if (random() % 20 == 0) {
        ASSERT_TRUE(cache_->Forget("", conversations[random() % conversations.size()], false));
        ASSERT_EQ(Trouble(), "");
      }
    }
    EXPECT_GT(known, 1000) << EvictionKindName(kind);
    cache_.reset();
    std::filesystem::remove_all(folder_);
  }
}

// Longer than a sound device takes on a machine that does much else.
constexpr double kHang = 2;

// A device that hangs for good: the cache ends all the same, and neither crashes nor corrupts when the device comes back.
TEST_F(KvCacheTest, ADeviceThatHangsDoesNotHoldUpTheEnd) {
  static auto& env = *new FaultEnv;  // what hangs in it may outlive the test
  for (const bool flush_first : {true, false}) {
    CacheOptions options = OnDisk();
    options.directory += flush_first ? "a" : "b";
    options.hang_seconds = kHang;
    Open(options, env);
    const Tokens a = RandomTokens(200, 1);
    Request(a);
    ASSERT_TRUE(cache_->Flush());
    env.ChangeDirect([](DirectFaults& faults) { faults.hang = true; });
    Request(Join(a, RandomTokens(100, 2)));
    const auto start = std::chrono::steady_clock::now();
    if (flush_first) {
      const Status flushed = cache_->Flush();
      ASSERT_FALSE(flushed);
      EXPECT_EQ(flushed.error().code, ErrorCode::kIo);
      EXPECT_NE(flushed.error().message.find("has not answered"), std::string::npos) << flushed.error().message;
      EXPECT_FALSE(cache_->Flush());
    }
    cache_.reset();
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
    pool_.reset();
    env.ChangeDirect([](DirectFaults& faults) { faults.hang = false; });
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    std::error_code late;  // what was stuck may write still
    std::filesystem::remove_all(options.directory, late);
  }
}

TEST_F(KvCacheTest, ADeviceThatHangsDoesNotHoldUpWhoForgetsVerifiesOrOpens) {
  static auto& env = *new FaultEnv;  // as above
  const Tokens a = RandomTokens(200, 1);
  CacheOptions options = OnDisk();
  options.hang_seconds = kHang;
  const auto says_so = [](const Error& error, const std::string& consequence) {
    EXPECT_EQ(error.code, ErrorCode::kIo);
    EXPECT_NE(error.message.find("has not answered"), std::string::npos) << error.message;
    EXPECT_NE(error.message.find(consequence), std::string::npos) << error.message;
  };
  const auto prepare = [&](const char* name) {
    options.directory = (folder_ / name).string();
    Open(options, env);
    Request(a);
    ASSERT_TRUE(cache_->Flush());
    env.ChangeDirect([](DirectFaults& faults) { faults.hang = true; });
  };
  const auto end = [&] {
    cache_.reset();
    pool_.reset();
    env.ChangeDirect([](DirectFaults& faults) { faults.hang = false; });
    std::this_thread::sleep_for(std::chrono::milliseconds(200));  // what was stuck goes on
  };
  const auto start = std::chrono::steady_clock::now();
  prepare("forget");
  const auto forgotten = cache_->Forget("", a, false);
  ASSERT_FALSE(forgotten);
  says_so(forgotten.error(), "forget it again");
  EXPECT_EQ(cache_->Explain("", a).tokens, 0) << "not found any more in any case";
  const auto tenant = cache_->ForgetTenant("");  // at once, while the first has not come back
  ASSERT_FALSE(tenant);
  says_so(tenant.error(), "forget it again");
  end();

  prepare("verify");
  std::atomic<bool> gone{false}, called_late{false};
  const auto verified = cache_->Verify([&](int64_t, int64_t) {
    if (gone) called_late = true;
    return true;
  });
  gone = true;
  ASSERT_FALSE(verified);
  says_so(verified.error(), "not all blocks were verified");
  end();
  EXPECT_FALSE(called_late);

  prepare("open");
  env.ChangeDirect([](DirectFaults& faults) { faults.hang = false; });
  cache_.reset();
  env.ChangeDirect([](DirectFaults& faults) { faults.hang = true; });
  {
    KvPool pool(kSpace.layout);
    const auto opened = KvCache::Create(env, kSpace, pool, options);
    ASSERT_FALSE(opened);
    says_so(opened.error(), "not opened");
    EXPECT_NE(opened.error().message.find(options.directory), std::string::npos) << opened.error().message;
  }
  end();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
}

TEST_F(KvCacheTest, ASlowDeviceIsWaitedFor) {
  FaultEnv env;
  CacheOptions options = OnDisk();
  options.hang_seconds = kHang;
  Open(options, env);
  env.ChangeDirect([](DirectFaults& faults) { faults.delay = std::chrono::milliseconds(60); });
  const Tokens a = RandomTokens(64 * 100, 1);  // seconds of writing
  Request(a);
  EXPECT_TRUE(cache_->Flush());
  EXPECT_EQ(cache_->stats().disk.blocks, 100);
  env.ChangeDirect([](DirectFaults& faults) { faults.delay = std::chrono::milliseconds(20); });
  const auto verified = cache_->Verify({});
  ASSERT_TRUE(verified) << verified.error().message;
  EXPECT_EQ(verified->first, 100);
  EXPECT_EQ(cache_->Forget("", a, true).value_or(-1), 100);
  env.ChangeDirect([](DirectFaults& faults) { faults.delay = {}; });
  cache_.reset();
}

}  // namespace
}  // namespace fathom
