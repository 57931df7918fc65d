// The machine's memory read bandwidth, measured in the time of a blink.
#pragma once

#include "base/aligned_buffer.h"
#include "base/thread_pool.h"

namespace fathom {

/// Keeps a buffer far larger than the caches and reads it, one stream a thread (the fastest pattern on the machines
/// measured; see docs/performance.md). Not thread-safe.
class BandwidthProbe {
 public:
  /// Errors: kResource. The buffer is touched here, not while measuring.
  static Result<BandwidthProbe> Create(ThreadPool& pool, size_t bytes = size_t{512} << 20);
  /// Bytes per second, the best of `passes` readings.
  double Measure(int passes = 3);

 private:
  BandwidthProbe(ThreadPool& pool, AlignedBuffer buffer) : pool_(&pool), buffer_(std::move(buffer)) {}
  ThreadPool* pool_;
  AlignedBuffer buffer_;
};

}  // namespace fathom
