#include "engine/sequence_drafts.h"

#include <algorithm>

namespace fathom {

std::optional<DraftOffer> SequenceDrafts::Offer(std::span<const TokenId> tokens, int64_t most) {
  taken_ = 0;
  guess_.clear();
  if (mode_ == SpeculationMode::kOff || mode_ == SpeculationMode::kMtp) return std::nullopt;
  lookup_.Extend(tokens);
  const int64_t matched = lookup_.Propose(tokens, std::min(most, kMostDraft), guess_);
  if (matched == 0) return std::nullopt;
  offer_ = {.drafter = Drafter::kLookup,
            .draft_class = LookupClass(matched),
            .most = static_cast<int64_t>(guess_.size())};
  offer_.probability = acceptance_.Probability(offer_.drafter, offer_.draft_class);
  return offer_;
}

void SequenceDrafts::Take(int64_t count) { taken_ = std::clamp<int64_t>(count, 0, static_cast<int64_t>(guess_.size())); }

void SequenceDrafts::Settle(int64_t accepted) {
  if (taken_ > 0) {
    acceptance_.Add(offer_.drafter, offer_.draft_class, taken_, accepted);
    planner_->AddDraft(offer_, taken_, accepted);
    drafted_ += taken_;
    accepted_ += accepted;
  }
  taken_ = 0;
}

}  // namespace fathom
