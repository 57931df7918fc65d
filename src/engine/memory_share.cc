#include "engine/memory_share.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>

namespace fathom {
namespace {

// The least useful of what is kept is worth less than the mean of it.
constexpr double kMarginal = 0.5;
// Rows that come from the disk within so many seconds are taken to be different ones: what memory would have to hold.
constexpr double kHorizon = 60;
constexpr double kSmooth = 0.2;

int64_t Step(int64_t all, int64_t block_bytes, int64_t slot_bytes) {
  return std::max({all / 50, 2 * block_bytes, 2 * slot_bytes});
}

}  // namespace

int64_t MemoryShare::MostKvBytes(int64_t kv_begin, int64_t block_bytes, int64_t slots, int64_t least_slots,
                                 int64_t slot_bytes) {
  return (kv_begin + std::max<int64_t>(0, slots - least_slots) * slot_bytes) / block_bytes * block_bytes;
}

MemoryShare::MemoryShare(Parts parts)
    : parts_(std::move(parts)),
      block_bytes_(parts_.pool.layout().block_bytes()),
      slot_bytes_(parts_.experts.layout().slot_bytes()),
      expert_bytes_(parts_.experts.slots() * slot_bytes_),
      governor_(Limits()) {
  TakeBallast((parts_.pool.max_bytes() - parts_.kv_begin) / block_bytes_);
}

GovernorLimits MemoryShare::Limits() const {
  const int64_t count = parts_.experts.layout().geometry().count();
  const int64_t room = std::max<int64_t>(0, count * slot_bytes_ - expert_bytes_);  // that experts could still use
  const int64_t most = std::max(parts_.pool.max_bytes(), parts_.kv_begin);
  return {.kv_least = std::clamp(parts_.kv_begin - room, std::min(parts_.kv_least, parts_.kv_begin), parts_.kv_begin),
          .kv_most = most,
          .kv_begin = parts_.kv_begin,
          .step = Step(parts_.kv_begin + expert_bytes_, block_bytes_, slot_bytes_)};
}

bool MemoryShare::TakeBallast(int64_t blocks) {
  bool any = false;
  for (int64_t i = 0; i < blocks; ++i) {
    auto block = parts_.pool.Take();  // lets go of prefixes where it must
    if (!block) break;
    madvise((*block)->data(), static_cast<size_t>(block_bytes_), MADV_DONTNEED);
    ballast_.push_back(std::move(*block));
    any = true;
  }
  return any;
}

void MemoryShare::Tick(double now, const ComputeRates& rates) {
  Settle();
  if (last_ >= 0 && now - last_ < kPeriod) return;
  const double seconds = last_ >= 0 ? now - last_ : 0;
  last_ = now;
  const GovernorSample sample = Measure(seconds, rates);
  if (returning_ == 0) Move(governor_.Decide(sample));
}

void MemoryShare::Move(int64_t bytes) {
  const int64_t blocks = std::abs(bytes) / block_bytes_;
  if (blocks == 0) return governor_.Moved(0);
  if (bytes < 0) {
    const int64_t before = ballast_blocks();
    TakeBallast(blocks);
    const int64_t moved = (ballast_blocks() - before) * block_bytes_;
    expert_bytes_ += moved;
    if (!parts_.experts.Resize(std::min<int64_t>(expert_bytes_ / slot_bytes_, parts_.experts.layout().geometry().count()))) {
      ballast_.resize(static_cast<size_t>(before));
      expert_bytes_ -= moved;
      return governor_.Moved(0);
    }
    governor_.Moved(-moved);
    if (parts_.cache) cache_ = parts_.cache();  // what was let go for this does not count
    return;
  }
  returning_ = std::min(blocks, ballast_blocks());
  const int64_t slots = (expert_bytes_ - returning_ * block_bytes_) / slot_bytes_;
  if (slots < parts_.least_slots || !parts_.experts.Resize(slots)) {
    returning_ = 0;
    return governor_.Moved(0);
  }
  Settle();
}

// Slots that are being read into keep their memory a little longer.
void MemoryShare::Settle() {
  if (returning_ == 0) return;
  const int64_t left = expert_bytes_ - returning_ * block_bytes_;
  if (parts_.experts.slots() * slot_bytes_ > left) return;
  expert_bytes_ = left;
  ballast_.resize(ballast_.size() - static_cast<size_t>(returning_));
  governor_.Moved(returning_ * block_bytes_);
  returning_ = 0;
}

GovernorSample MemoryShare::Measure(double seconds, const ComputeRates& rates) {
  const ExpertStoreStats experts = parts_.experts.stats();
  const CacheStats cache = parts_.cache ? parts_.cache() : CacheStats{};
  const ExpertStoreStats& was = experts_;
  GovernorSample sample{.seconds = seconds};
  sample.kv_used = parts_.pool.used_bytes() - ballast_blocks() * block_bytes_;
  if (seconds > 0) {
    // Experts by their use: those just beyond the slots, and just within.
    std::vector<float> heat = parts_.experts.Heat();
    std::sort(heat.begin(), heat.end(), std::greater<>());
    const double all = std::accumulate(heat.begin(), heat.end(), 0.0);
    const auto uses = static_cast<double>(experts.uses - was.uses), hits = static_cast<double>(experts.hits - was.hits);
    const double miss = (experts.stall_seconds - was.stall_seconds) / std::max(1.0, uses - hits);
    const int64_t count = static_cast<int64_t>(heat.size()), slots = std::min(experts.slots, count);
    const int64_t some = std::max<int64_t>(1, Limits().step / slot_bytes_);
    const auto worth = [&](int64_t begin, int64_t end) {
      begin = std::clamp<int64_t>(begin, 0, count);
      end = std::clamp<int64_t>(end, begin, count);
      const double part = std::accumulate(heat.begin() + begin, heat.begin() + end, 0.0);
      return all > 0 ? part / all * uses / seconds * miss / static_cast<double>(some * slot_bytes_) : 0;
    };
    sample.expert_gain = worth(slots, slots + some);
    sample.expert_loss = worth(slots - some, slots);

    const auto since = [&](int64_t CacheStats::*field) { return static_cast<double>(cache.*field - cache_.*field); };
    const double waited = cache.load_wait_seconds - cache_.load_wait_seconds;
    const double from_disk = since(&CacheStats::disk_hit_tokens), from_memory = since(&CacheStats::memory_hit_tokens);
    const auto row_bytes = static_cast<double>(parts_.pool.layout().bytes_per_token());
    const bool disk = cache.disk.capacity_bytes > 0;
    const double token = !disk           ? rates.seconds_per_token
                         : from_disk > 0 ? waited / from_disk
                                         : row_bytes / std::max(cache.disk.read_bytes_per_second, 1e8);
    const auto step = static_cast<double>(Limits().step);
    sample.kv_let_go = (cache.evicted_memory - cache_.evicted_memory) * block_bytes_;
    sample.kv_loss = kMarginal * from_memory / seconds * token / std::max(static_cast<double>(sample.kv_used), step);
    loaded_ += kSmooth * (from_disk * row_bytes / seconds - loaded_);
    if (disk) {
      sample.kv_gain = waited / seconds / std::max(loaded_ * kHorizon, step);
    } else if (sample.kv_let_go > 0) {
      sample.kv_gain = kMarginal * sample.kv_loss;  // nobody knows what was let go; it was worth less than what stayed
    }
  }
  experts_ = experts;
  cache_ = cache;
  return sample;
}

}  // namespace fathom
