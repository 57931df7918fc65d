// What this machine can do at best: the yardsticks against which `fathom bench` states shares.
//
// Each function takes well under a second and reports the best of several short rounds, since other programs can only
// slow a round down. They use all threads of the pool at once. Not thread-safe with respect to the pool.
#pragma once

#include <cstdint>

#include "base/aligned_buffer.h"
#include "base/result.h"
#include "base/thread_pool.h"

namespace fathom {

/// Streaming reads by all threads of a pool, each of a large range of its own, in slices of milliseconds: on a shared
/// machine the bandwidth swings by half within a second, so what a run could have had is known only from slices taken
/// between its steps. Keeps its buffer; the pool must live longer. One thread, the pool's owner.
class ReadBandwidthProbe {
 public:
  /// `bytes` should be many times the last-level cache. Errors: kInvalidArgument, kResource.
  static Result<ReadBandwidthProbe> Create(ThreadPool& pool, int64_t bytes = int64_t{1} << 30);

  /// Reads what comes next, a slice of the whole; bytes a second.
  double Slice();
  /// Reads everything.
  double Whole() { return Read(0, share_); }

 private:
  ReadBandwidthProbe(ThreadPool& pool, AlignedBuffer buffer, int64_t share);
  double Read(int64_t at, int64_t bytes);  // of each thread's range

  ThreadPool* pool_;
  AlignedBuffer buffer_;
  int64_t share_, slice_;  // bytes of each thread; the first a multiple of the second
  int64_t at_ = 0;
};

/// The best of some rounds of a probe: what the machine can do when it is left alone. Errors: as ReadBandwidthProbe.
Result<double> MeasureReadBandwidth(ThreadPool& pool, int64_t bytes = int64_t{1} << 30);

/// Operations a second (a multiply-add counts two) of the dot products that the kernels in use are made of.
double MeasureInt8Peak(ThreadPool& pool);
double MeasureF32Peak(ThreadPool& pool);
/// 0 where the kernels in use have no bf16 dot product.
double MeasureBf16Peak(ThreadPool& pool);

}  // namespace fathom
