// When and how far to speculate: policy of drafts, without model, memory or clock of its own.
//
// A step of answers may carry, behind each answer's one row, rows of a draft: tokens that somebody guesses will come. The
// sampler then draws at every row as it would have one step at a time, and what it draws after the first wrong guess does
// not exist. So an answer is the same with and without drafts, whatever is guessed; only its speed differs (speculative
// decoding, arXiv 2211.17192, with a sampler that is coupled to the sequential one instead of one that corrects).
//
// What more rows cost is measured by their number, how often guesses were right is measured by drafter, by the sign that
// the drafter gives of its own certainty (a class of drafts) and by sequence. A row joins while it raises the expected
// tokens a second. One that reads experts from disk counts those reads too. What is not worth it is tried again now and
// then, ever more seldom while it goes on not being worth it.
//
// Deterministic, except that costs are measured. Not thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace fathom {

enum class SpeculationMode { kOff, kAuto, kLookup, kMtp };
/// "off", "auto", "lookup", "mtp".
std::optional<SpeculationMode> ParseSpeculationMode(std::string_view name);

enum class Drafter { kLookup, kMtp };
inline constexpr int kDrafters = 2;
inline constexpr int64_t kMostDraft = 16;    // tokens of one draft
inline constexpr int64_t kMostMtpDraft = 4;  // of the MTP layer, which was trained to guess one

/// Drafts that are about equally good: of lookups by how many tokens matched; the MTP layer's are all in the first.
inline constexpr int kDraftClasses = 8;
int LookupClass(int64_t matched);

/// How often a guess was right when those before it were, by class, of late.
class Acceptance {
 public:
  /// What is assumed until something is known: `parent` (which outlives this), or fixed values.
  explicit Acceptance(const Acceptance* parent = nullptr) : parent_(parent) {}
  void Add(Drafter drafter, int draft_class, int64_t drafted, int64_t accepted);
  double Probability(Drafter drafter, int draft_class) const;

 private:
  struct Count {
    double tried = 0, right = 0;
  };
  const Acceptance* parent_;
  std::array<std::array<Count, kDraftClasses>, kDrafters> counts_{};
};

/// What a step of so many rows of answers takes.
class StepCosts {
 public:
  static constexpr int64_t kMostRows = 128;
  void Add(int64_t rows, double seconds);
  /// Measured; between what was measured in a straight line; beyond it, and when only one count was seen, with what a
  /// row is assumed to add. 0: nothing was measured.
  double Seconds(int64_t rows) const;
  bool Measured(int64_t rows) const { return rows >= 1 && rows <= kMostRows && seconds_[static_cast<size_t>(rows)] > 0; }

 private:
  std::array<double, kMostRows + 1> seconds_{};
};

/// A draft that a sequence could have.
struct DraftOffer {
  Drafter drafter = Drafter::kLookup;
  int draft_class = 0;
  double probability = 0;     // of each guess, when those before it are right
  int64_t most = 0;           // tokens at most
  double seconds = 0;         // that guessing a token takes
};

struct DraftState {
  int64_t answers = 0;              // rows of the step that are not drafts
  double other_seconds = 0;         // what rows of prompts add to this step
  int64_t most_rows = 0;            // drafts' rows that the step has room for
  double disk_bytes_per_row = 0;    // that a further row will have read, expected
  double disk_bytes_per_second = 0;
};

class DraftPlanner {
 public:
  /// forced: > 0: so many tokens of every offer, whatever they cost (tests, measurements).
  explicit DraftPlanner(int64_t forced = 0) : forced_(forced) {}

  /// How many tokens of each offer this step should take.
  std::vector<int64_t> Plan(const DraftState& state, std::span<const DraftOffer> offers);
  /// The probability of being right below which a guess is not worth its row in a step of so many answers.
  double LeastSure(int64_t answers) const;
  /// A step without rows of prompts: how many rows of answers and drafts it had, how many answers, and its seconds.
  void AddStep(int64_t answers, int64_t rows, double seconds);
  /// What was made of a draft.
  void AddDraft(const DraftOffer& offer, int64_t drafted, int64_t accepted);
  /// Over all sequences.
  const Acceptance& acceptance() const { return acceptance_; }
  const StepCosts& costs() const { return costs_; }

  /// Drafts must promise so much more than going without them.
  static constexpr double kLeastGain = 1.03;
  /// A plain step is had at least so often, so that its cost is known.
  static constexpr int64_t kPlainEvery = 64;
  /// What seems not worth it is tried again after so many steps, up to so many.
  static constexpr int64_t kFirstProbe = 32, kSeldomProbe = 512;

 private:
  std::vector<int64_t> Best(const DraftState& state, std::span<const DraftOffer> offers, double& gain) const;

  int64_t forced_;
  Acceptance acceptance_;
  StepCosts costs_;
  int64_t since_plain_ = 0;  // steps with drafts
  int64_t since_draft_ = 0;  // steps that could have had drafts and did not
  int64_t probe_after_ = kFirstProbe;
};

}  // namespace fathom
