// Added tokens: the ones that are found by name in a text before anything is split or merged.
//
// Matching follows Hugging Face `tokenizers`: leftmost, longest; tokens with normalized = false in the text as it came,
// the others in what the normaliser left. Immutable after Finish() and thread-safe.
//
// What user text may become. Three kinds of added tokens are told apart by ClassifyToken(): control tokens (BOS, role
// and tool marks, FIM; whatever the file's `special` flag says, for DeepSeek-V3 marks <｜User｜> as not special) are
// never shown and never recognised in user text; structural marks (<think>, <tool_call>, …) are shown, for parsers of
// the output need them, but not recognised in user text either; the rest (user-defined words, runs of spaces) are plain
// vocabulary and recognised everywhere.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "text/regex.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace fathom {

enum class TokenClass { kPlain, kStructural, kControl };
/// By the token's text and the file's flag. Control: flagged, or of the form <|…|> or <｜…｜> around a letter;
/// but <think>, </think>, <tool_call> and their like are structural even when flagged.
TokenClass ClassifyToken(std::string_view text, bool flagged_special);
/// Names by which published models end a turn or a text (<|im_end|>, <|eot_id|>, <｜end▁of▁sentence｜>, …).
bool NamesEndOfGeneration(std::string_view text);

struct AddedToken {
  std::string text;
  TokenId id = -1;
  TokenClass token_class = TokenClass::kPlain;
  bool lstrip = false, rstrip = false;  // the match takes the white space on that side too
  bool single_word = false;             // no match inside a word
  bool normalized = false;              // matched in normalised text
};

class AddedTokens {
 public:
  /// Of two tokens with one text the first counts.
  void Add(AddedToken token) { tokens_.push_back(std::move(token)); }
  /// A token that a file names as its BOS or the like is a control token whatever else it says.
  void MakeControl(TokenId id);
  /// `normalize` is applied to the text of tokens with normalized = true. Call once, after the last Add().
  void Finish(FunctionRef<std::string(std::string_view)> normalize);
  const std::vector<AddedToken>& tokens() const { return tokens_; }
  const AddedToken* FindByText(std::string_view text) const;

  /// Cuts `text` at the tokens: calls on_text for what is between and on_token for each, in order.
  void Split(std::string_view text, bool normalized, TextTrust trust, FunctionRef<void(std::string_view)> on_text,
             FunctionRef<void(TokenId)> on_token) const;
  bool HasAny(bool normalized, TextTrust trust) const { return !trie(normalized, trust).nodes.empty(); }

 private:
  struct Node {
    uint8_t byte = 0;
    int32_t child = -1, sibling = -1;
    int32_t token = -1;  // index in tokens_
  };
  struct Trie {
    std::vector<Node> nodes;  // 0 is the root
    std::array<bool, 256> starts{};
    void Insert(std::string_view text, int32_t token);
    /// The longest token that begins at pos, or -1.
    int32_t Longest(std::string_view text, size_t pos, size_t& end) const;
  };
  const Trie& trie(bool normalized, TextTrust trust) const { return tries_[normalized][trust == TextTrust::kTrusted]; }

  std::vector<AddedToken> tokens_;
  Trie tries_[2][2];
  FastSet word_, space_;
};

}  // namespace fathom
