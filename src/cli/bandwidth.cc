#include "cli/bandwidth.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

namespace fathom {
namespace {

std::atomic<uint64_t> g_sink;  // the sums go here, so that the reads cannot be left out

uint64_t ReadAll(const uint64_t* data, size_t words) {
  uint64_t sums[8] = {};
  for (size_t i = 0; i + 8 <= words; i += 8) {
    for (size_t k = 0; k < 8; ++k) sums[k] += data[i + k];
  }
  uint64_t sum = 0;
  for (const uint64_t s : sums) sum += s;
  return sum;
}

}  // namespace

Result<BandwidthProbe> BandwidthProbe::Create(ThreadPool& pool, size_t bytes) {
  FATHOM_TRY(AlignedBuffer buffer, AlignedBuffer::Allocate(bytes));
  BandwidthProbe probe(pool, std::move(buffer));
  const size_t words = probe.buffer_.size() / 8, share = words / static_cast<size_t>(pool.size());
  pool.Run([&](int thread) {
    uint64_t* begin = probe.buffer_.as<uint64_t>() + static_cast<size_t>(thread) * share;
    std::fill(begin, begin + share, static_cast<uint64_t>(thread) + 1);
  });
  return probe;
}

double BandwidthProbe::Measure(int passes) {
  const size_t words = buffer_.size() / 8, share = words / static_cast<size_t>(pool_->size());
  double best = 0;
  for (int pass = 0; pass < passes; ++pass) {
    const auto started = std::chrono::steady_clock::now();
    pool_->Run([&](int thread) { g_sink += ReadAll(buffer_.as<uint64_t>() + static_cast<size_t>(thread) * share, share); });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    const double bytes = static_cast<double>(share) * 8 * pool_->size();
    best = std::max(best, bytes / std::max(seconds, 1e-9));
  }
  return best;
}

}  // namespace fathom
