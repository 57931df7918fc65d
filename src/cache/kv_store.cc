#include "cache/kv_store.h"

#include <algorithm>

namespace fathom {

Result<AlignedBuffer> KvPool::Take() {
  {
    std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      AlignedBuffer block = std::move(free_.back());
      free_.pop_back();
      return block;
    }
  }
  auto block = AlignedBuffer::Allocate(layout_.block_bytes());
  if (!block) return Prefix(block.error(), "KV cache");
  std::lock_guard lock(mutex_);
  ++blocks_;
  return block;
}

void KvPool::Give(AlignedBuffer block) {
  std::lock_guard lock(mutex_);
  free_.push_back(std::move(block));
}

int64_t KvPool::allocated_bytes() const {
  std::lock_guard lock(mutex_);
  return blocks_ * layout_.block_bytes();
}

Status KvSequence::Reserve(int64_t tokens) {
  const size_t wanted = (tokens + KvLayout::kBlockTokens - 1) / KvLayout::kBlockTokens;
  std::vector<AlignedBuffer> fresh;
  while (blocks_.size() + fresh.size() < wanted) {
    auto block = pool_->Take();
    if (!block) {
      for (auto& taken : fresh) pool_->Give(std::move(taken));
      return std::unexpected(std::move(block).error());
    }
    fresh.push_back(std::move(*block));
  }
  for (auto& block : fresh) {
    starts_.push_back(block.data());
    blocks_.push_back(std::move(block));
  }
  return {};
}

void KvSequence::Truncate(int64_t tokens) {
  length_ = std::min(length_, tokens);
  const size_t kept = (tokens + KvLayout::kBlockTokens - 1) / KvLayout::kBlockTokens;
  while (blocks_.size() > kept) {
    pool_->Give(std::move(blocks_.back()));
    blocks_.pop_back();
    starts_.pop_back();
  }
}

}  // namespace fathom
