// Blocks with known content and calls that wait, for tests of tiers.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cache/ssd_tier.h"
#include "io/async_io.h"
#include "io/env.h"
#include "io/temp_folder_for_test.h"

namespace fathom {

inline KvSpace SpaceForTest(std::string model = "model", int64_t layers = 3, int64_t row_values = 100) {
  return {.model_fingerprint = std::move(model),
          .rope = "rope",
          .layout = {.dtype = DType::kBF16, .layers = layers, .row_values = row_values}};
}

/// The block number `seed` of a world where every block is known by its number.
inline BlockMeta MetaForTest(uint64_t seed, int32_t count = 64) {
  BlockMeta meta;
  meta.key = {0x1111, seed};
  meta.parent = {0x2222, seed};
  meta.root = {0x3333, 7};
  meta.first_position = static_cast<int32_t>(seed % 1000 * 64);
  meta.count = count;
  for (int32_t i = 0; i < count; ++i) meta.tokens[static_cast<size_t>(i)] = static_cast<int32_t>(seed * 100 + i);
  if (count < 64) meta.key.high += static_cast<uint64_t>(count) << 32;
  return meta;
}

inline bool SameMeta(const BlockMeta& a, const BlockMeta& b) {
  return a.key == b.key && a.parent == b.parent && a.root == b.root && a.first_position == b.first_position &&
         a.count == b.count && a.tokens == b.tokens;
}

/// Rows [0, count) of every layer, from the seed; the others `rest`.
inline void FillForTest(KvBlock& block, const KvLayout& layout, uint64_t seed, int32_t count = 64,
                        std::byte rest = std::byte{0xEE}) {
  for (int64_t layer = 0; layer < layout.layers; ++layer) {
    std::byte* bytes = block.layer(layer);
    std::memset(bytes, static_cast<int>(rest), static_cast<size_t>(layout.layer_bytes()));
    for (int64_t i = 0; i < count * layout.row_bytes(); i += 8) {
      uint64_t word = (seed * 1000003 + static_cast<uint64_t>(layer)) * 0x9E3779B97F4A7C15u + static_cast<uint64_t>(i);
      word ^= word >> 29;
      word *= 0xBF58476D1CE4E5B9u;
      std::memcpy(bytes + i, &word, 8);
    }
  }
}

inline bool HoldsForTest(const KvBlock& block, const KvLayout& layout, uint64_t seed, int32_t count = 64) {
  KvPool pool(layout);
  auto expected = pool.Take();
  if (!expected) return false;
  FillForTest(**expected, layout, seed, count);
  for (int64_t layer = 0; layer < layout.layers; ++layer) {
    const auto bytes = static_cast<size_t>(count * layout.row_bytes());
    if (std::memcmp(block.layer(layer), (*expected)->layer(layer), bytes) != 0) return false;
  }
  return true;
}

/// A tier with what it needs, and calls that wait.
class TierForTest {
 public:
  TierForTest(Env& env, AsyncIo& io, const KvSpace& space) : env_(env), io_(io), space_(space), pool_(space.layout) {}

  Status Open(const SsdTierOptions& options) {
    tier_.reset();
    found.clear();
    auto tier = SsdTier::Open(env_, io_, space_, options, [this](const StoredBlock& block) { found.push_back(block); });
    if (!tier) return std::unexpected(tier.error());
    tier_ = std::move(*tier);
    return {};
  }
  void Close() { tier_.reset(); }
  SsdTier& operator*() { return *tier_; }
  SsdTier* operator->() { return tier_.get(); }

  KvBlockRef Block(uint64_t seed, int32_t count = 64) {
    auto block = pool_.Take();
    EXPECT_TRUE(block);
    FillForTest(**block, space_.layout, seed, count);
    return *block;
  }
  std::future<Result<TierHandle>> PutLater(uint64_t seed, int32_t count = 64) {
    auto promise = std::make_shared<std::promise<Result<TierHandle>>>();
    auto future = promise->get_future();
    tier_->Put(MetaForTest(seed, count), Block(seed, count),
               [promise](Result<TierHandle> handle) { promise->set_value(std::move(handle)); });
    return future;
  }
  Result<TierHandle> Put(uint64_t seed, int32_t count = 64) { return PutLater(seed, count).get(); }

  std::future<Status> GetLater(TierHandle handle, const BlockMeta& meta, KvBlockRef into, int64_t first_layer,
                               int64_t layers) {
    auto promise = std::make_shared<std::promise<Status>>();
    auto future = promise->get_future();
    std::vector<TierRead> reads;
    reads.push_back({handle, meta, std::move(into), first_layer, layers,
                     [promise](Status status) { promise->set_value(std::move(status)); }});
    tier_->Get(std::move(reads), IoPriority::kDemand);
    return future;
  }
  /// Reads it and compares: an error, or whether it is what was put.
  Result<bool> Get(TierHandle handle, uint64_t seed, int32_t count = 64) {
    FATHOM_TRY(auto into, pool_.Take());
    std::memset(into->data(), 0xAB, static_cast<size_t>(space_.layout.block_bytes()));
    auto status = GetLater(handle, MetaForTest(seed, count), into, 0, space_.layout.layers).get();
    if (!status) return std::unexpected(status.error());
    return HoldsForTest(*into, space_.layout, seed, count);
  }
  KvPool& pool() { return pool_; }

  std::vector<StoredBlock> found;  // at the last opening

 private:
  Env& env_;
  AsyncIo& io_;
  KvSpace space_;
  KvPool pool_;
  std::unique_ptr<SsdTier> tier_;
};

}  // namespace fathom
