// How many bytes a second come through while something is under way: an exponential mean, weighted by bytes.
//
// Time when nothing is under way does not count. Not thread-safe.
#pragma once

#include <chrono>
#include <cmath>
#include <cstdint>

namespace fathom {

class ByteRateMeter {
 public:
  using Clock = std::chrono::steady_clock;

  void Begin(Clock::time_point now) {
    if (running_++ == 0) since_ = now;
  }
  /// bytes: that came through; 0 for a failure.
  void End(int64_t bytes, Clock::time_point now) {
    bytes_ += bytes;
    --running_;
    if (running_ == 0 || now - since_ >= std::chrono::milliseconds(50)) Sample(now);
  }
  double bytes_per_second() const { return rate_; }  // 0: not known

 private:
  void Sample(Clock::time_point now) {
    const double seconds = std::chrono::duration<double>(now - since_).count();
    if (bytes_ > 0 && seconds > 0) {
      const double rate = static_cast<double>(bytes_) / seconds;
      constexpr double kMemoryBytes = 64.0 * (1 << 20);
      const double weight = rate_ == 0 ? 1 : 1 - std::exp(-static_cast<double>(bytes_) / kMemoryBytes);
      rate_ += weight * (rate - rate_);
    }
    bytes_ = 0;
    since_ = now;
  }

  int running_ = 0;
  int64_t bytes_ = 0;
  Clock::time_point since_;
  double rate_ = 0;
};

}  // namespace fathom
