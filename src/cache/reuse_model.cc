#include "cache/reuse_model.h"

#include <algorithm>
#include <cmath>

namespace fathom {
namespace {

/// How many uses' worth of the common rate a class begins with, and of the prior the common rate: what few events say
/// is drawn towards what many do.
constexpr double kShrink = 4;

}  // namespace

ReuseModel::ReuseModel(int classes) : ended_(classes), index_(classes) {
  Rebuild([](const auto&) {}, 1);
}

int ReuseModel::Bin(double age) {
  if (!(age > 0)) return 0;
  return std::min(static_cast<int>(2 * std::log2(age + 1)), kBins - 1);
}

double ReuseModel::Edge(int bin) { return std::exp2(bin / 2.0) - 1; }

void ReuseModel::Count(Tally& tally, double age, bool used) {
  const int bin = Bin(age);
  tally.ended[bin] += 1;
  tally.seconds[bin] += std::clamp(age - Edge(bin), 0.0, Width(bin));
  if (used) tally.used[bin] += 1;
  ++fresh_;
}

void ReuseModel::Rebuild(const std::function<void(const std::function<void(int, double)>&)>& for_each_here,
                         double fade) {
  std::vector<Tally> all = ended_;
  for_each_here([&](int cls, double age) { Count(all[cls], age, false); });
  // Uses, and seconds watched, by class and bin.
  std::vector<Rates> uses(all.size()), watched(all.size());
  Rates all_uses{}, all_watched{};
  for (size_t c = 0; c < all.size(); ++c) {
    double beyond = 0;  // entries that lived through the whole bin
    for (int b = kBins - 1; b >= 0; --b) {
      uses[c][b] = all[c].used[b];
      watched[c][b] = beyond * Width(b) + all[c].seconds[b];
      beyond += all[c].ended[b];
      all_uses[b] += uses[c][b];
      all_watched[b] += watched[c][b];
    }
  }
  for (size_t c = 0; c < all.size(); ++c) {
    Rates rate;
    for (int b = 0; b < kBins; ++b) {
      // Before anything is known the rate is 1 / (4 * age): half the entries are used again before 16 times the age.
      const double prior = 0.25 / (Edge(b) + Width(b));
      const double common = (all_uses[b] + kShrink) / (all_watched[b] + kShrink / prior);
      rate[b] = (uses[c][b] + kShrink) / (watched[c][b] + kShrink / common);
    }
    index_[c] = IndexOf(rate);
  }
  for (Tally& tally : ended_) {
    for (int b = 0; b < kBins; ++b) tally.used[b] *= fade, tally.ended[b] *= fade, tally.seconds[b] *= fade;
  }
  fresh_ = 0;
}

ReuseModel::Rates ReuseModel::IndexOf(const Rates& rate) {
  Rates index{};
  for (int from = 0; from < kBins; ++from) {
    double alive = 1, time = 0;
    for (int b = from; b < kBins && alive > 1e-9; ++b) {
      const double survives = std::exp(-rate[b] * Width(b));
      time += rate[b] > 0 ? alive * (1 - survives) / rate[b] : alive * Width(b);
      alive *= survives;
      if (time > 0) index[from] = std::max(index[from], (1 - alive) / time);
    }
  }
  return index;
}

}  // namespace fathom
