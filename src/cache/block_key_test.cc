#include "cache/block_key.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>
#include <vector>

namespace fathom {
namespace {

KvSpace Space() {
  return {.model_fingerprint = "00ff",
          .rope = "theta=10000",
          .layout = {.dtype = DType::kBF16, .layers = 27, .row_values = 576},
          .layout_version = 1};
}

std::vector<int32_t> Tokens(size_t count, int32_t first = 0) {
  std::vector<int32_t> tokens(count);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

TEST(BlockKey, EveryFieldOfTheSpaceMatters) {
  std::set<std::string> seen;
  std::vector<KvSpace> spaces(1, Space());
  auto add = [&](auto change) { change(spaces.emplace_back(Space())); };
  add([](KvSpace& s) { s.model_fingerprint = "00fe"; });
  add([](KvSpace& s) { s.rope = "theta=10001"; });
  add([](KvSpace& s) { s.layout.dtype = DType::kF16; });
  add([](KvSpace& s) { s.layout.layers = 28; });
  add([](KvSpace& s) { s.layout.row_values = 577; });
  add([](KvSpace& s) { s.layout_version = 2; });
  add([](KvSpace& s) { s.layout.dtype = DType::kI8, s.layout.row_tail = 64, s.layout.row_group = 128; });
  add([](KvSpace& s) { s.layout.dtype = DType::kF8_E4M3, s.layout.row_tail = 64, s.layout.row_group = 128; });
  add([](KvSpace& s) { s.layout.dtype = DType::kF8_E4M3, s.layout.row_tail = 64, s.layout.row_group = 64; });
  add([](KvSpace& s) { s.layout.dtype = DType::kF8_E4M3, s.layout.row_tail = 0, s.layout.row_group = 128; });
  add([](KvSpace& s) { s.model_fingerprint += s.rope, s.rope.clear(); });  // the same bytes, divided elsewhere
  for (const KvSpace& space : spaces) seen.insert(ToHex(space.Digest()));
  EXPECT_EQ(seen.size(), spaces.size());
  EXPECT_EQ(Space().Digest(), Space().Digest());
}

TEST(BlockKey, TenantsNeverMeet) {
  const std::vector<int32_t> tokens = Tokens(64);
  const BlockKey nobody = RootKey(Space(), ""), a = RootKey(Space(), "a"), b = RootKey(Space(), "b");
  EXPECT_NE(nobody, a);
  EXPECT_NE(a, b);
  EXPECT_NE(ChainKey(a, tokens), ChainKey(b, tokens));
  KvSpace other = Space();
  other.rope = "";
  EXPECT_NE(RootKey(other, "a"), a);
}

TEST(BlockKey, ChainDependsOnParentTokensOrderAndCount) {
  const BlockKey root = RootKey(Space(), "");
  const std::vector<int32_t> tokens = Tokens(64);
  std::set<std::string> seen;
  for (size_t count = 1; count <= 64; ++count) seen.insert(ToHex(ChainKey(root, std::span(tokens).first(count))));
  EXPECT_EQ(seen.size(), 64u);
  for (size_t i = 0; i < 64; ++i) {
    auto changed = tokens;
    changed[i] ^= 1 << 30;
    seen.insert(ToHex(ChainKey(root, changed)));
  }
  auto swapped = tokens;
  std::swap(swapped[0], swapped[63]);
  seen.insert(ToHex(ChainKey(root, swapped)));
  seen.insert(ToHex(ChainKey(ChainKey(root, tokens), tokens)));
  EXPECT_EQ(seen.size(), 64u + 64 + 2);
}

// Keys stand in files (docs/formats/kv-segment.md): these values must never change. Reproduce with
//   printf '<bytes>' | xxh128sum      (or xxhash.xxh3_128 in Python)
TEST(BlockKey, ValuesAreStable) {
  KvSpace empty;
  empty.layout = {.dtype = DType::kF32, .layers = 0, .row_values = 0};
  empty.layout_version = 1;
  const BlockKey root = RootKey(empty, "tenant");
  EXPECT_EQ(ToHex(empty.Digest()), "de4f454e87ba0d3bef282ffbf0f6f2f7");
  EXPECT_EQ(ToHex(root), "72e2fe5293ef1bda4032a39a9210f653");
  EXPECT_EQ(ToHex(ChainKey(root, Tokens(1, 7))), "9c84763066094026b292fde571da806a");
  EXPECT_EQ(ToHex(ChainKey(root, Tokens(64, 100000))), "30d850681ae138f0ad8d3978e600edf3");
  empty.layout_version = 2;
  EXPECT_EQ(ToHex(empty.Digest()), "b1505d2ceaddbe07d1c874edab1d7ad4");
  EXPECT_EQ(ToHex(RootKey(empty, "tenant")), "491ab0728a465237256ffc0f9d13c5c0");
}

TEST(BlockKey, HexHasHighHalfFirst) {
  EXPECT_EQ(ToHex(BlockKey{0x0123456789abcdef, 0x42}), "0123456789abcdef0000000000000042");
}

}  // namespace
}  // namespace fathom
