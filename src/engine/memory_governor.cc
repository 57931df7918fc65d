#include "engine/memory_governor.h"

#include <algorithm>

namespace fathom {

int64_t MemoryGovernor::Decide(const GovernorSample& sample) {
  if (sample.seconds <= 0) return 0;
  const double weight = first_ ? 1 : kSmooth;
  first_ = false;
  expert_gain_ += weight * (sample.expert_gain - expert_gain_);
  expert_loss_ += weight * (sample.expert_loss - expert_loss_);
  kv_gain_ += weight * (sample.kv_gain - kv_gain_);
  kv_loss_ += weight * (sample.kv_loss - kv_loss_);
  if (calm_ > 0) --calm_;

  why_ = Why::kNothing;
  const bool crowded = sample.kv_let_go > 0;
  if (crowded && lent_ > 0) return Clipped(Why::kReturning, std::min(limits_.step, lent_));
  const int64_t unused = kv_ - sample.kv_used;
  if (!crowded && unused >= 2 * limits_.step && expert_gain_ > 0) return Clipped(Why::kLending, -limits_.step);

  const int wish = kv_gain_ > kAdvantage * expert_loss_ && crowded        ? 1
                   : expert_gain_ > kAdvantage * kv_loss_ && !(unused < 0) ? -1
                                                                           : 0;
  wished_ = wish != 0 && wish == wish_ ? wished_ + 1 : wish != 0;
  wish_ = wish;
  if (wish == 0 || wished_ < kPatience || calm_ > 0) return 0;
  return Clipped(Why::kFigures, wish * limits_.step);
}

void MemoryGovernor::Moved(int64_t bytes) {
  if (bytes == 0) return;
  kv_ += bytes;
  if (why_ != Why::kFigures || bytes > 0) lent_ = std::max<int64_t>(0, lent_ - bytes);
  const int direction = bytes > 0 ? 1 : -1;
  if (last_ != 0 && direction != last_) calm_ = kCalm;
  last_ = direction;
}

int64_t MemoryGovernor::Clipped(Why why, int64_t bytes) {
  why_ = why;
  return std::clamp(kv_ + bytes, limits_.kv_least, limits_.kv_most) - kv_;
}

}  // namespace fathom
