#include "engine/prompt_lookup.h"

#include <algorithm>

namespace fathom {
namespace {

// Vocabularies are smaller than 2^21, so that this names three tokens exactly.
uint64_t Key(std::span<const TokenId> tokens, size_t last) {
  const auto id = [&](size_t i) { return static_cast<uint64_t>(static_cast<uint32_t>(tokens[i]) & 0x1fffff); };
  return id(last - 2) << 42 | id(last - 1) << 21 | id(last);
}

}  // namespace

void PromptLookup::Extend(std::span<const TokenId> tokens) {
  for (size_t i = before_.size(); i < tokens.size(); ++i) {
    int32_t before = -1;
    if (i + 1 >= kLeastMatch) {
      const auto [entry, fresh] = last_.try_emplace(Key(tokens, i), static_cast<int32_t>(i));
      if (!fresh) before = std::exchange(entry->second, static_cast<int32_t>(i));
    }
    before_.push_back(before);
  }
}

int64_t PromptLookup::Propose(std::span<const TokenId> tokens, int64_t most, std::vector<TokenId>& out) const {
  out.clear();
  if (tokens.empty() || tokens.size() != before_.size() || most <= 0) return 0;
  const auto end = static_cast<int64_t>(tokens.size()) - 1;
  int64_t best = 0, place = -1;
  int32_t compared = 0;
  for (int64_t at = before_.back(); at >= 0 && compared < kMostPlaces && best < kMostMatch; at = before_[at], ++compared) {
    int64_t matched = 0;
    while (matched < kMostMatch && matched <= at && tokens[at - matched] == tokens[end - matched]) ++matched;
    if (matched > best) best = matched, place = at;
  }
  if (best < kLeastMatch) return 0;
  for (int64_t i = 0; i < most; ++i) {
    const int64_t from = place + 1 + i;
    out.push_back(from <= end ? tokens[from] : out[from - end - 1]);
  }
  return best;
}

}  // namespace fathom
