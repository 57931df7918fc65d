// Making a vocabulary: byte-level BPE over the words of the deepseek-v3 pre-tokeniser, written as a Hugging Face
// tokenizer.json that this engine and `tokenizers` load alike.
//
// Words are counted first (in parallel; memory is that of the different words, and bounded), then merged: the most
// frequent pair becomes a token until the vocabulary is full. Of equally frequent pairs the one with the lower ids
// wins, as in Hugging Face `tokenizers`; so the result depends on the text alone, not on threads or machine. Source:
// Sennrich et al. 2016 (1508.07909). Not thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.h"
#include "text/pre_tokenizer.h"

namespace fathom {

struct TokenizerTrainOptions {
  int32_t vocab_size = 4096;      // with the special tokens
  int64_t min_frequency = 2;      // of a pair, to become a token
  bool single_digits = false;     // every digit a token of its own
  std::vector<std::string> special;  // more control tokens, after those of the deepseek-v3.1 format
  int threads = 1;
  size_t max_words = 8'000'000;   // different words; above it the rarest are forgotten
  /// Called now and then while merging, with tokens made and wanted; false ends the work with kCancelled.
  std::function<bool(int64_t done, int64_t total)> progress;
};

struct TrainedTokenizer {
  std::vector<std::string> tokens;  // bytes, by id: 256 bytes, then merged ones; ids begin after the first specials
  std::vector<std::pair<std::string, std::string>> merges;  // bytes
  std::vector<std::string> first_special;  // ids 0, 1, 2
  std::vector<std::string> last_special;   // ids after the tokens

  int32_t vocab_size() const {
    return static_cast<int32_t>(first_special.size() + tokens.size() + last_special.size());
  }
  std::string TokenizerJson() const;
  /// With a chat template of the deepseek-v3.1 format. REQUIRES: max_length > 0.
  std::string TokenizerConfigJson(int64_t max_length) const;
};

class TokenizerTrainer {
 public:
  static constexpr int32_t kMaxVocab = 1 << 20;

  /// Errors: kInvalidArgument for a vocabulary too small for bytes and marks, or a special token that is empty or twice.
  static Result<TokenizerTrainer> Create(TokenizerTrainOptions options);

  /// Counts the words of the texts, each of which is split on its own.
  void Add(const std::vector<std::string>& texts);
  size_t words() const { return counts_.size(); }
  /// True when words were forgotten to bound the memory; the result is then not exact.
  bool forgot() const { return forgot_; }

  /// Once, after the last Add(). The vocabulary is smaller than asked for when the text has too few pairs.
  Result<TrainedTokenizer> Train();

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  using Counts = std::unordered_map<std::string, int64_t, Hash, std::equal_to<>>;

  explicit TokenizerTrainer(TokenizerTrainOptions options) : options_(std::move(options)) {}
  void Forget();

  TokenizerTrainOptions options_;
  PreTokenizer pre_tokenizer_;
  Counts counts_;
  bool forgot_ = false;
  bool told_of_threads_ = false;  // that there are fewer than asked for
};

}  // namespace fathom
