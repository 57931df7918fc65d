// What a KV block is called: a hash chain that begins with everything the rows depend on, so that a key cannot mean two
// different things (DESIGN §2.2).
//
//   root  = XXH3-128(space digest ‖ tenant salt)
//   key_0 = XXH3-128(root ‖ tokens of block 0)        key_i = XXH3-128(key_{i-1} ‖ tokens of block i)
//
// A key finds a block; the tokens that stand in it are compared before it is used. Plain values, thread-safe.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "cache/kv_store.h"

namespace fathom {

struct BlockKey {
  uint64_t high = 0, low = 0;
  auto operator<=>(const BlockKey&) const = default;
};

/// Everything that a row's value depends on beside the tokens before it.
struct KvSpace {
  std::string model_fingerprint;  // SHA-256 over the model's tensors' names, types, shapes and sampled bytes, hex
  std::string rope;               // base, scaling and layout, as text
  KvLayout layout;                // element type, layers, values a row, groups
  int32_t layout_version = 2;     // of block contents and of the arithmetic that fills them (2: MLA in int8)

  /// XXH3-128 over all of it, each field with its length.
  BlockKey Digest() const;
};

/// `tenant`: empty for the only one; else a secret of the tenant's, so that equal prompts of two tenants never meet.
BlockKey RootKey(const KvSpace& space, std::string_view tenant);
/// REQUIRES: 1 <= tokens.size() <= 64.
BlockKey ChainKey(const BlockKey& parent, std::span<const int32_t> tokens);
/// 32 hex digits, high half first.
std::string ToHex(const BlockKey& key);

/// A block's identity, as it stands in memory and on disk.
struct BlockMeta {
  BlockKey key;
  BlockKey parent;  // of the block before it; the root for the first
  BlockKey root;
  int32_t first_position = 0;  // of its first token: a multiple of 64
  int32_t count = 0;           // tokens in it, [1, 64]; below 64 only the last of a sequence
  std::array<int32_t, KvLayout::kBlockTokens> tokens{};  // the first `count` count

  std::span<const int32_t> token_span() const { return {tokens.data(), static_cast<size_t>(count)}; }
};

}  // namespace fathom

template <>
struct std::hash<fathom::BlockKey> {
  size_t operator()(const fathom::BlockKey& key) const noexcept { return key.low; }
};
