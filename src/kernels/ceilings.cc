#include "kernels/ceilings.h"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <chrono>
#include <vector>

#include "base/aligned_buffer.h"
#include "kernels/cpu/kernel_table.h"

namespace fathom {
namespace {

using Clock = std::chrono::steady_clock;

double Seconds(Clock::time_point from) { return std::chrono::duration<double>(Clock::now() - from).count(); }

// Rounds shorter than the kernel's time slices: on a busy machine some of them run undisturbed.
constexpr int kRounds = 60;
constexpr double kRoundSeconds = 0.002;
constexpr int kReadRounds = 5;
constexpr int64_t kPage = 4096;
constexpr int64_t kSlices = 8;  // of a probe's buffer: 128 MiB of 1 GiB, far beyond a last-level cache

/// Best rate of all threads together; work(thread, amount) returns the operations done.
template <typename Work>
double Best(ThreadPool& pool, Work work) {
  int64_t amount = 1 << 12;
  double best = 0;
  for (int round = 0; round < kRounds;) {
    std::atomic<int64_t> done{0};
    const auto start = Clock::now();
    pool.Run([&](int thread) { done += work(thread, amount); });
    const double seconds = Seconds(start);
    if (seconds < kRoundSeconds / 2) {  // still finding the amount; the processor warms up meanwhile
      amount *= 2;
      continue;
    }
    best = std::max(best, static_cast<double>(done.load()) / seconds);
    ++round;
  }
  return best;
}

}  // namespace

Result<ReadBandwidthProbe> ReadBandwidthProbe::Create(ThreadPool& pool, int64_t bytes) {
  const int64_t share = bytes / pool.size() / (kSlices * kPage) * (kSlices * kPage);
  if (share <= 0)
    return Fail(ErrorCode::kInvalidArgument, "bandwidth needs at least {} bytes", pool.size() * kSlices * kPage);
  FATHOM_TRY(AlignedBuffer buffer, AlignedBuffer::Allocate(static_cast<size_t>(share * pool.size())));
  return ReadBandwidthProbe(pool, std::move(buffer), share);
}

ReadBandwidthProbe::ReadBandwidthProbe(ThreadPool& pool, AlignedBuffer buffer, int64_t share)
    : pool_(&pool), buffer_(std::move(buffer)), share_(share), slice_(share / kSlices) {
  // Written first, so that every page has memory of its own.
  std::byte* const data = buffer_.data();
  pool.Run([&](int thread) {
    for (int64_t i = 0; i < share; i += kPage) data[thread * share + i] = std::byte{1};
  });
}

double ReadBandwidthProbe::Slice() {
  const double rate = Read(at_, slice_);
  at_ = (at_ + slice_) % share_;
  return rate;
}

double ReadBandwidthProbe::Read(int64_t at, int64_t bytes) {
  assert(at + bytes <= share_);
  const KernelTable& kernels = ActiveKernels();
  std::atomic<uint64_t> sum{0};
  const auto start = Clock::now();
  pool_->Run([&](int thread) { sum += kernels.read_stream(buffer_.data() + thread * share_ + at, bytes); });
  const double seconds = Seconds(start);
  static std::atomic<uint64_t> keep;
  keep.store(sum.load(), std::memory_order_relaxed);
  return static_cast<double>(bytes * pool_->size()) / seconds;
}

Result<double> MeasureReadBandwidth(ThreadPool& pool, int64_t bytes) {
  FATHOM_TRY(ReadBandwidthProbe probe, ReadBandwidthProbe::Create(pool, bytes));
  double best = 0;
  for (int round = 0; round < kReadRounds; ++round) best = std::max(best, probe.Whole());
  return best;
}

double MeasureInt8Peak(ThreadPool& pool) {
  return Best(pool, [](int, int64_t amount) {
    int32_t sink = 1;
    return ActiveKernels().int8_peak(amount, &sink);
  });
}

double MeasureF32Peak(ThreadPool& pool) {
  return Best(pool, [](int, int64_t amount) {
    float sink = 1;
    return ActiveKernels().f32_peak(amount, &sink);
  });
}

double MeasureBf16Peak(ThreadPool& pool) {
  if (ActiveKernels().bf16_peak == nullptr) return 0;
  return Best(pool, [](int, int64_t amount) {
    float sink = 1;
    return ActiveKernels().bf16_peak(amount, &sink);
  });
}

}  // namespace fathom
