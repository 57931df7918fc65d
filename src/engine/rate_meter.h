// How long things take, measured while running: what a token of a prompt costs (for load-or-recompute), what a step of
// answers takes, and what rows of prompts add to it (for the scheduler). Plain numbers; not thread-safe.
#pragma once

#include <array>
#include <cstdint>

#include "cache/kv_cache.h"

namespace fathom {

/// One pass of the model.
struct StepSample {
  int64_t decode_rows = 0;       // rows of answers
  int64_t prefill_rows = 0;      // rows of prompts
  double prefill_positions = 0;  // sum of those rows' positions
  double seconds = 0;
  int64_t draft_rows = 0;        // of answers, beside decode_rows
};

class RateMeter {
 public:
  void Add(const StepSample& sample);
  /// So many tokens came out of the last step beside one for each answer.
  void AddAccepted(int64_t tokens) { decode_rows_ += static_cast<double>(tokens); }

  /// Least squares of seconds = a rows + b positions over recent steps of prompts alone, a and b not negative; where there
  /// were none yet, what a row added to steps of answers. All zero until something was measured.
  ComputeRates prefill() const { return xx_ > 0 ? prefill_ : ComputeRates{added(), 0}; }
  /// The same for a prompt that comes beside so many answers: their steps have only a share for it.
  ComputeRates prefill_beside(int64_t answers) const;
  /// Of a step with so many answers and nothing else; 0: not known.
  double decode_seconds(int64_t rows) const;
  /// Whether a step of so many answers and nothing else should be had: none was measured yet, or not for long. Often at
  /// first (the first steps of a program are slow), then every kSeldom steps that prompts took part in.
  bool WantsDecodeStep(int64_t rows) const;
  /// That one row of a prompt adds to a step of answers; before that was seen, a guess from steps of prompts: a few rows
  /// share their weights with fewer others. 0: not known.
  double prefill_row_seconds() const { return added() > 0 ? added() : 3 * prefill_.seconds_per_token; }
  /// The same of each of at least Scheduler::kManyRows rows of prompts, a guess as well before that was seen. 0: not known.
  double many_rows_seconds() const { return added_of_many_ > 0 ? added_of_many_ : 2 * prefill_.seconds_per_token; }
  /// Tokens a second of late: of steps that had rows of prompts, of steps that had answers.
  double prefill_rate() const { return prefill_seconds_ > 0 ? prefill_rows_ / prefill_seconds_ : 0; }
  double decode_rate() const { return decode_seconds_ > 0 ? decode_rows_ / decode_seconds_ : 0; }

 private:
  void Fit(const StepSample& sample);
  double added() const { return added_row_ > 0 ? added_row_ : added_of_many_; }

  ComputeRates prefill_;
  // Decaying sums of the normal equations; x = rows, z = positions, y = seconds.
  double xx_ = 0, xz_ = 0, zz_ = 0, xy_ = 0, zy_ = 0;
  static constexpr int32_t kSeldom = 256;
  std::array<double, 16> decode_{};  // seconds, by the number of bits of the row count
  std::array<int32_t, 16> decode_samples_{}, mixed_since_{};
  double added_row_ = 0, added_of_many_ = 0;
  double prefill_rows_ = 0, prefill_seconds_ = 0, decode_rows_ = 0, decode_seconds_ = 0;
};

}  // namespace fathom
