// Splitting a text into the words that BPE merges inside of: a chain of steps, each splitting the pieces of the last.
//
// The steps are those of Hugging Face `tokenizers` that byte-level vocabularies use. Immutable and thread-safe.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/regex.h"
#include "text/unicode.h"

namespace fathom {

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

class PreTokenizer {
 public:
  static constexpr size_t kMaxSteps = 64;

  /// Splits by a pattern (see regex.h). Errors: those of SplitRegex::Compile.
  Status AddSplit(std::string_view pattern, SplitBehavior behavior, bool invert);
  void AddSplit(const CodePointSet& set, SplitBehavior behavior);
  /// Words and runs of other characters; white space is left out.
  void AddWhitespace();
  /// The step that every chain here ends in: to bytes; with use_regex first split by GPT-2's pattern.
  Status AddByteLevel(bool add_prefix_space, bool use_regex);
  bool byte_level() const { return byte_level_; }
  size_t steps() const { return steps_.size(); }

  /// Calls word() for each piece in order. Pieces are parts of `text`, but for a space that ByteLevel may prepend.
  void Split(std::string_view text, FunctionRef<void(std::string_view)> word) const { Run(0, text, word); }

 private:
  struct Step {
    std::shared_ptr<const SplitRegex> regex;  // null: prepend a space where there is none
    SplitBehavior behavior = SplitBehavior::kIsolated;
    bool invert = false;
  };
  void Run(size_t step, std::string_view piece, FunctionRef<void(std::string_view)> word) const;

  std::vector<Step> steps_;
  bool byte_level_ = false;
};

/// The chain that a GGUF file's tokenizer.ggml.pre names, and what else the name implies.
struct NamedPreTokenizer {
  PreTokenizer chain;
  std::vector<NormalForm> normal_forms;
  bool ignore_merges = false;
  bool add_bos = false;
};
/// Errors: kUnsupported for an unknown name; the message lists the known ones.
Result<NamedPreTokenizer> PreTokenizerByName(std::string_view name);
/// One name of each kind, the commonest where several mean the same.
std::vector<std::string_view> PreTokenizerNames();

}  // namespace fathom
