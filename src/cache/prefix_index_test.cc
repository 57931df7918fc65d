#include "cache/prefix_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <set>

namespace fathom {
namespace {

using Tokens = std::vector<int32_t>;

Tokens Iota(size_t count, int32_t first = 0) {
  Tokens tokens(count);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

Tokens operator+(Tokens a, const Tokens& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

const BlockKey kRoot{1, 2};

/// Inserts all blocks of a sequence; the last node.
PrefixIndex::Node* Keep(PrefixIndex& index, const BlockKey& root, std::span<const int32_t> tokens) {
  PrefixIndex::Node* node = nullptr;
  for (; !tokens.empty(); tokens = tokens.subspan(std::min<size_t>(64, tokens.size())))
    node = index.Insert(root, node, tokens.first(std::min<size_t>(64, tokens.size()))).first;
  return node;
}

TEST(PrefixIndex, FindsWholeBlocksAndEndsInsideOne) {
  PrefixIndex index;
  EXPECT_EQ(index.Find(kRoot, Iota(100)).tokens, 0);
  Keep(index, kRoot, Iota(200));
  EXPECT_EQ(index.size(), 4u);
  ASSERT_TRUE(index.Check()) << index.Check().error().message;
  auto match = index.Find(kRoot, Iota(300));
  EXPECT_EQ(match.tokens, 200);
  EXPECT_EQ(match.nodes.size(), 4u);
  EXPECT_EQ(index.Find(kRoot, Iota(130)).tokens, 130);
  EXPECT_EQ(index.Find(kRoot, Iota(128)).nodes.size(), 2u);
  EXPECT_EQ(index.Find(kRoot, Iota(100) + Iota(60, 5000)).tokens, 100);
  EXPECT_EQ(index.Find(kRoot, Tokens{1}).tokens, 0);
  EXPECT_EQ(index.Find(kRoot, {}).tokens, 0);
  EXPECT_EQ(index.Find(BlockKey{9, 9}, Iota(100)).tokens, 0);
  for (size_t i = 0; i < match.nodes.size(); ++i) {
    EXPECT_EQ(match.nodes[i]->meta.first_position, static_cast<int32_t>(64 * i));
    EXPECT_EQ(match.nodes[i]->parent, i == 0 ? nullptr : match.nodes[i - 1]);
    EXPECT_EQ(index.FindKey(match.nodes[i]->meta.key), match.nodes[i]);
  }
}

TEST(PrefixIndex, InsertTwiceIsOneNode) {
  PrefixIndex index;
  auto [a, made] = index.Insert(kRoot, nullptr, Iota(64));
  EXPECT_TRUE(made);
  EXPECT_EQ(index.Insert(kRoot, nullptr, Iota(64)), std::make_pair(a, false));
  auto [other, made_other] = index.Insert(BlockKey{7, 7}, nullptr, Iota(64));
  EXPECT_TRUE(made_other);
  EXPECT_NE(other->meta.key, a->meta.key);
  EXPECT_NE(other->id, a->id);
}

TEST(PrefixIndex, UnusableNodesAreAsIfNotThere) {
  PrefixIndex index;
  Keep(index, kRoot, Iota(200));
  PrefixIndex::Node* other = Keep(index, kRoot, Iota(90) + Iota(30, 700));  // shares 26 tokens of the second block
  auto without_full = [](const PrefixIndex::Node& n) { return n.meta.first_position != 64 || n.meta.count < 64; };
  auto match = index.Find(kRoot, Iota(200), without_full);
  EXPECT_EQ(match.tokens, 90);
  EXPECT_EQ(match.nodes.back(), other);
  EXPECT_EQ(index.Find(kRoot, Iota(200), [](const auto&) { return false; }).tokens, 0);
  // The nearest neighbours on both sides are unusable: those behind them count.
  PrefixIndex wide;
  for (int32_t i = 0; i < 20; ++i) wide.Insert(kRoot, nullptr, Tokens{5, 6, i});
  wide.Insert(kRoot, nullptr, Tokens{5, 7});
  auto far_only = [](const PrefixIndex::Node& n) { return n.meta.tokens[2] == 19 || n.meta.count == 2; };
  EXPECT_EQ(wide.Find(kRoot, Tokens{5, 6, 3}, far_only).tokens, 2);
  EXPECT_EQ(wide.Find(kRoot, Tokens{5, 6, 3}, far_only).nodes[0]->meta.tokens[2], 19);
  EXPECT_EQ(wide.Find(kRoot, Tokens{5, 6, 3}, [](const auto& n) { return n.meta.count == 2; }).tokens, 1);
}

TEST(PrefixIndex, SupersededAreShorterBeginnings) {
  PrefixIndex index;
  auto* ten = index.Insert(kRoot, nullptr, Iota(10)).first;
  auto* twenty = index.Insert(kRoot, nullptr, Iota(20)).first;
  auto* between = index.Insert(kRoot, nullptr, Iota(10) + Tokens{3}).first;
  auto* full = index.Insert(kRoot, nullptr, Iota(64)).first;
  EXPECT_EQ(index.Superseded(*full), (std::vector{ten, twenty}));
  EXPECT_EQ(index.Superseded(*twenty), std::vector{ten});
  EXPECT_EQ(index.Superseded(*between), std::vector{ten});
  EXPECT_TRUE(index.Superseded(*ten).empty());
  // A wish for exactly what a short node holds gets that node.
  EXPECT_EQ(index.Find(kRoot, Iota(10)).nodes[0], ten);
  index.Erase(ten);
  EXPECT_TRUE(index.Superseded(*twenty).empty());
  EXPECT_EQ(index.Find(kRoot, Iota(10)).tokens, 10);
  EXPECT_TRUE(index.Check());
}

TEST(PrefixIndex, CheckFindsDamage) {
  PrefixIndex index;
  PrefixIndex::Node* last = Keep(index, kRoot, Iota(200));
  ASSERT_TRUE(index.Check());
  auto broken = [&](auto& field, auto value) {
    std::swap(field, value);
    const bool noticed = !index.Check();
    std::swap(field, value);
    return noticed && index.Check();
  };
  EXPECT_TRUE(broken(last->meta.tokens[3], -1));
  EXPECT_TRUE(broken(last->meta.key.low, uint64_t{5}));
  EXPECT_TRUE(broken(last->meta.parent.low, uint64_t{5}));
  EXPECT_TRUE(broken(last->meta.root.high, uint64_t{5}));
  EXPECT_TRUE(broken(last->meta.count, int32_t{7}));
  EXPECT_TRUE(broken(last->meta.first_position, int32_t{64}));
  EXPECT_TRUE(broken(last->parent->meta.count, int32_t{63}));
  EXPECT_TRUE(broken(last->parent, static_cast<PrefixIndex::Node*>(nullptr)));
  EXPECT_TRUE(broken(last->id, uint64_t{99}));
}

TEST(PrefixIndex, VeryLongConversationsComeAndGo) {
  PrefixIndex index;
  const Tokens million = Iota(4 << 20);  // 65,536 nodes deep
  Keep(index, kRoot, million);
  EXPECT_EQ(index.Find(kRoot, million).tokens, static_cast<int64_t>(million.size()));
  size_t seen = 0;
  index.ForEach([&](const PrefixIndex::Node&) { ++seen; });
  EXPECT_EQ(seen, million.size() / 64);
  EXPECT_TRUE(index.Check());
}  // and the destructor does not overflow the stack

// Against a list of all sequences ever kept and not erased, over a small alphabet so that everything meets everything.
TEST(PrefixIndex, AgreesWithANaiveList) {
  std::mt19937 random(20261123);
  auto below = [&](size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random); };
  for (int round = 0; round < 20; ++round) {
    PrefixIndex index;
    const std::array roots = {BlockKey{1, 1}, BlockKey{1, 2}};
    // Naive twin: what every live node spells from the root.
    std::map<uint64_t, std::pair<BlockKey, Tokens>> live;
    std::map<uint64_t, PrefixIndex::Node*> nodes;
    std::vector<Tokens> pool;
    auto sequence = [&] {
      Tokens tokens;
      if (!pool.empty() && below(4) != 0) {
        tokens = pool[below(pool.size())];
        tokens.resize(below(tokens.size() + 1));
      }
      const size_t more = below(150);
      for (size_t i = 0; i < more; ++i) tokens.push_back(static_cast<int32_t>(below(100) < 95 ? 0 : below(3)));
      return tokens;
    };
    for (int step = 0; step < 150; ++step) {
      const BlockKey root = roots[below(2)];
      const Tokens tokens = sequence();
      if (below(3) != 0 && !tokens.empty()) {
        pool.push_back(tokens);
        PrefixIndex::Node* node = nullptr;
        for (size_t at = 0; at < tokens.size(); at += 64) {
          const auto block = std::span(tokens).subspan(at, std::min<size_t>(64, tokens.size() - at));
          const auto [next, made] = index.Insert(root, node, block);
          ASSERT_NE(next, nullptr);
          ASSERT_EQ(made, !live.contains(next->id));
          live[next->id] = {root, Tokens(tokens.begin(), tokens.begin() + at + block.size())};
          nodes[next->id] = node = next;
        }
      } else if (!live.empty() && below(2) == 0) {
        auto victim = nodes.begin();
        std::advance(victim, below(nodes.size()));
        if (victim->second->children.empty()) {
          live.erase(victim->first);
          index.Erase(victim->second);
          nodes.erase(victim);
        }
      }
      const Tokens wanted = sequence();
      // usable: a node whose id has some bit; a path is usable as far as every node of it is.
      const uint64_t mask = below(3) == 0 ? 0 : uint64_t{1} << below(4);
      auto usable = [&](const PrefixIndex::Node& node) { return mask == 0 || (node.id & mask) == 0; };
      int64_t best = 0;
      for (const auto& [id, entry] : live) {
        if (entry.first != root) continue;
        bool whole = true;
        for (const auto* n = nodes[id]; n != nullptr; n = n->parent) whole &= usable(*n);
        if (!whole) continue;
        const Tokens& held = entry.second;
        const size_t most = std::min(held.size(), wanted.size());
        best = std::max<int64_t>(
            best, std::mismatch(held.begin(), held.begin() + most, wanted.begin()).first - held.begin());
      }
      const auto match = index.Find(root, wanted, usable);
      ASSERT_EQ(match.tokens, best);
      int64_t covered = 0;
      for (size_t i = 0; i < match.nodes.size(); ++i) {
        ASSERT_TRUE(usable(*match.nodes[i]));
        ASSERT_EQ(match.nodes[i]->parent, i == 0 ? nullptr : match.nodes[i - 1]);
        covered += match.nodes[i]->meta.count;
      }
      ASSERT_GE(covered, match.tokens);
      ASSERT_LE(static_cast<int64_t>(match.nodes.size()), (match.tokens + 63) / 64);
      ASSERT_EQ(index.size(), live.size());
      const auto check = index.Check();
      ASSERT_TRUE(check) << check.error().message;
    }
    std::set<uint64_t> visited;
    index.ForEach([&](PrefixIndex::Node& node) {
      EXPECT_TRUE(node.parent == nullptr || visited.contains(node.parent->id));
      visited.insert(node.id);
    });
    EXPECT_EQ(visited.size(), live.size());
  }
}

}  // namespace
}  // namespace fathom
