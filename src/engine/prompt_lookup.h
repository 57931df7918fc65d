// Drafts from a sequence's own tokens: where did its last few tokens stand before, and what came after them there? Text
// that repeats what it was given (edits of code, quotations, corrections) is mostly found so ("prompt lookup decoding").
//
// An index of one growing list of tokens, which the caller keeps; adding a token and proposing take constant time. One
// per sequence; not thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "text/tokenizer.h"

namespace fathom {

class PromptLookup {
 public:
  static constexpr int64_t kLeastMatch = 3;  // fewer tokens in common say nothing
  static constexpr int64_t kMostMatch = 32;  // more say no more
  /// Earlier places that are compared; the latest ones.
  static constexpr int32_t kMostPlaces = 32;

  /// Takes in what has been added. REQUIRES: `tokens` begins with those of the last call.
  void Extend(std::span<const TokenId> tokens);

  /// What followed the longest earlier occurrence of the end of `tokens`, the latest of those; at most `most` tokens, none
  /// without an occurrence of kLeastMatch tokens. An occurrence that overlaps the end goes on with itself.
  /// REQUIRES: Extend(tokens) was the last call. Returns how many tokens matched, [kLeastMatch, kMostMatch], or 0.
  int64_t Propose(std::span<const TokenId> tokens, int64_t most, std::vector<TokenId>& out) const;

 private:
  // By the position of their last token: the one before with the same three tokens; -1: none.
  std::vector<int32_t> before_;
  std::unordered_map<uint64_t, int32_t> last_;  // of those three tokens
};

}  // namespace fathom
