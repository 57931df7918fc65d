#include "cache/prefix_index.h"

#include <algorithm>
#include <cassert>
#include <iterator>

namespace fathom {
namespace {

constexpr int64_t kBlock = KvLayout::kBlockTokens;

int64_t CommonBeginning(std::span<const int32_t> a, std::span<const int32_t> b) {
  const size_t most = std::min(a.size(), b.size());
  return std::mismatch(a.begin(), a.begin() + most, b.begin()).first - a.begin();
}

}  // namespace

bool PrefixIndex::TokensLess::operator()(std::span<const int32_t> a, std::span<const int32_t> b) const {
  return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
}

PrefixIndex::~PrefixIndex() {
  // Node by node: a conversation of a million tokens is a chain of 16,000 nodes, too deep for nested destructors.
  std::vector<Children> waiting;
  for (auto& [root, children] : roots_) waiting.push_back(std::move(children));
  while (!waiting.empty()) {
    Children children = std::move(waiting.back());
    waiting.pop_back();
    for (auto& [tokens, node] : children) {
      if (!node->children.empty()) waiting.push_back(std::move(node->children));
    }
  }
}

const PrefixIndex::Children* PrefixIndex::ChildrenOf(const BlockKey& root, const Node* parent) const {
  if (parent != nullptr) return &parent->children;
  const auto it = roots_.find(root);
  return it == roots_.end() ? nullptr : &it->second;
}

PrefixIndex::Match PrefixIndex::Find(const BlockKey& root, std::span<const int32_t> tokens,
                                     const std::function<bool(const Node&)>& usable) const {
  Match match;
  const Children* children = ChildrenOf(root, nullptr);
  while (children != nullptr && !tokens.empty()) {
    const auto wanted = tokens.first(std::min<size_t>(tokens.size(), kBlock));
    // The children stand in order, so agreement with `wanted` only falls with the distance from where it would stand:
    // in each direction the first usable one is the best.
    Node* best = nullptr;
    int64_t agreed = 0;
    const auto middle = children->lower_bound(wanted);
    auto consider = [&](Node* node) {
      const int64_t common = CommonBeginning(node->meta.token_span(), wanted);
      if (common <= agreed) return true;
      if (usable && !usable(*node)) return false;
      best = node, agreed = common;
      return true;
    };
    for (auto it = middle; it != children->end() && !consider(it->second.get()); ++it) {
    }
    for (auto it = std::make_reverse_iterator(middle); it != children->rend() && !consider(it->second.get()); ++it) {
    }
    if (best == nullptr) break;
    match.nodes.push_back(best);
    match.tokens += agreed;
    if (agreed < kBlock) break;
    tokens = tokens.subspan(kBlock);
    children = &best->children;
  }
  return match;
}

std::pair<PrefixIndex::Node*, bool> PrefixIndex::Insert(const BlockKey& root, Node* parent,
                                                        std::span<const int32_t> tokens) {
  assert(!tokens.empty() && static_cast<int64_t>(tokens.size()) <= kBlock);
  assert(parent == nullptr || (parent->meta.count == kBlock && parent->meta.root == root));
  if (const Children* children = ChildrenOf(root, parent)) {
    if (const auto it = children->find(tokens); it != children->end()) return {it->second.get(), false};
  }
  const BlockKey parent_key = parent != nullptr ? parent->meta.key : root;
  const BlockKey key = ChainKey(parent_key, tokens);
  if (key.low == 0) return {nullptr, false};  // not an id
  // The hash of the map is the id, so a block of the same id would stand in the same bucket.
  const size_t bucket = by_key_.bucket_count() > 0 ? by_key_.bucket(key) : 0;
  for (auto it = by_key_.begin(bucket); by_key_.bucket_count() > 0 && it != by_key_.end(bucket); ++it) {
    if (it->first.low == key.low) return {nullptr, false};
  }
  auto node = std::make_unique<Node>();
  node->meta = {.key = key,
                .parent = parent_key,
                .root = root,
                .first_position = parent != nullptr ? parent->meta.first_position + static_cast<int32_t>(kBlock) : 0,
                .count = static_cast<int32_t>(tokens.size())};
  std::ranges::copy(tokens, node->meta.tokens.begin());
  node->parent = parent;
  node->id = key.low;
  Node* made = by_key_[key] = node.get();
  Children& children = parent != nullptr ? parent->children : roots_[root];
  children.emplace(made->meta.token_span(), std::move(node));
  return {made, true};
}

std::vector<PrefixIndex::Node*> PrefixIndex::Superseded(const Node& node) const {
  std::vector<Node*> shorter;
  const Children* children = ChildrenOf(node.meta.root, node.parent);
  // A proper beginning sorts before what it begins, but other siblings may stand between: each is looked up.
  for (int32_t count = 1; children != nullptr && count < node.meta.count; ++count) {
    const auto it = children->find(node.meta.token_span().first(count));
    if (it != children->end()) shorter.push_back(it->second.get());
  }
  return shorter;
}

void PrefixIndex::Erase(Node* node) {
  assert(node->children.empty());
  by_key_.erase(node->meta.key);
  if (node->parent != nullptr) {
    node->parent->children.erase(node->parent->children.find(node->meta.token_span()));
    return;
  }
  const auto root = roots_.find(node->meta.root);
  root->second.erase(root->second.find(node->meta.token_span()));
  if (root->second.empty()) roots_.erase(root);
}

PrefixIndex::Node* PrefixIndex::FindKey(const BlockKey& key) const {
  const auto it = by_key_.find(key);
  return it == by_key_.end() ? nullptr : it->second;
}

void PrefixIndex::ForEach(const std::function<void(Node&)>& fn) const {
  std::vector<Node*> waiting;
  for (const auto& [root, children] : roots_) {
    for (const auto& [tokens, node] : children) waiting.push_back(node.get());
  }
  while (!waiting.empty()) {
    Node* node = waiting.back();
    waiting.pop_back();
    fn(*node);
    for (const auto& [tokens, child] : node->children) waiting.push_back(child.get());
  }
}

Status PrefixIndex::Check() const {
  struct Level {
    BlockKey root;
    const Node* parent;
    const Children* children;
  };
  std::vector<Level> waiting;
  for (const auto& [root, children] : roots_) {
    if (children.empty()) return Fail(ErrorCode::kInternal, "prefix index: root {} has no nodes", ToHex(root));
    waiting.push_back({root, nullptr, &children});
  }
  size_t seen = 0;
  while (!waiting.empty()) {
    const Level level = waiting.back();
    waiting.pop_back();
    const BlockKey parent_key = level.parent != nullptr ? level.parent->meta.key : level.root;
    const int32_t position = level.parent != nullptr ? level.parent->meta.first_position + 64 : 0;
    for (const auto& [tokens, node] : *level.children) {
      const BlockMeta& meta = node->meta;
      auto wrong = [&](std::string_view what) {
        return Fail(ErrorCode::kInternal, "prefix index: node {} (position {}): {}", ToHex(meta.key),
                    meta.first_position, what);
      };
      ++seen;
      if (meta.count < 1 || meta.count > kBlock) return wrong("its count is out of range");
      if (tokens.data() != meta.tokens.data() || tokens.size() != static_cast<size_t>(meta.count))
        return wrong("its parent knows it by other tokens");
      if (meta.root != level.root || meta.parent != parent_key || node->parent != level.parent)
        return wrong("it stands under another parent than it says");
      if (meta.first_position != position) return wrong("its position does not follow its parent's");
      if (meta.key != ChainKey(parent_key, meta.token_span())) return wrong("its key is not the chain's");
      const auto it = by_key_.find(meta.key);
      if (it == by_key_.end() || it->second != node.get()) return wrong("its key does not find it");
      if (node->id != meta.key.low) return wrong("its id is not its key's");
      if (!node->children.empty() && meta.count != kBlock) return wrong("it is short and has children");
      if (!node->children.empty()) waiting.push_back({level.root, node.get(), &node->children});
    }
  }
  if (seen != by_key_.size())
    return Fail(ErrorCode::kInternal, "prefix index: {} nodes in the tree, {} by key", seen, by_key_.size());
  return {};
}

}  // namespace fathom
