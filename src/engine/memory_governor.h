// How memory is divided between expert slots and known prefixes while a server works: policy, without memory, model or clock
// of its own.
//
// Every period it is told what more or less memory would have been worth to either, in seconds of waiting saved a second and
// byte, and says how many bytes to move. Both figures are measured:
//  - Experts: the next slot would have held the most used expert that has none. Its share of all uses, times the uses a
//    second, times the time that an expert not resident was waited for, is what that slot would have saved; the last slot
//    likewise is what would be lost.
//  - Prefixes: rows that were known and had left memory cost the wait for the disk, and what was let go and is nowhere must be
//    computed again; spread over the bytes that had left, that is what more memory would have saved. What is in memory saves
//    the same for rows found there, spread over all of it.
//
// Rules, in their order: memory that prefixes do not use is lent to experts, while those wait for the disk; what was lent
// comes back as soon as prefixes have to be let go. Beyond that memory moves when one side's gain is more than kAdvantage
// times the other's loss, for kPatience periods in succession; after the direction has changed, not for kCalm periods. Never
// below either side's least.
//
// Deterministic, not thread-safe.
#pragma once

#include <cstdint>

namespace fathom {

struct GovernorSample {
  double seconds = 0;           // since the last one
  double expert_gain = 0;       // seconds a second and byte that more slots would have saved
  double expert_loss = 0;       // that fewer slots would have cost
  double kv_gain = 0, kv_loss = 0;
  int64_t kv_used = 0;          // bytes of blocks that somebody holds or that are known
  int64_t kv_let_go = 0;        // bytes of known blocks that left memory for want of room
};

struct GovernorLimits {
  int64_t kv_least = 0, kv_most = 0;  // bytes; what prefixes do not have, experts have
  int64_t kv_begin = 0;
  int64_t step = 0;                   // bytes moved at once
};

class MemoryGovernor {
 public:
  static constexpr double kAdvantage = 1.5;
  static constexpr int kPatience = 3;
  static constexpr int kCalm = 8;
  static constexpr double kSmooth = 0.3;  // weight of the newest sample

  /// REQUIRES: kv_least <= kv_begin <= kv_most, step > 0.
  explicit MemoryGovernor(const GovernorLimits& limits) : limits_(limits), kv_(limits.kv_begin) {}

  /// Bytes to move to prefixes; negative: to experts. The caller says with Moved() what became of it.
  int64_t Decide(const GovernorSample& sample);
  void Moved(int64_t bytes);
  int64_t kv_bytes() const { return kv_; }

 private:
  enum class Why { kNothing, kLending, kReturning, kFigures };
  int64_t Clipped(Why why, int64_t bytes);

  GovernorLimits limits_;
  int64_t kv_;
  double expert_gain_ = 0, expert_loss_ = 0, kv_gain_ = 0, kv_loss_ = 0;
  bool first_ = true;
  int64_t lent_ = 0;  // to experts, until somebody needs it
  Why why_ = Why::kNothing;
  int wish_ = 0;    // direction that the figures have spoken for
  int wished_ = 0;  // for so many periods
  int last_ = 0;    // direction of the last move
  int calm_ = 0;    // periods still to wait
};

}  // namespace fathom
