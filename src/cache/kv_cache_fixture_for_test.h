// A cache on rows with known content, for tests of the cache manager over any tier.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "cache/kv_cache.h"
#include "io/env.h"

namespace fathom {

using Tokens = std::vector<int32_t>;

inline const KvSpace kSpace = {.model_fingerprint = "f00d",
                        .rope = "base 10000",
                        .layout = {.dtype = DType::kBF16, .layers = 5, .row_values = 40}};

inline Tokens RandomTokens(size_t count, uint32_t seed, int32_t vocabulary = 1000) {
  std::mt19937 random(seed);
  Tokens tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % static_cast<uint32_t>(vocabulary));
  return tokens;
}

inline Tokens Join(Tokens a, const Tokens& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// What a row must hold: something that depends on all tokens up to it, as keys and values do.
inline void FillRow(std::span<const int32_t> tokens, int64_t layer, int64_t position, std::byte* row) {
  uint64_t hash = 1469598103934665603u + static_cast<uint64_t>(layer);
  for (int64_t i = 0; i <= position; ++i) hash = (hash ^ static_cast<uint64_t>(tokens[static_cast<size_t>(i)])) * 1099511628211u;
  for (int64_t i = 0; i < kSpace.layout.row_bytes(); i += 8, hash *= 0x9E3779B97F4A7C15u)
    std::memcpy(row + i, &hash, 8);
}

/// Writes rows [sequence.length(), tokens.size()), as a model would.
inline void Compute(KvSequence& sequence, std::span<const int32_t> tokens) {
  ASSERT_TRUE(sequence.Reserve(static_cast<int64_t>(tokens.size())));
  for (int64_t p = sequence.length(); p < static_cast<int64_t>(tokens.size()); ++p)
    for (int64_t layer = 0; layer < kSpace.layout.layers; ++layer) FillRow(tokens, layer, p, sequence.Row(layer, p));
  sequence.SetLength(static_cast<int64_t>(tokens.size()));
}

inline bool RowsAreRight(KvSequence& sequence, std::span<const int32_t> tokens) {
  std::vector<std::byte> expected(static_cast<size_t>(kSpace.layout.row_bytes()));
  for (int64_t p = 0; p < sequence.length(); ++p)
    for (int64_t layer = 0; layer < kSpace.layout.layers; ++layer) {
      FillRow(tokens, layer, p, expected.data());
      if (std::memcmp(expected.data(), sequence.Row(layer, p), expected.size()) != 0) return false;
    }
  return true;
}

inline bool Eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 1000 && !condition(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return condition();
}

class KvCacheTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::temp_directory_path() /
              fmt::format("fathom_kv_{:08x}_{}", std::hash<std::string>()(info->name()), static_cast<long>(getpid()));
    std::filesystem::remove_all(folder_);
  }
  void TearDown() override {
    cache_.reset();
    pool_.reset();
    std::error_code late;  // a device that hung may write still
    std::filesystem::remove_all(folder_, late);
  }

  CacheOptions OnDisk(int64_t blocks = 1000) const {
    CacheOptions options;
    options.directory = folder_.string();
    options.disk_bytes = blocks * (kSpace.layout.block_bytes() + 4096);
    return options;
  }
  void Open(CacheOptions options, Env& env = Env::Default()) {
    cache_.reset();
    // However slow this machine is just now, what is on the disk is waited for: computing is dear, and no time passes.
    // Where the device is at fault on purpose a test would wait for it in vain.
    const bool sound = &env == &Env::Default();
    if (sound && !options.clock) options.clock = [] { return std::chrono::steady_clock::time_point(); };
    pool_ = std::make_unique<KvPool>(kSpace.layout, options.memory_bytes);
    auto cache = KvCache::Create(env, kSpace, *pool_, options);
    ASSERT_TRUE(cache) << cache.error().message;
    cache_ = std::move(*cache);
    if (sound) cache_->SetRates({.seconds_per_token = 1});
  }
  /// What the invariant checker says; empty: nothing.
  std::string Trouble() const {
    const Status status = cache_->Check();
    return status ? "" : status.error().message;
  }
  /// A request from beginning to end: what was known of `tokens`, and everything is kept. Checks every row.
  int64_t Request(const Tokens& tokens, std::string_view tenant = "", bool tail = true) {
    KvSequence sequence(*pool_);
    const KvPrefix prefix = cache_->Acquire(tenant, tokens, static_cast<int64_t>(tokens.size()) - 1);
    int64_t known = prefix.tokens;
    if (prefix.load) {
      for (int64_t layer = 0; layer < kSpace.layout.layers; ++layer) prefix.load->WaitLayer(layer);
      known = prefix.load->valid_tokens();
    }
    sequence.Adopt(prefix.blocks, known);
    EXPECT_TRUE(RowsAreRight(sequence, tokens)) << prefix.reason;
    Compute(sequence, tokens);
    EXPECT_TRUE(RowsAreRight(sequence, tokens));
    // As an engine does: block by block while it computes, and all of it at the end.
    KeepCursor cursor;
    for (size_t end = 64; end < tokens.size(); end += 64)
      cache_->Keep(tenant, std::span(tokens).first(end), sequence.blocks().first(end / 64), false, &cursor);
    cache_->Keep(tenant, tokens, sequence.blocks(), tail, nullptr);
    EXPECT_EQ(Trouble(), "");
    return known;
  }

  std::filesystem::path folder_;
  std::unique_ptr<KvPool> pool_;
  std::unique_ptr<KvCache> cache_;
};

}  // namespace fathom
