// Prompts' last logits on disk, through the manager.
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

class KvCacheLogits : public KvCacheTest {
 protected:
  static constexpr int64_t kValues = 1000;

  CacheOptions WithLogits(int64_t sets = 40, int64_t blocks = 1000) const {
    CacheOptions options = OnDisk(blocks);
    options.logits_values = kValues;
    options.disk_bytes = CacheOptions::DiskBytesFor(options.disk_bytes, sets * (kLogitsBytes + 4096) + 4096);
    return options;
  }
  static std::vector<float> Logits(float seed) {
    std::vector<float> logits(kValues);
    for (size_t i = 0; i < logits.size(); ++i) logits[i] = seed * 1000 + static_cast<float>(i);
    return logits;
  }
  void KeepWithLogits(const Tokens& tokens, float seed, std::string_view tenant = "") {
    Request(tokens, tenant);
    cache_->KeepLogits(tenant, tokens, Logits(seed));
  }
  /// What a request that knows all tokens gets, waiting for it; empty: nothing.
  std::vector<float> Find(const Tokens& tokens, bool* from_disk = nullptr, std::string_view tenant = "") {
    const KvPrefix prefix = cache_->Acquire(tenant, tokens, static_cast<int64_t>(tokens.size()));
    if (from_disk != nullptr) *from_disk = prefix.logits != nullptr;
    if (prefix.load) {
      for (int64_t layer = 0; layer < kSpace.layout.layers; ++layer) EXPECT_TRUE(prefix.load->WaitLayer(layer));
    }
    if (!prefix.logits) return prefix.last_logits;
    EXPECT_TRUE(prefix.last_logits.empty());
    while (prefix.logits->state() == KvLogits::State::kWaiting) std::this_thread::sleep_for(std::chrono::microseconds(100));
    return prefix.logits->state() == KvLogits::State::kThere ? prefix.logits->Take() : std::vector<float>{};
  }
  std::vector<std::filesystem::path> LogitsFiles() const {
    std::vector<std::filesystem::path> files;
    if (!std::filesystem::exists(folder_ / "logits")) return files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_ / "logits"))
      if (entry.path().extension() == ".seg") files.push_back(entry.path());
    return files;
  }
  /// Whether the logits with this seed stand in any file.
  bool OnDevice(float seed) const {
    const std::vector<float> logits = Logits(seed);
    const std::string wanted(reinterpret_cast<const char*>(logits.data() + 100), 200);
    for (const auto& file : LogitsFiles()) {
      std::ifstream in(file, std::ios::binary);
      const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
      if (bytes.find(wanted) != std::string::npos) return true;
    }
    return false;
  }

  static constexpr int64_t kLogitsBytes = 4096;  // 64 rows of 16 values
};

TEST_F(KvCacheLogits, ComeBackAfterTheProcessIsKilled) {
  Open(WithLogits());
  const Tokens a = RandomTokens(200, 1), b = RandomTokens(128, 2);
  KeepWithLogits(a, 1);
  KeepWithLogits(b, 2);
  ASSERT_TRUE(cache_->Flush());
  // What another process finds when this one is gone from one moment to the next.
  const auto there = folder_, copy = std::filesystem::path(folder_.string() + "_copy");
  std::filesystem::remove_all(copy);
  std::filesystem::copy(there, copy, std::filesystem::copy_options::recursive);
  cache_.reset();
  std::filesystem::remove_all(there);
  std::filesystem::rename(copy, there);
  Open(WithLogits());
  bool from_disk = false;
  EXPECT_EQ(Find(a, &from_disk), Logits(1));
  EXPECT_TRUE(from_disk);
  EXPECT_EQ(Find(b, &from_disk), Logits(2));
  EXPECT_TRUE(from_disk);
  EXPECT_EQ(Find(a, &from_disk), Logits(1));
  EXPECT_FALSE(from_disk);  // they stay in memory
  EXPECT_TRUE(Find(Tokens(a.begin(), a.begin() + 190)).empty());
  EXPECT_TRUE(Find(a, nullptr, "somebody else").empty());
  EXPECT_EQ(cache_->stats().logits.blocks, 2);
  EXPECT_LE(cache_->stats().logits.capacity_bytes + cache_->stats().disk.capacity_bytes, WithLogits().disk_bytes);
}

TEST_F(KvCacheLogits, StayWhenTheConversationGoesOn) {
  Open(WithLogits());
  const Tokens a = RandomTokens(200, 1), longer = Join(a, RandomTokens(20, 2));
  KeepWithLogits(a, 1);
  Request(longer);  // its last block replaces the shorter one
  EXPECT_EQ(Find(a), Logits(1));
  ASSERT_TRUE(cache_->Flush());
  Open(WithLogits());
  EXPECT_EQ(Find(a), Logits(1));
  EXPECT_TRUE(Find(longer).empty());
}

