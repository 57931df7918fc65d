// Byte-pair merging of one word: bytes to token ids.
//
// Built once, then immutable but for a memo of relaxed atomics, and thread-safe. Merging takes O(n log n) for a word
// of n bytes. Source: Sennrich et al. 2016 (1508.07909) as Hugging Face `tokenizers` does it: the pair with the lowest
// rank is merged first, the leftmost among equals.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"

namespace fathom {

class BpeModel {
 public:
  struct Options {
    bool ignore_merges = false;  // a word that is a token is that token, whatever the merges say
    bool byte_fallback = false;  // bytes without a token become <0x..> tokens
    bool fuse_unknown = false;
    TokenId unknown = -1;
  };

  /// The vocabulary must outlive the model. All tokens are in it before the first merge is added.
  BpeModel(const Vocabulary* vocabulary, size_t merge_count, Options options);
  /// The next merge in order of rank. Errors: kCorrupt when one of the three tokens is not in the vocabulary.
  Status AddMerge(std::string_view left_bytes, std::string_view right_bytes);
  /// After the last merge.
  void Finish();

  /// Appends the ids of one word.
  void Encode(std::string_view word, std::vector<TokenId>& out) const;

 private:
  struct Merge {
    uint64_t pair = kNoPair;
    uint32_t rank = 0;
    TokenId merged = -1;
  };
  static constexpr uint64_t kNoPair = ~uint64_t{0};
  static constexpr uint32_t kNoRank = ~uint32_t{0};
  static constexpr size_t kShortWord = 40;

  static uint64_t Pair(TokenId left, TokenId right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  struct Outcome {
    uint32_t rank = kNoRank;
    TokenId merged = -1;
  };
  Outcome FindMerge(TokenId left, TokenId right) const;
  void GrowMerges();
  void FinishTables();
  void Symbols(std::string_view word, std::vector<TokenId>& out) const;
  void MergeShort(std::string_view word, std::vector<TokenId>& out) const;
  void MergeLong(std::string_view word, std::vector<TokenId>& out) const;

  const Vocabulary* vocabulary_;
  Options options_;
  std::vector<Merge> merges_;  // open addressing, power of two, at most half full
  size_t merge_count_ = 0;
  uint32_t next_rank_ = 0;
  std::array<TokenId, 256> byte_ids_{};
  std::array<std::vector<TokenId>, 256> missing_byte_ids_;  // what stands for a byte without a token
  std::vector<Outcome> byte_pairs_;  // [left byte * 256 + right byte]: where every word's merging begins
  // For each token whether a word of its bytes becomes the token itself: a Whole. Most words of running text are one
  // token, so that this saves nearly all merging.
  enum Whole : uint8_t { kNotKnownYet, kItself, kOthers };
  std::unique_ptr<std::atomic<uint8_t>[]> whole_;
};

}  // namespace fathom
