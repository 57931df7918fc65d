#include "text/tokenizer.h"

#include "text/bpe_tokenizer.h"
#include "text/unicode.h"

namespace fathom {

Result<std::unique_ptr<Tokenizer>> Tokenizer::Create(const TokenizerSpec& spec) {
  if (!spec.tokenizer_json.empty()) return LoadTokenizerJson(spec);
  if (!spec.ggml_model.empty() || !spec.tokens.empty()) return LoadTokenizerGguf(spec);
  return Fail(ErrorCode::kNotFound, "the model has no tokenizer (no tokenizer.json, no tokenizer.ggml.model)");
}

std::string Tokenizer::Decode(std::span<const TokenId> ids, bool keep_control) const {
  std::string bytes, text;
  for (TokenId id : ids) {
    if (keep_control || !IsControl(id)) bytes += TokenBytes(id);
  }
  SanitizeUtf8(bytes, /*at_end=*/true, text);
  return text;
}

std::string StreamingDetokenizer::Push(TokenId id) {
  std::string text;
  if (tokenizer_->IsControl(id)) return text;
  pending_ += tokenizer_->TokenBytes(id);
  pending_.erase(0, SanitizeUtf8(pending_, /*at_end=*/false, text));
  return text;
}

std::string StreamingDetokenizer::Flush() {
  std::string text;
  SanitizeUtf8(pending_, /*at_end=*/true, text);
  pending_.clear();
  return text;
}

Status AddAddedToken(AddedToken token, BpeTokenizer::Parts& parts) {
  Vocabulary& vocabulary = *parts.vocabulary;
  uint8_t flags = Vocabulary::kAdded;
  if (token.token_class != TokenClass::kPlain) flags |= Vocabulary::kGuarded;
  if (token.token_class == TokenClass::kControl) {
    flags |= Vocabulary::kControl;
    if (NamesEndOfGeneration(token.text)) flags |= Vocabulary::kEndOfGeneration;
  }
  if (vocabulary.Has(token.id, Vocabulary::kPresent)) {
    if (vocabulary.Bytes(token.id) != token.text) {
      return Fail(ErrorCode::kCorrupt, "token id {} is \"{}\" and \"{}\"", token.id, vocabulary.Bytes(token.id),
                  token.text);
    }
    vocabulary.SetFlags(token.id, flags, token.token_class == TokenClass::kPlain ? 0 : Vocabulary::kWord);
  } else {
    FATHOM_CHECK_OK(vocabulary.Add(token.id, token.text, flags));
  }
  parts.added.Add(std::move(token));
  return {};
}

void MarkNamedTokens(BpeTokenizer::Parts& parts) {
  Vocabulary& vocabulary = *parts.vocabulary;
  const auto mark = [&](TokenId id, uint8_t flags) {
    if (!vocabulary.Has(id, Vocabulary::kPresent)) return;
    const bool added = vocabulary.Has(id, Vocabulary::kAdded);
    if (added) {
      parts.added.MakeControl(id);
      flags |= Vocabulary::kControl | Vocabulary::kGuarded;
    }
    vocabulary.SetFlags(id, flags, added ? Vocabulary::kWord : 0);
  };
  mark(parts.bos, 0);
  mark(parts.eos, Vocabulary::kEndOfGeneration);
  for (TokenId id : parts.end_of_generation) mark(id, Vocabulary::kEndOfGeneration);
}

std::unique_ptr<Tokenizer> BpeTokenizer::Build(Parts parts) {
  std::unique_ptr<BpeTokenizer> tokenizer(new BpeTokenizer(std::move(parts)));
  tokenizer->parts_.added.Finish([&](std::string_view text) { return tokenizer->Normalized(text); });
  return tokenizer;
}

std::string BpeTokenizer::Normalized(std::string_view text) const {
  std::string out(text);
  for (NormalForm form : parts_.normal_forms) out = Normalize(out, form);
  return out;
}

TokenId BpeTokenizer::FindToken(std::string_view text) const {
  if (const AddedToken* token = parts_.added.FindByText(text)) return token->id;
  return parts_.vocabulary->Find(text);
}

void BpeTokenizer::EncodePlain(std::string_view text, std::vector<TokenId>& out) const {
  parts_.pre_tokenizer.Split(text, [&](std::string_view word) { parts_.model->Encode(word, out); });
}

void BpeTokenizer::Encode(std::string_view text, TextTrust trust, std::vector<TokenId>& out) const {
  const auto push = [&](TokenId id) { out.push_back(id); };
  const auto after_normalizer = [&](std::string_view part) {
    const auto plain = [&](std::string_view text_between) { EncodePlain(text_between, out); };
    parts_.added.Split(part, /*normalized=*/true, trust, plain, push);
  };
  parts_.added.Split(text, /*normalized=*/false, trust, [&](std::string_view part) {
    if (parts_.normal_forms.empty()) after_normalizer(part);
    else after_normalizer(Normalized(part));
  }, push);
}

}  // namespace fathom
