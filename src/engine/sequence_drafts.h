// The drafts of one answer: what it could guess next, the guess of the step at hand, and how guesses fared. What a lone
// Session and a batch have in common. Internal to engine/.
//
// One per answer; not thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/mtp_drafter.h"
#include "engine/prompt_lookup.h"
#include "engine/speculation.h"

namespace fathom {

class SequenceDrafts {
 public:
  /// What passed by reference or pointer outlives this. drafter: nullptr without an MTP layer.
  SequenceDrafts(DraftPlanner& planner, SpeculationMode mode, MtpDrafter* drafter = nullptr)
      : planner_(&planner), mode_(mode), drafter_(drafter), acceptance_(&planner.acceptance()) {}

  /// What could be guessed after `tokens` (which only grow), at most `most` tokens. context: of the MTP layer, or nullptr.
  std::optional<DraftOffer> Offer(std::span<const TokenId> tokens, int64_t most, MtpContext* context = nullptr);
  /// Wants the first `count` tokens of the last offer. What the MTP layer is to guess is added to `jobs`.
  void Plan(int64_t count, std::vector<MtpDrafter::Job>& jobs);
  /// What was planned, and guessed by now, is in the step. False: that is nothing.
  bool Take();
  /// There is no draft in this step.
  void Drop();
  /// The guesses in the step; empty outside of one.
  std::span<const TokenId> draft() const { return std::span(guess_).first(static_cast<size_t>(taken_)); }
  /// The step is over: so many of them were right.
  void Settle(int64_t accepted);

  int64_t drafted() const { return drafted_; }
  int64_t accepted() const { return accepted_; }

 private:
  DraftPlanner* planner_;
  SpeculationMode mode_;
  MtpDrafter* drafter_;
  Acceptance acceptance_;
  PromptLookup lookup_;
  DraftOffer offer_;
  std::vector<TokenId> guess_;
  MtpContext* context_ = nullptr;
  int64_t planned_ = 0, taken_ = 0;
  int64_t drafted_ = 0, accepted_ = 0;
};

}  // namespace fathom
