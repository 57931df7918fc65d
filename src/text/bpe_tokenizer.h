// The one implementation of Tokenizer, and what its two loaders (tokenizer_json.cc, tokenizer_gguf.cc) fill in.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace fathom {

class BpeTokenizer final : public Tokenizer {
 public:
  /// Everything that a loader knows; Build() checks and completes it.
  struct Parts {
    std::unique_ptr<Vocabulary> vocabulary = std::make_unique<Vocabulary>();  // the model's own tokens, indexed
    std::unique_ptr<BpeModel> model;
    PreTokenizer pre_tokenizer;
    std::vector<NormalForm> normal_forms;
    AddedTokens added;
    TokenId bos = -1, eos = -1;
    bool add_bos = false;
    std::vector<TokenId> end_of_generation;  // besides eos and the tokens known by name
  };
  static std::unique_ptr<Tokenizer> Build(Parts parts);

  using Tokenizer::Encode;
  void Encode(std::string_view text, TextTrust trust, std::vector<TokenId>& out) const override;
  std::string_view TokenBytes(TokenId id) const override { return parts_.vocabulary->Bytes(id); }
  bool IsControl(TokenId id) const override { return parts_.vocabulary->Has(id, Vocabulary::kControl); }
  bool IsEndOfGeneration(TokenId id) const override {
    return parts_.vocabulary->Has(id, Vocabulary::kEndOfGeneration);
  }
  TokenId FindToken(std::string_view text) const override;
  int32_t vocab_size() const override { return parts_.vocabulary->size(); }
  TokenId bos_id() const override { return parts_.bos; }
  TokenId eos_id() const override { return parts_.eos; }
  bool add_bos() const override { return parts_.add_bos; }

 private:
  explicit BpeTokenizer(Parts parts) : parts_(std::move(parts)) {}
  std::string Normalized(std::string_view text) const;
  void EncodePlain(std::string_view text, std::vector<TokenId>& out) const;

  Parts parts_;
};

/// Adds a token to both the list of added tokens and the vocabulary (where it may be already), with the flags that its
/// class asks for. A token that the model has as a word keeps its id but, when guarded, is no longer a word.
/// REQUIRES: the id was counted in Vocabulary::Reserve().
Status AddAddedToken(AddedToken token, BpeTokenizer::Parts& parts);

/// Gives the tokens named as BOS, EOS or end of generation their flags; added tokens among them become control tokens
/// whatever the file says of them. After all tokens are in and before the first merge.
void MarkNamedTokens(BpeTokenizer::Parts& parts);

Result<std::unique_ptr<Tokenizer>> LoadTokenizerJson(const TokenizerSpec& spec);
Result<std::unique_ptr<Tokenizer>> LoadTokenizerGguf(const TokenizerSpec& spec);

}  // namespace fathom
