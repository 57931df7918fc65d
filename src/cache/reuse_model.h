// How soon, if at all, a block will be used again, learned from what happened to others: survival analysis of the times
// between uses.
//
// Entries of a class behave alike (the policy says what a class is). For every class the model knows, by age since the
// last use in half-octave bins, how many uses came and how long entries were watched without one; what was evicted or
// is still here counts as watched until then and no longer. That gives a rate of use by age, and of it
//
//   Index(class, age) = max over t of  P(used within t) / E[time until used or t]
//
// the greatest rate of hits per second of room given that keeping the entry on can bring (Gittins' index: to keep those
// with the greatest is the best order when entries are independent). Old events fade. Plain, not thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

namespace fathom {

class ReuseModel {
 public:
  explicit ReuseModel(int classes);

  /// An entry of `cls` was used (or else: went away) `age` seconds after its last use.
  void Used(int cls, double age) { Count(ended_[cls], age, true); }
  void Gone(int cls, double age) { Count(ended_[cls], age, false); }

  /// Learns from the events so far and from those still here: for_each_here calls its argument with the class and age
  /// of each. Then old events fade by `fade`.
  void Rebuild(const std::function<void(const std::function<void(int cls, double age)>&)>& for_each_here, double fade);
  /// Hits per second. >= 0; falls with age before anything is known.
  double Index(int cls, double age) const { return index_[cls][Bin(age)]; }
  /// Events since the last Rebuild().
  int64_t fresh() const { return fresh_; }

 private:
  static constexpr int kBins = 48;  // bin b: [2^(b/2) - 1, 2^((b+1)/2) - 1) seconds; the last one is open
  struct Tally {
    std::array<double, kBins> used{}, ended{}, seconds{};  // seconds: within their last bin
  };
  using Rates = std::array<double, kBins>;

  static int Bin(double age);
  static double Edge(int bin);
  static double Width(int bin) { return Edge(bin + 1) - Edge(bin); }
  void Count(Tally& tally, double age, bool used);
  static Rates IndexOf(const Rates& rate);

  std::vector<Tally> ended_;
  std::vector<Rates> index_;
  int64_t fresh_ = 0;
};

}  // namespace fathom
