// From GGUF metadata (tokenizer.ggml.*) to a Tokenizer. Field names: GGUF specification, "Tokenizer".
#include <algorithm>

#include "text/bpe_tokenizer.h"

namespace fathom {
namespace {

constexpr int32_t kNormal = 1, kUnknown = 2, kControlType = 3, kUserDefined = 4, kUnused = 5, kByteType = 6;

Status CheckId(TokenId id, size_t count, std::string_view field) {
  if (id < -1 || id >= static_cast<int64_t>(count)) {
    return Fail(ErrorCode::kCorrupt, "tokenizer.ggml.{}: token id {} is not in the vocabulary of {}", field, id, count);
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> LoadTokenizerGguf(const TokenizerSpec& spec) {
  if (spec.ggml_model != "gpt2") {
    return Fail(ErrorCode::kUnsupported,
                "tokenizer.ggml.model: \"{}\" vocabularies are not supported (only byte-level BPE, \"gpt2\")",
                spec.ggml_model.substr(0, 64));
  }
  if (spec.tokens.empty()) return Fail(ErrorCode::kCorrupt, "tokenizer.ggml.tokens: missing or empty");
  if (!spec.token_types.empty() && spec.token_types.size() != spec.tokens.size()) {
    return Fail(ErrorCode::kCorrupt, "tokenizer.ggml.token_type: {} entries for {} tokens", spec.token_types.size(),
                spec.tokens.size());
  }
  const size_t count = spec.tokens.size();
  FATHOM_CHECK_OK(CheckId(spec.bos_id, count, "bos_token_id"));
  FATHOM_CHECK_OK(CheckId(spec.eos_id, count, "eos_token_id"));
  FATHOM_CHECK_OK(CheckId(spec.eot_id, count, "eot_token_id"));
  FATHOM_CHECK_OK(CheckId(spec.unk_id, count, "unknown_token_id"));

  BpeTokenizer::Parts parts;
  FATHOM_TRY(NamedPreTokenizer named, PreTokenizerByName(spec.ggml_pre));
  Vocabulary& vocabulary = *parts.vocabulary;
  if (auto status = vocabulary.Reserve(count, static_cast<int64_t>(count) - 1); !status) {
    return Prefix(status.error(), "tokenizer.ggml.tokens");
  }
  std::string bytes;
  for (size_t i = 0; i < count; ++i) {
    const auto id = static_cast<TokenId>(i);
    const std::string& text = spec.tokens[i];
    const int32_t type = spec.token_types.empty() ? kNormal : spec.token_types[i];
    if (type < kNormal || type > kByteType) {
      return Fail(ErrorCode::kCorrupt, "tokenizer.ggml.token_type[{}]: {} is no token type", i, type);
    }
    const TokenClass token_class = ClassifyToken(text, type == kControlType || type == kUnknown);
    Status status;
    // A mark that an old file calls normal is still a mark.
    // Converters fill the vocabulary up to the size of the embedding; no text means these.
    const bool padding = text == fmt::format("[PAD{}]", i);
    const bool is_mark = type != kUnused && token_class != TokenClass::kPlain;
    if (!padding && (type == kControlType || type == kUserDefined || type == kUnknown || is_mark)) {
      status = AddAddedToken({.text = text, .id = id, .token_class = token_class}, parts);
    } else {
      bytes.clear();
      const bool is_word = type != kUnused && !padding && ByteLevelToBytes(text, bytes);
      status = vocabulary.Add(id, is_word ? bytes : text, is_word ? Vocabulary::kWord : 0);
      if (is_word && status) vocabulary.Index(id);  // of two equal tokens the first is used
    }
    if (!status) return Prefix(status.error(), fmt::format("tokenizer.ggml.tokens[{}]", i));
  }

  parts.bos = spec.bos_id;
  parts.eos = spec.eos_id;
  parts.add_bos = parts.bos >= 0 && (spec.add_bos < 0 ? named.add_bos : spec.add_bos != 0);
  parts.end_of_generation.assign(spec.eog_ids.begin(), spec.eog_ids.end());
  parts.end_of_generation.push_back(spec.eot_id);
  MarkNamedTokens(parts);

  parts.model = std::make_unique<BpeModel>(
      &vocabulary, spec.merges.size(), BpeModel::Options{.ignore_merges = named.ignore_merges});
  std::string left, right;
  for (size_t i = 0; i < spec.merges.size(); ++i) {
    const std::string& merge = spec.merges[i];
    const size_t space = merge.empty() ? std::string::npos : merge.find(' ', 1);
    left.clear(), right.clear();
    if (space == std::string::npos || space + 1 >= merge.size()) {
      return Fail(ErrorCode::kCorrupt, "tokenizer.ggml.merges[{}]: \"{}\" is not two tokens", i, merge.substr(0, 64));
    }
    if (!ByteLevelToBytes(std::string_view(merge).substr(0, space), left) ||
        !ByteLevelToBytes(std::string_view(merge).substr(space + 1), right)) {
      continue;  // over characters that bytes never become: it could not apply
    }
    if (auto status = parts.model->AddMerge(left, right); !status) {
      return Prefix(status.error(), fmt::format("tokenizer.ggml.merges[{}]", i));
    }
  }
  parts.model->Finish();
  parts.pre_tokenizer = std::move(named.chain);
  parts.normal_forms = std::move(named.normal_forms);
  return BpeTokenizer::Build(std::move(parts));
}

}  // namespace fathom
