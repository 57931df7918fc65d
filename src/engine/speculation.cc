#include "engine/speculation.h"

#include <algorithm>
#include <cmath>

namespace fathom {
namespace {

constexpr double kBlend = 0.2;       // of a new measurement
constexpr double kRowShare = 0.3;    // that a row adds to a step of one, until it was measured
constexpr double kMemory = 64, kOwnMemory = 16;  // guesses of a class that are remembered, of all and of one sequence
constexpr double kPriorWeight = 1.5;  // what the assumption counts for, in guesses
constexpr int64_t kProbeRows = 2;    // of a draft that is only to find out

// Before anything is known.
constexpr std::array<std::array<double, kDraftClasses>, kDrafters> kAssumed = {{
    {0.3, 0.4, 0.5, 0.65, 0.75, 0.85, 0.9, 0.9},
    {0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6},
}};

}  // namespace

std::optional<SpeculationMode> ParseSpeculationMode(std::string_view name) {
  if (name == "off") return SpeculationMode::kOff;
  if (name == "auto") return SpeculationMode::kAuto;
  if (name == "lookup") return SpeculationMode::kLookup;
  if (name == "mtp") return SpeculationMode::kMtp;
  return std::nullopt;
}

int LookupClass(int64_t matched) {
  constexpr std::array<int64_t, kDraftClasses - 1> kBounds = {4, 5, 7, 10, 16, 24, 32};
  int result = 0;
  while (result < kDraftClasses - 1 && matched >= kBounds[static_cast<size_t>(result)]) ++result;
  return result;
}

void Acceptance::Add(Drafter drafter, int draft_class, int64_t drafted, int64_t accepted) {
  if (drafted <= 0) return;
  Count& count = counts_[static_cast<size_t>(drafter)][static_cast<size_t>(draft_class)];
  count.tried += static_cast<double>(std::min(drafted, accepted + 1));  // after the first wrong one nothing was tried
  count.right += static_cast<double>(accepted);
  if (const double most = parent_ != nullptr ? kOwnMemory : kMemory; count.tried > most) {
    const double keep = most / count.tried;
    count.tried *= keep;
    count.right *= keep;
  }
}

double Acceptance::Probability(Drafter drafter, int draft_class) const {
  const auto d = static_cast<size_t>(drafter), c = static_cast<size_t>(draft_class);
  const double assumed = parent_ != nullptr ? parent_->Probability(drafter, draft_class) : kAssumed[d][c];
  const Count& count = counts_[d][c];
  return std::min(0.99, (count.right + kPriorWeight * assumed) / (count.tried + kPriorWeight));
}

void StepCosts::Add(int64_t rows, double seconds) {
  if (rows < 1 || rows > kMostRows || !(seconds > 0)) return;
  double& mean = seconds_[static_cast<size_t>(rows)];
  // Upward in bounds: a step that the machine interrupted says little.
  mean = mean <= 0 ? seconds : mean + kBlend * (std::min(seconds, 2 * mean) - mean);
}

double StepCosts::Seconds(int64_t rows) const {
  rows = std::max<int64_t>(rows, 1);
  if (Measured(rows)) return seconds_[static_cast<size_t>(rows)];
  int64_t below = std::min(rows, kMostRows + 1) - 1, above = rows + 1;
  while (below >= 1 && !Measured(below)) --below;
  while (above <= kMostRows && !Measured(above)) ++above;
  if (above > kMostRows) above = 0;
  if (below < 1 && above == 0) return 0;
  const auto at = [&](int64_t r) { return seconds_[static_cast<size_t>(r)]; };
  if (below >= 1 && above > 0) {
    return at(below) + (at(above) - at(below)) * static_cast<double>(rows - below) / static_cast<double>(above - below);
  }
  if (below < 1) return at(above);  // fewer rows take no longer
  int64_t least = 1;
  while (!Measured(least)) ++least;
  double slope = kRowShare * at(least) / static_cast<double>(least);
  if (least < below) slope = std::max(0.0, (at(below) - at(least)) / static_cast<double>(below - least));
  return at(below) + slope * static_cast<double>(rows - below);
}

// Rows in the order of how probable they are; the number of them that gives most tokens a second.
std::vector<int64_t> DraftPlanner::Best(const DraftState& state, std::span<const DraftOffer> offers, double& gain) const {
  std::vector<int64_t> rows(offers.size(), 0), best(offers.size(), 0);
  std::vector<double> next(offers.size());
  for (size_t i = 0; i < offers.size(); ++i) next[i] = offers[i].probability;
  const double row_seconds =
      state.disk_bytes_per_second > 0 ? state.disk_bytes_per_row / state.disk_bytes_per_second : 0;
  const double plain = static_cast<double>(state.answers) / (costs_.Seconds(state.answers) + state.other_seconds);
  double tokens = static_cast<double>(state.answers), extra = 0, best_rate = plain;
  const int64_t room = std::min(state.most_rows, StepCosts::kMostRows - state.answers);
  for (int64_t added = 1; added <= room; ++added) {
    size_t choice = offers.size();
    for (size_t i = 0; i < offers.size(); ++i) {
      if (rows[i] < offers[i].most && (choice == offers.size() || next[i] > next[choice])) choice = i;
    }
    if (choice == offers.size() || next[choice] < 0.02) break;
    ++rows[choice];
    tokens += next[choice];
    next[choice] *= offers[choice].probability;
    extra += row_seconds + offers[choice].seconds;
    const double rate = tokens / (costs_.Seconds(state.answers + added) + state.other_seconds + extra);
    if (rate > best_rate) best_rate = rate, best = rows;
  }
  gain = best_rate / plain;
  return best;
}

std::vector<int64_t> DraftPlanner::Plan(const DraftState& state, std::span<const DraftOffer> offers) {
  std::vector<int64_t> none(offers.size(), 0);
  if (offers.empty() || state.answers < 1 || state.most_rows < 1) return none;
  if (forced_ > 0) {
    int64_t room = state.most_rows;
    for (size_t i = 0; i < offers.size(); ++i) room -= none[i] = std::min({forced_, offers[i].most, room});
    return none;
  }
  if (costs_.Seconds(state.answers) <= 0 || since_plain_ >= kPlainEvery) return none;
  double gain = 1;
  std::vector<int64_t> best = Best(state, offers, gain);
  if (gain >= kLeastGain) {
    since_draft_ = 0;
    return best;
  }
  if (++since_draft_ < probe_after_) return none;
  // Find out what one short draft does, unless the disk speaks against it.
  since_draft_ = 0;
  probe_after_ = std::min(2 * probe_after_, kSeldomProbe);
  const double reads =
      state.disk_bytes_per_second > 0 ? state.disk_bytes_per_row / state.disk_bytes_per_second : 0;
  if (reads > costs_.Seconds(state.answers) / 2) return none;
  const auto likeliest = std::max_element(offers.begin(), offers.end(), [](const DraftOffer& a, const DraftOffer& b) {
    return a.probability < b.probability;
  });
  none[static_cast<size_t>(likeliest - offers.begin())] = std::min({kProbeRows, likeliest->most, state.most_rows});
  return none;
}

double DraftPlanner::LeastSure(int64_t answers) const {
  const double now = costs_.Seconds(answers);
  if (forced_ > 0 || answers < 1 || now <= 0) return 0;
  const double row = costs_.Seconds(answers + 1) - now;
  return std::clamp(row / (now / static_cast<double>(answers)), 0.05, 0.9);
}

void DraftPlanner::AddStep(int64_t answers, int64_t rows, double seconds) {
  costs_.Add(rows, seconds);
  since_plain_ = rows > answers ? since_plain_ + 1 : 0;
}

void DraftPlanner::AddDraft(const DraftOffer& offer, int64_t drafted, int64_t accepted) {
  acceptance_.Add(offer.drafter, offer.draft_class, drafted, accepted);
  if (drafted > 0 && accepted == drafted) probe_after_ = kFirstProbe;
}

}  // namespace fathom
