// Keys and values of sequences, in blocks of 64 tokens.
//
// A block holds its tokens' rows for all layers, layer-major: [layer][64 rows][row_bytes]. What a row means (MLA's
// latent and rope key, or the keys and values of all heads) is the model's business. Blocks come from a pool that
// keeps freed ones for reuse; a sequence is a list of blocks and a length. Later tiers (SSD, remote) move whole
// blocks, which is why they are laid out like this.
//
// KvPool is thread-safe; a KvSequence belongs to one thread at a time and must not outlive its pool.
#pragma once

#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/result.h"
#include "tensor/dtype.h"

namespace fathom {

struct KvLayout {
  static constexpr int64_t kBlockTokens = 64;

  DType dtype = DType::kBF16;  // kF32, kF16, kBF16
  int64_t layers = 0;
  int64_t row_values = 0;      // values per token per layer

  int64_t row_bytes() const { return (row_values * (dtype == DType::kF32 ? 4 : 2) + 63) / 64 * 64; }
  int64_t layer_bytes() const { return kBlockTokens * row_bytes(); }
  int64_t block_bytes() const { return layers * layer_bytes(); }
  int64_t bytes_per_token() const { return layers * row_bytes(); }
};

class KvPool {
 public:
  explicit KvPool(const KvLayout& layout) : layout_(layout) {}

  const KvLayout& layout() const { return layout_; }
  /// Errors: kResource.
  Result<AlignedBuffer> Take();
  void Give(AlignedBuffer block);
  /// Bytes of all blocks, in use or kept.
  int64_t allocated_bytes() const;

 private:
  KvLayout layout_;
  mutable std::mutex mutex_;
  std::vector<AlignedBuffer> free_;
  int64_t blocks_ = 0;
};

class KvSequence {
 public:
  explicit KvSequence(KvPool& pool) : pool_(&pool) {}
  ~KvSequence() { Truncate(0); }
  KvSequence(const KvSequence&) = delete;
  KvSequence& operator=(const KvSequence&) = delete;

  const KvLayout& layout() const { return pool_->layout(); }
  int64_t length() const { return length_; }
  /// Makes room for rows up to `tokens` without changing length(). On error nothing changes.
  Status Reserve(int64_t tokens);
  /// Rows below `tokens` now count. REQUIRES: they are reserved and written.
  void SetLength(int64_t tokens) { length_ = tokens; }
  /// Keeps the first `tokens` rows and gives back blocks that hold none of them.
  void Truncate(int64_t tokens);

  /// Row of `position` in `layer`. REQUIRES: reserved.
  std::byte* Row(int64_t layer, int64_t position) {
    const KvLayout& layout = pool_->layout();
    return blocks_[position / KvLayout::kBlockTokens].data() + layer * layout.layer_bytes() +
           position % KvLayout::kBlockTokens * layout.row_bytes();
  }
  /// Start of each block, in order.
  std::span<const std::byte* const> block_starts() const { return starts_; }

 private:
  KvPool* pool_;
  std::vector<AlignedBuffer> blocks_;
  std::vector<const std::byte*> starts_;
  int64_t length_ = 0;
};

}  // namespace fathom
