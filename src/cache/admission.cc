#include "cache/admission.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace fathom {
namespace {

constexpr double kDay = 86400;
constexpr double kAhead = 0.25;       // share of the budget that may be used ahead of the clock
constexpr double kEasy = 0.5;         // share of the allowance below which everything is admitted
constexpr int64_t kWorthyTouches = 2;

int64_t DayOf(double now) { return static_cast<int64_t>(std::floor(now / kDay)); }

}  // namespace

int64_t WriteBudget::Allowance(double now) const {
  if (daily_bytes_ <= 0) return std::numeric_limits<int64_t>::max();
  const double elapsed = now / kDay - static_cast<double>(std::max(DayOf(now), state_.day));
  const double share = std::clamp(kAhead + (1 - kAhead) * elapsed, 0.0, 1.0);
  return static_cast<int64_t>(share * static_cast<double>(daily_bytes_));
}

void WriteBudget::RollOver(double now) {
  // A clock that was set back does not give a second budget for the same day.
  if (DayOf(now) > state_.day) state_ = {.day = DayOf(now), .written = 0};
}

bool WriteBudget::Admit(int64_t bytes, int64_t touches, double now) {
  RollOver(now);
  if (daily_bytes_ > 0) {
    const int64_t allowance = Allowance(now);
    if (bytes > allowance - state_.written) return false;
    const bool easy = static_cast<double>(state_.written + bytes) <= kEasy * static_cast<double>(allowance);
    if (!easy && touches < kWorthyTouches) return false;
  }
  state_.written += std::min(bytes, std::numeric_limits<int64_t>::max() - state_.written);
  return true;
}

void WriteBudget::Refund(int64_t bytes) { state_.written = std::max<int64_t>(0, state_.written - bytes); }

}  // namespace fathom
