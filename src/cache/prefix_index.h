// Which prefixes are known: a radix tree whose edges are blocks of 64 tokens, one root a tenant.
//
// The last block of a sequence may hold fewer than 64 tokens; such a node has no children. A lookup compares tokens,
// not hashes, and may end inside a block. Nodes are owned by the index and stay put until erased; `payload` is the
// owner's. Not thread-safe. Finding costs O(blocks * log(siblings)) as long as `usable` refuses few.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.h"
#include "cache/block_key.h"

namespace fathom {

class PrefixIndex {
 public:
  struct Node;
  /// Lexicographic by tokens, so that the child with the longest common beginning is a neighbour of where the wanted
  /// tokens would stand.
  struct TokensLess {
    using is_transparent = void;
    bool operator()(std::span<const int32_t> a, std::span<const int32_t> b) const;
  };
  struct Node {
    BlockMeta meta;
    Node* parent = nullptr;  // nullptr: a child of the root
    uint64_t id = 0;         // a CacheEntryId (not 0): unique in the index, and the same whenever the same block comes again
    void* payload = nullptr;
    std::map<std::span<const int32_t>, std::unique_ptr<Node>, TokensLess> children;  // keys point into the nodes' meta
  };
  struct Match {
    std::vector<Node*> nodes;  // in order; all but the last are matched whole
    int64_t tokens = 0;        // matched; the last node may be used in part
  };

  PrefixIndex() = default;
  ~PrefixIndex();
  PrefixIndex(const PrefixIndex&) = delete;
  PrefixIndex& operator=(const PrefixIndex&) = delete;

  /// The longest known prefix of `tokens` under `root`. usable(node) false: as if the node (and all below it) were not
  /// there. Where several nodes agree with equally many tokens, one that holds exactly all that is left comes first.
  Match Find(const BlockKey& root, std::span<const int32_t> tokens,
             const std::function<bool(const Node&)>& usable = {}) const;
  /// The node for `tokens` (1 to 64) under `parent` (nullptr: `root` itself), made when it is not there; second: made
  /// now. A shorter node that the new one extends stays; see Superseded. nullptr when another block has the same
  /// key or id (a collision of hashes): names are unique, so the new one cannot be kept. REQUIRES: parent holds 64
  /// tokens and stands under `root`.
  std::pair<Node*, bool> Insert(const BlockKey& root, Node* parent, std::span<const int32_t> tokens);
  /// Siblings of `node` whose tokens are a proper beginning of its own: of no more use once `node` is whole.
  std::vector<Node*> Superseded(const Node& node) const;
  /// REQUIRES: no children.
  void Erase(Node* node);

  Node* FindKey(const BlockKey& key) const;  // nullptr: not there
  size_t size() const { return by_key_.size(); }  // nodes
  /// Every node, parents before children.
  void ForEach(const std::function<void(Node&)>& fn) const;
  /// Checks every invariant (keys chain, children's keys point into them, counts, short nodes have no children); the
  /// message names the node.
  Status Check() const;

 private:
  using Children = std::map<std::span<const int32_t>, std::unique_ptr<Node>, TokensLess>;

  const Children* ChildrenOf(const BlockKey& root, const Node* parent) const;
  std::unordered_map<BlockKey, Children> roots_;
  std::unordered_map<BlockKey, Node*> by_key_;
};

}  // namespace fathom
