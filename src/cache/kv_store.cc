#include "cache/kv_store.h"

#include <algorithm>
#include <cassert>
#include <condition_variable>
#include <cstring>
#include <mutex>

#include "base/start_thread.h"

namespace fathom {
namespace {

// Large enough for huge pages and for few registrations, small enough not to surprise a small model's user.
constexpr int64_t kSlabBytes = int64_t{32} << 20;
constexpr size_t kBlockAlignment = 4096;  // O_DIRECT's
constexpr size_t kPage = 4096;

int64_t BlocksFor(int64_t tokens) { return (tokens + KvLayout::kBlockTokens - 1) / KvLayout::kBlockTokens; }

}  // namespace

struct KvPool::State {
  KvLayout layout;
  int64_t max_bytes = 0;
  mutable std::mutex mutex;
  std::vector<AlignedBuffer> slabs;
  std::vector<std::byte*> free;
  int64_t allocated = 0, used = 0;
  int64_t ready = 0;     // bytes to have beside those in use
  bool growing = false;  // the pool's thread is fetching a slab; it is in `allocated` already
  bool ending = false;
  std::condition_variable changed;
  std::function<bool()> reclaim;
  std::function<void(std::span<std::byte>)> on_slab;

  // A slab's bytes from the first aligned one on.
  static std::span<std::byte> Aligned(AlignedBuffer& slab) {
    const auto address = reinterpret_cast<uintptr_t>(slab.data());
    const size_t skip = (kBlockAlignment - address % kBlockAlignment) % kBlockAlignment;
    return {slab.data() + skip, slab.size() - skip};
  }

  bool full() const { return max_bytes > 0 && used + layout.block_bytes() > max_bytes; }

  int64_t SlabBlocks() const {
    const int64_t bytes = layout.block_bytes(), count = std::max<int64_t>(1, kSlabBytes / bytes);
    return max_bytes > 0 ? std::clamp<int64_t>((max_bytes - allocated) / bytes, 1, count) : count;
  }
  void Add(AlignedBuffer slab, int64_t count) {
    slabs.push_back(std::move(slab));
    const auto memory = Aligned(slabs.back());
    // In reverse, so that blocks are handed out from the slab's beginning.
    for (int64_t i = count - 1; i >= 0; --i) free.push_back(memory.data() + i * layout.block_bytes());
    if (on_slab) on_slab(memory);
  }

  Status Grow() {
    const int64_t count = SlabBlocks(), bytes = count * layout.block_bytes();
    auto slab = AlignedBuffer::Allocate(static_cast<size_t>(bytes) + kBlockAlignment);
    if (!slab) return Prefix(slab.error(), "KV cache");
    allocated += bytes;
    Add(std::move(*slab), count);
    return {};
  }

  bool WantsMore() const {
    return allocated - used < ready && (max_bytes <= 0 || allocated + layout.block_bytes() <= max_bytes);
  }

  // Of the pool's thread: keeps `ready` bytes free until the pool ends.
  void GetReady() {
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [&] { return ending || WantsMore(); });
      if (ending) return;
      const int64_t count = SlabBlocks(), bytes = count * layout.block_bytes();
      allocated += bytes;
      growing = true;
      lock.unlock();
      auto slab = AlignedBuffer::Allocate(static_cast<size_t>(bytes) + kBlockAlignment);
      if (slab) {
        for (size_t at = 0; at < slab->size(); at += kPage) slab->data()[at] = std::byte{};
      }
      lock.lock();
      growing = false;
      if (slab) {
        Add(std::move(*slab), count);
      } else {
        allocated -= bytes;
        ready = 0;  // memory is short: from now on it is taken when it is needed, and then somebody hears of it
      }
      changed.notify_all();
    }
  }
};

KvPool::KvPool(const KvLayout& layout, int64_t max_bytes) : state_(std::make_shared<State>()) {
  state_->layout = layout;
  state_->max_bytes = max_bytes;
}

KvPool::~KvPool() {
  if (!getting_ready_.joinable()) return;
  {
    std::lock_guard lock(state_->mutex);
    state_->ending = true;
  }
  state_->changed.notify_all();
  getting_ready_.join();
}

const KvLayout& KvPool::layout() const { return state_->layout; }

