// The drafts of one answer: what it could guess next, the guess of the step at hand, and how guesses fared. What a lone
// Session and a batch have in common. Internal to engine/.
//
// One per answer; not thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/prompt_lookup.h"
#include "engine/speculation.h"

namespace fathom {

class SequenceDrafts {
 public:
  /// planner: outlives this.
  SequenceDrafts(DraftPlanner& planner, SpeculationMode mode)
      : planner_(&planner), mode_(mode), acceptance_(&planner.acceptance()) {}

  /// What could be guessed after `tokens` (which only grow), at most `most` tokens.
  std::optional<DraftOffer> Offer(std::span<const TokenId> tokens, int64_t most);
  /// Takes the first `count` tokens of the last offer into the step. 0: none.
  void Take(int64_t count);
  /// The guesses in the step; empty outside of one.
  std::span<const TokenId> draft() const { return std::span(guess_).first(static_cast<size_t>(taken_)); }
  /// The step is over: so many of them were right.
  void Settle(int64_t accepted);

  int64_t drafted() const { return drafted_; }
  int64_t accepted() const { return accepted_; }

 private:
  DraftPlanner* planner_;
  SpeculationMode mode_;
  Acceptance acceptance_;
  PromptLookup lookup_;
  DraftOffer offer_;
  std::vector<TokenId> guess_;
  int64_t taken_ = 0;
  int64_t drafted_ = 0, accepted_ = 0;
};

}  // namespace fathom
