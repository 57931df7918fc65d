#include "cache/block_key.h"

#include <bit>
#include <cassert>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/result.h"
#include "tensor/dtype.h"

namespace fathom {
namespace {

static_assert(std::endian::native == std::endian::little, "tokens and lengths are hashed as they stand in memory");

BlockKey FromXxh(const XXH128_hash_t& hash) { return {hash.high64, hash.low64}; }

void AppendNumber(std::string& bytes, int64_t value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void AppendText(std::string& bytes, std::string_view text) {
  AppendNumber(bytes, static_cast<int64_t>(text.size()));
  bytes.append(text);
}

/// The canonical form of an XXH128: 16 bytes, high half first, big-endian.
XXH128_canonical_t Canonical(const BlockKey& key) {
  XXH128_canonical_t bytes;
  XXH128_canonicalFromHash(&bytes, XXH128_hash_t{key.low, key.high});
  return bytes;
}

}  // namespace

BlockKey KvSpace::Digest() const {
  std::string bytes;
  AppendText(bytes, model_fingerprint);
  AppendText(bytes, rope);
  AppendText(bytes, DTypeName(layout.dtype));
  AppendNumber(bytes, layout.layers);
  AppendNumber(bytes, layout.row_values);
  AppendNumber(bytes, KvLayout::kBlockTokens);
  AppendNumber(bytes, layout_version);
  if (layout.row().packed()) {  // other spaces keep the digests they had before there were such rows
    AppendNumber(bytes, layout.row_tail);
    AppendNumber(bytes, layout.row_group);
  }
  return FromXxh(XXH3_128bits(bytes.data(), bytes.size()));
}

BlockKey RootKey(const KvSpace& space, std::string_view tenant) {
  const XXH128_canonical_t digest = Canonical(space.Digest());
  std::string bytes(reinterpret_cast<const char*>(digest.digest), sizeof(digest.digest));
  bytes.append(tenant);
  return FromXxh(XXH3_128bits(bytes.data(), bytes.size()));
}

BlockKey ChainKey(const BlockKey& parent, std::span<const int32_t> tokens) {
  assert(!tokens.empty() && tokens.size() <= KvLayout::kBlockTokens);
  const XXH128_canonical_t head = Canonical(parent);
  std::array<std::byte, sizeof(head.digest) + KvLayout::kBlockTokens * sizeof(int32_t)> bytes;
  std::memcpy(bytes.data(), head.digest, sizeof(head.digest));
  std::memcpy(bytes.data() + sizeof(head.digest), tokens.data(), tokens.size_bytes());
  return FromXxh(XXH3_128bits(bytes.data(), sizeof(head.digest) + tokens.size_bytes()));
}

std::string ToHex(const BlockKey& key) { return fmt::format("{:016x}{:016x}", key.high, key.low); }

}  // namespace fathom