TEST_F(KvCacheLogits, ThatDoNotVerifyAreAMiss) {
  Open(WithLogits());
  const Tokens a = RandomTokens(200, 1);
  KeepWithLogits(a, 1);
  ASSERT_TRUE(cache_->Flush());
  cache_.reset();
  ASSERT_EQ(LogitsFiles().size(), 1u);
  {
    std::fstream file(LogitsFiles()[0], std::ios::in | std::ios::out | std::ios::binary);
    int64_t slots = 0;  // whose headers stand before the rows
    file.seekg(56);
    file.read(reinterpret_cast<char*>(&slots), sizeof(slots));
    file.seekp(4096 + slots * 4096 + 400);
    file.put('!');
  }
  Open(WithLogits());
  EXPECT_TRUE(Find(a).empty());
  EXPECT_EQ(cache_->stats().corrupt, 1);
  EXPECT_EQ(cache_->stats().logits.blocks, 0);
  cache_->KeepLogits("", a, Logits(3));  // and heal
  ASSERT_TRUE(cache_->Flush());
  Open(WithLogits());
  EXPECT_EQ(Find(a), Logits(3));
}

TEST_F(KvCacheLogits, ADeviceThatHangsOrFailsIsAMiss) {
  FaultEnv env;
  env.faults.only = "logits";
  std::atomic<int> seconds{0};
  CacheOptions options = WithLogits();
  options.clock = [&] { return std::chrono::steady_clock::time_point(std::chrono::seconds(seconds)); };
  Open(options, env);
  const Tokens a = RandomTokens(200, 1);
  KeepWithLogits(a, 1);
  ASSERT_TRUE(cache_->Flush());
  Open(options, env);
  env.ChangeDirect([](DirectFaults& faults) { faults.hang = true; });
  const KvPrefix prefix = cache_->Acquire("", a, 200);
  ASSERT_TRUE(prefix.logits);
  EXPECT_EQ(prefix.logits->state(), KvLogits::State::kWaiting);
  seconds = 2;
  EXPECT_EQ(prefix.logits->state(), KvLogits::State::kFailed);
  env.ChangeDirect([](DirectFaults& faults) { faults.hang = false, faults.fail_reads_from = 0; });
  EXPECT_TRUE(Find(a).empty() || cache_->stats().logits.reads > 0);
  env.ChangeDirect([](DirectFaults& faults) { faults.fail_reads_from = DirectFaults::kNever; });
  EXPECT_EQ(Find(a), Logits(1));
  cache_.reset();  // before the env
}

TEST_F(KvCacheLogits, AreForgottenWithTheConversation) {
  Open(WithLogits());
  const Tokens system = RandomTokens(128, 1), secret = Join(system, RandomTokens(100, 2)),
               other = Join(system, RandomTokens(100, 3));
  KeepWithLogits(secret, 1);
  Request(Join(secret, RandomTokens(10, 4)));
  KeepWithLogits(other, 2);
  ASSERT_TRUE(cache_->Flush());
  EXPECT_TRUE(OnDevice(1));
  ASSERT_TRUE(cache_->Forget("", secret, false));
  EXPECT_FALSE(OnDevice(1));
  EXPECT_TRUE(Find(secret).empty());
  EXPECT_EQ(Find(other), Logits(2));
  ASSERT_TRUE(cache_->ForgetTenant(""));
  EXPECT_FALSE(OnDevice(2));
}

TEST_F(KvCacheLogits, OfBlocksThatAreGoneAreErasedAtOpening) {
  Open(WithLogits());
  const Tokens a = RandomTokens(200, 1);
  KeepWithLogits(a, 1);
  ASSERT_TRUE(cache_->Flush());
  cache_.reset();
  for (const auto& entry : std::filesystem::directory_iterator(folder_))
    if (entry.is_directory() && entry.path().filename() != "logits") std::filesystem::remove_all(entry.path());
  Open(WithLogits());
  EXPECT_EQ(cache_->stats().logits.blocks, 0);
}

TEST_F(KvCacheLogits, TheLeastRecentlyUsedGoWhenTheirShareIsFull) {
  Open(WithLogits(20, 100));
  for (uint32_t i = 0; i < 45; ++i) {
    KeepWithLogits(RandomTokens(70, i), static_cast<float>(i));
    ASSERT_TRUE(cache_->Flush());
    EXPECT_EQ(Find(RandomTokens(70, 0)), Logits(0));  // in use
  }
  Open(WithLogits(20, 100));
  const TierStats stats = cache_->stats().logits;
  EXPECT_GE(stats.blocks, 16);
  EXPECT_LE(stats.used_bytes, stats.capacity_bytes);
  EXPECT_EQ(Find(RandomTokens(70, 44)), Logits(44));
  EXPECT_EQ(Find(RandomTokens(70, 0)), Logits(0));
  EXPECT_TRUE(Find(RandomTokens(70, 1)).empty());
}

