// Keys and values of sequences, in blocks of 64 tokens.
//
// A block holds its tokens' rows for all layers, layer-major: [layer][64 rows][row_bytes]. What a row means (MLA's
// latent and rope key, or the keys and values of all heads) is the model's business. Blocks come from a pool that carves
// them out of large slabs and keeps freed ones for reuse; a sequence is a list of references to blocks and a length.
// Sequences that begin alike share blocks, and a sequence that writes into a shared block gets its own copy first. Other
// tiers (SSD, remote) move whole blocks, which is why they are laid out like this.
//
// KvPool is thread-safe, and its blocks may outlive it; a KvSequence belongs to one thread at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/result.h"
#include "tensor/kv_row.h"

namespace fathom {

struct KvLayout {
  static constexpr int64_t kBlockTokens = 64;

  DType dtype = DType::kBF16;  // kF32, kF16, kBF16, kF8_E4M3, kI8
  int64_t layers = 0;
  int64_t row_values = 0;      // values per token per layer
  int64_t row_tail = 0;        // in 8 bits: so many of them, at the end, stay bf16 (tensor/kv_row.h)
  int64_t row_group = 0;       // in 8 bits: values that share a scale

  KvRowFormat row() const { return {dtype, row_values, row_tail, row_group}; }
  int64_t row_bytes() const { return (row().bytes() + 63) / 64 * 64; }
  int64_t layer_bytes() const { return kBlockTokens * row_bytes(); }  // a multiple of 4096
  int64_t block_bytes() const { return layers * layer_bytes(); }
  int64_t bytes_per_token() const { return layers * row_bytes(); }
  bool operator==(const KvLayout&) const = default;
};

/// Memory of one block, aligned to 4096 bytes. Whoever holds a reference may read it; only the one sequence that holds
/// the only reference, or a load that nobody reads yet, may write.
class KvBlock {
 public:
  KvBlock(std::byte* data, int64_t layer_bytes) : data_(data), layer_bytes_(layer_bytes) {}
  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  std::byte* layer(int64_t index) { return data_ + index * layer_bytes_; }
  const std::byte* layer(int64_t index) const { return data_ + index * layer_bytes_; }

 private:
  std::byte* data_;
  int64_t layer_bytes_;
};

/// The last reference gives the memory back to the pool.
using KvBlockRef = std::shared_ptr<KvBlock>;

class KvPool {
 public:
  /// max_bytes: of all blocks together; 0: no limit.
  explicit KvPool(const KvLayout& layout, int64_t max_bytes = 0);
  ~KvPool();  // blocks may outlive it

  const KvLayout& layout() const;
  /// Errors: kResource, when the limit is reached and the reclaimer could not help, or memory is short.
  Result<KvBlockRef> Take();
  /// Asked, without locks held, when the limit is reached: lets go of blocks that nobody needs; false when there are none.
  void SetReclaimer(std::function<bool()> reclaim);
  /// From now on a thread of the pool's own keeps so many bytes of free blocks ready (within the limit): taken from the
  /// system, touched and announced to OnSlab's function. Whoever takes blocks then does not wait for the kernel to find
  /// and clear pages, which takes a virtual machine longer than reading the rows that go into them. Once.
  void KeepReady(int64_t bytes);
  /// Called with the memory of every slab, those so far at once (I/O may register it with the kernel).
  void OnSlab(std::function<void(std::span<std::byte>)> fn);
  /// Bytes taken from the system.
  int64_t allocated_bytes() const;
  /// Bytes of blocks that somebody holds.
  int64_t used_bytes() const;
  int64_t max_bytes() const;  // 0: no limit

 private:
  struct State;
  std::shared_ptr<State> state_;
  std::thread getting_ready_;
};

class KvSequence {
 public:
  explicit KvSequence(KvPool& pool) : pool_(&pool) {}
  KvSequence(const KvSequence&) = delete;
  KvSequence& operator=(const KvSequence&) = delete;

  const KvLayout& layout() const { return pool_->layout(); }
  int64_t length() const { return length_; }
  /// Makes room for rows from length() up to `tokens` that only this sequence sees, without changing length(). On error
  /// nothing changes.
  Status Reserve(int64_t tokens);
  /// Rows below `tokens` now count. REQUIRES: they are reserved and written.
  void SetLength(int64_t tokens) { length_ = tokens; }
  /// Keeps the first `tokens` rows and lets go of blocks that hold none of them.
  void Truncate(int64_t tokens);
  /// Begins with the rows of somebody else's blocks. REQUIRES: this sequence is empty; blocks hold `tokens` rows (which
  /// may still be arriving: then whoever loads them says when they may be read).
  void Adopt(std::span<const KvBlockRef> blocks, int64_t tokens);

  /// Row of `position` in `layer`. REQUIRES: reserved.
  std::byte* Row(int64_t layer, int64_t position) {
    const KvLayout& layout = pool_->layout();
    return blocks_[position / KvLayout::kBlockTokens]->data() + layer * layout.layer_bytes() +
           position % KvLayout::kBlockTokens * layout.row_bytes();
  }
  /// Start of each block, in order.
  std::span<const std::byte* const> block_starts() const { return starts_; }
  std::span<const KvBlockRef> blocks() const { return blocks_; }

 private:
  KvPool* pool_;
  std::vector<KvBlockRef> blocks_;
  std::vector<const std::byte*> starts_;
  int64_t length_ = 0;
};

}  // namespace fathom
