#include "engine/sequence_drafts.h"

#include <algorithm>

namespace fathom {

std::optional<DraftOffer> SequenceDrafts::Offer(std::span<const TokenId> tokens, int64_t most, MtpContext* context) {
  Drop();
  most = std::min(most, kMostDraft);
  if (most < 1 || mode_ == SpeculationMode::kOff) return std::nullopt;
  std::optional<DraftOffer> best;
  if (mode_ != SpeculationMode::kMtp) {
    lookup_.Extend(tokens);
    if (const int64_t matched = lookup_.Propose(tokens, most, guess_); matched > 0) {
      best = {.drafter = Drafter::kLookup,
              .draft_class = LookupClass(matched),
              .most = static_cast<int64_t>(guess_.size())};
      best->probability = acceptance_.Probability(best->drafter, best->draft_class);
    }
  }
  if (drafter_ != nullptr && context != nullptr && context->Ready(static_cast<int64_t>(tokens.size()))) {
    DraftOffer offer{.drafter = Drafter::kMtp, .most = std::min(most, kMostMtpDraft), .seconds = drafter_->seconds()};
    offer.probability = acceptance_.Probability(offer.drafter, offer.draft_class);
    if (!best || offer.probability > best->probability) {
      best = offer;
      guess_.clear();
    }
  }
  context_ = context;
  if (best) offer_ = *best;
  return best;
}

void SequenceDrafts::Plan(int64_t count, std::vector<MtpDrafter::Job>& jobs) {
  planned_ = count;
  if (count < 1) return;
  if (offer_.drafter == Drafter::kMtp) {
    jobs.push_back({.context = context_, .most = count, .draft = &guess_});
  } else {
    guess_.resize(static_cast<size_t>(std::min(count, static_cast<int64_t>(guess_.size()))));
  }
}

bool SequenceDrafts::Take() {
  if (planned_ < 1) return false;
  taken_ = static_cast<int64_t>(guess_.size());
  if (taken_ > 0) return true;
  // The layer was too unsure of itself: to the planner that is a guess in vain.
  acceptance_.Add(offer_.drafter, offer_.draft_class, 1, 0);
  planner_->AddDraft(offer_, 1, 0);
  planned_ = 0;
  return false;
}

void SequenceDrafts::Drop() {
  planned_ = taken_ = 0;
  guess_.clear();
}

void SequenceDrafts::Settle(int64_t accepted) {
  if (taken_ > 0) {
    acceptance_.Add(offer_.drafter, offer_.draft_class, taken_, accepted);
    planner_->AddDraft(offer_, taken_, accepted);
    drafted_ += taken_;
    accepted_ += accepted;
  }
  Drop();
}

}  // namespace fathom
