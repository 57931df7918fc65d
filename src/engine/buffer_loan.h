// Memory that only long passes need, lent to expert slots while tokens are made one by one.
//
// A promise of memory (engine/memory_plan.h) counts the buffers of the longest pass; an answer's passes need a hundredth of
// them. After kPatience short passes in succession the long ones' buffers go back to the system and the slots grow by as
// much. Before the next long pass the slots shrink again, the least useful experts first, and their memory is back before
// the buffers are taken: the promise holds at every moment.
//
// Not thread-safe: asked before each pass by whoever computes. Model and store outlive it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

#include "base/result.h"
#include "experts/expert_store.h"

namespace fathom {

/// Passes of at most so many rows keep their own small buffers.
inline constexpr int32_t kShortPassRows = 64;

class BufferLoan {
 public:
  static constexpr int kPatience = 3;

  struct Parts {
    ExpertStore& experts;
    std::function<void()> release_buffers;     // those of all passes so far
    int64_t slots = 0;                         // of the plan
    int64_t lent = 0;                          // and more, while no long pass comes
    std::chrono::milliseconds patience{30'000};  // for reads under way into slots that are taken back
  };
  explicit BufferLoan(Parts parts) : parts_(std::move(parts)) {}

  /// Errors: kIo when slots cannot be taken back because the disk does not answer; asked again, it tries again.
  Status BeforePass(int64_t rows);
  bool lent() const { return lent_; }

 private:
  Status TakeBack();

  Parts parts_;
  bool lent_ = false;
  int short_passes_ = 0;  // in succession
};

}  // namespace fathom