TEST_F(KvCacheLogits, ATenantAtItsShareDrivesOutItsOwn) {
  const auto tokens = [](int i) { return RandomTokens(64, static_cast<uint32_t>(i)); };  // of whose rows there is room
  const auto logits = [](int i) { return Logits(static_cast<float>(i)); };
  CacheOptions options = WithLogits();
  // Three sets in memory and two on disk.
  options.tenant_limits["small"] = {.memory_bytes = CacheOptions::kLogitsShare * 3 * kValues * 4,
                                    .disk_bytes = CacheOptions::kLogitsShare * 2 * (kLogitsBytes + 4096)};
  options.tenant_limits["disk only"] = {.memory_bytes = 0};
  Open(options);
  for (int i = 0; i < 5; ++i) KeepWithLogits(tokens(i), static_cast<float>(i), "large");
  for (int i = 10; i < 18; ++i) {
    KeepWithLogits(tokens(i), static_cast<float>(i), "small");
    ASSERT_TRUE(cache_->Flush());
  }
  EXPECT_EQ(cache_->stats().logits.blocks, 5 + 2);
  bool from_disk = true;
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(Find(tokens(i), &from_disk, "large"), logits(i)) << i;
    EXPECT_FALSE(from_disk);
  }
  for (int i = 15; i < 18; ++i) {
    EXPECT_EQ(Find(tokens(i), &from_disk, "small"), logits(i)) << i;
    EXPECT_FALSE(from_disk);
  }
  EXPECT_TRUE(Find(tokens(14), nullptr, "small").empty());

  Open(options);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Find(tokens(i), nullptr, "large"), logits(i)) << i;
  for (int i = 16; i < 18; ++i) {
    EXPECT_EQ(Find(tokens(i), &from_disk, "small"), logits(i)) << i;
    EXPECT_TRUE(from_disk);
  }
  EXPECT_TRUE(Find(tokens(15), nullptr, "small").empty());

  options.tenant_limits["small"].disk_bytes /= 2;
  Open(options);
  EXPECT_EQ(cache_->stats().logits.blocks, 5 + 1);
  EXPECT_EQ(Find(tokens(17), nullptr, "small"), logits(17));

  KeepWithLogits(tokens(20), 20, "disk only");
  ASSERT_TRUE(cache_->Flush());
  for (int again = 0; again < 2; ++again) {
    EXPECT_EQ(Find(tokens(20), &from_disk, "disk only"), logits(20));
    EXPECT_TRUE(from_disk);
  }
}

TEST_F(KvCacheLogits, TakeNothingOfATinyDiskAndCountInTheBudget) {
  Open(WithLogits());
  const Tokens a = RandomTokens(70, 1);
  KeepWithLogits(a, 1);
  ASSERT_TRUE(cache_->Flush());
  EXPECT_EQ(LogitsFiles().size(), 1u);
  CacheOptions tiny = WithLogits();
  tiny.disk_bytes = 32 * 8 * (kLogitsBytes + 4096);
  Open(tiny);
  EXPECT_TRUE(LogitsFiles().empty());
  EXPECT_EQ(cache_->stats().disk.capacity_bytes, tiny.disk_bytes);
  Request(a);
  EXPECT_TRUE(Find(a).empty());
  cache_->KeepLogits("", a, Logits(1));
  EXPECT_EQ(Find(a), Logits(1));  // in memory

  cache_.reset();
  std::filesystem::remove_all(folder_);
  CacheOptions frugal = WithLogits();
  frugal.daily_write_bytes = int64_t{1} << 30;
  Open(frugal);
  Request(a);
  ASSERT_TRUE(cache_->Flush());
  const int64_t before = cache_->stats().written_today;
  cache_->KeepLogits("", a, Logits(1));
  EXPECT_EQ(cache_->stats().written_today, before + kLogitsBytes + 4096);
  frugal.daily_write_bytes = 1;
  Open(frugal);
  cache_->KeepLogits("", RandomTokens(10, 9), Logits(2));  // not known: not kept
  ASSERT_TRUE(cache_->Flush());
  EXPECT_FALSE(OnDevice(2));
}

TEST_F(KvCacheLogits, AreEncryptedWhereBlocksAre) {
  std::filesystem::create_directories(folder_);
  const auto key = std::filesystem::path(folder_.string() + "_key");
  std::ofstream(key) << std::string(64, 'a');
  CacheOptions options = WithLogits();
  options.directory = (folder_ / "cache").string();
  options.key_file = key.string();
  Open(options);
  const Tokens a = RandomTokens(200, 1);
  KeepWithLogits(a, 1);
  ASSERT_TRUE(cache_->Flush());
  folder_ /= "cache";
  EXPECT_EQ(LogitsFiles().size(), 1u);
  EXPECT_FALSE(OnDevice(1));
  Open(options);
  EXPECT_EQ(Find(a), Logits(1));
  std::filesystem::remove(key);
  folder_ = folder_.parent_path();
}

}  // namespace
}  // namespace fathom
