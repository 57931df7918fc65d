// How sure a score is: 95 % confidence intervals for shares and for averages of shares.
//
// Pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <span>

namespace fathom {

/// A score in [0, 1] with its 95 % confidence interval, from n items.
struct Estimate {
  double value = 0;
  double low = 0, high = 1;
  int64_t n = 0;
};

/// The Wilson score interval (Wilson, JASA 22, 1927) of a share. For scores between 0 and 1 that are not all 0 or 1 it
/// is on the safe side, as their variance is at most mean (1 - mean). n = 0: nothing is known, [0, 1].
Estimate WilsonInterval(double sum, int64_t n);

/// The unweighted mean of independent estimates, its interval by variance recovered from theirs (MOVER; Zou & Donner,
/// Statistics in Medicine 27, 2008). Estimates of n = 0 are left out; n is the sum.
Estimate MeanOfEstimates(std::span<const Estimate> parts);

}  // namespace fathom
