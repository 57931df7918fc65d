// What may be written to the SSD: a daily budget of bytes, so that a cache does not wear its device out.
//
// The curve. A day's budget B is divided evenly over the day, and a quarter of it may be used ahead of the clock: at
// second t of the day, allowance(t) = B/4 + 3/4 B t/86400. While less than half of the room from the start of the day
// to the allowance is written everything is admitted; beyond, only blocks that were touched at least twice, until the
// allowance is reached; then nothing until the clock has caught up. What was written never exceeds the allowance, and
// so never the budget. A day is 86,400 seconds of UTC.
//
// Pure: time comes from the caller, and the count of today from and to whoever stores it. Not thread-safe.
#pragma once

#include <cstdint>

namespace fathom {

/// What must outlive the process.
struct AdmissionState {
  int64_t day = 0;      // seconds since 1970 / 86400
  int64_t written = 0;  // bytes on that day
};

class WriteBudget {
 public:
  /// daily_bytes 0: no budget. A state of another day counts as nothing written; one from the future as of today.
  explicit WriteBudget(int64_t daily_bytes, const AdmissionState& state = {})
      : daily_bytes_(daily_bytes), state_(state) {}

  /// Whether a block of `bytes` that was touched `touches` times (its making counts as one) may be written at `now`
  /// (seconds since 1970). If so it counts as written.
  bool Admit(int64_t bytes, int64_t touches, double now);
  /// A write that was admitted did not happen.
  void Refund(int64_t bytes);
  /// What may have been written until `now` of its day; INT64_MAX without a budget.
  int64_t Allowance(double now) const;

  const AdmissionState& state() const { return state_; }
  int64_t daily_bytes() const { return daily_bytes_; }

 private:
  void RollOver(double now);

  int64_t daily_bytes_;
  AdmissionState state_;
};

}  // namespace fathom