void KvPool::KeepReady(int64_t bytes) {
  assert(!getting_ready_.joinable());
  if (bytes <= 0) return;
  state_->ready = bytes;
  if (auto thread = StartThread([state = state_.get()] { state->GetReady(); })) {
    getting_ready_ = std::move(*thread);
  } else {
    state_->ready = 0;  // without a thread memory is taken when it is needed
  }
}

Result<KvBlockRef> KvPool::Take() {
  std::unique_lock lock(state_->mutex);
  while (state_->full()) {
    const auto reclaim = state_->reclaim;
    lock.unlock();
    if (!reclaim || !reclaim()) {
      return Fail(ErrorCode::kResource, "KV cache: all {} MiB are in use", state_->max_bytes >> 20);
    }
    lock.lock();
  }
  while (state_->free.empty()) {
    if (state_->growing) {
      state_->changed.wait(lock);
    } else {
      FATHOM_CHECK_OK(state_->Grow());
    }
  }
  std::byte* memory = state_->free.back();
  state_->free.pop_back();
  state_->used += state_->layout.block_bytes();
  const bool wake = state_->WantsMore();
  lock.unlock();
  if (wake) state_->changed.notify_all();
  return KvBlockRef(new KvBlock(memory, state_->layout.layer_bytes()), [state = state_](KvBlock* block) {
    {
      std::lock_guard guard(state->mutex);
      state->free.push_back(block->data());
      state->used -= state->layout.block_bytes();
    }
    delete block;
  });
}

void KvPool::SetReclaimer(std::function<bool()> reclaim) {
  std::lock_guard lock(state_->mutex);
  state_->reclaim = std::move(reclaim);
}

void KvPool::OnSlab(std::function<void(std::span<std::byte>)> fn) {
  std::lock_guard lock(state_->mutex);
  state_->on_slab = std::move(fn);
  if (!state_->on_slab) return;
  for (AlignedBuffer& slab : state_->slabs) state_->on_slab(State::Aligned(slab));
}

int64_t KvPool::allocated_bytes() const {
  std::lock_guard lock(state_->mutex);
  return state_->allocated;
}

int64_t KvPool::used_bytes() const {
  std::lock_guard lock(state_->mutex);
  return state_->used;
}

int64_t KvPool::max_bytes() const { return state_->max_bytes; }

Status KvSequence::Reserve(int64_t tokens) {
  if (tokens <= length_) return {};
  // The block that the next row goes into: a copy when somebody else reads it too.
  const size_t first = static_cast<size_t>(length_ / KvLayout::kBlockTokens);
  const int64_t rows = length_ % KvLayout::kBlockTokens;
  KvBlockRef copy;
  if (rows > 0 && blocks_[first].use_count() > 1) {
    FATHOM_TRY(copy, pool_->Take());
    const KvLayout& kv = layout();
    for (int64_t layer = 0; layer < kv.layers; ++layer)
      std::memcpy(copy->layer(layer), blocks_[first]->layer(layer), static_cast<size_t>(rows * kv.row_bytes()));
  }
  std::vector<KvBlockRef> fresh;
  const size_t wanted = static_cast<size_t>(BlocksFor(tokens));
  while (blocks_.size() + fresh.size() < wanted) {
    FATHOM_TRY(auto block, pool_->Take());
    fresh.push_back(std::move(block));
  }
  if (copy) {
    starts_[first] = copy->data();
    blocks_[first] = std::move(copy);
  }
  for (auto& block : fresh) {
    starts_.push_back(block->data());
    blocks_.push_back(std::move(block));
  }
  return {};
}

void KvSequence::Truncate(int64_t tokens) {
  length_ = std::min(length_, tokens);
  const size_t kept = static_cast<size_t>(BlocksFor(tokens));
  if (blocks_.size() <= kept) return;
  blocks_.resize(kept);
  starts_.resize(kept);
}

void KvSequence::Adopt(std::span<const KvBlockRef> blocks, int64_t tokens) {
  blocks_.assign(blocks.begin(), blocks.begin() + BlocksFor(tokens));
  starts_.clear();
  for (const auto& block : blocks_) starts_.push_back(block->data());
  length_ = tokens;
}

}  // namespace fathom
