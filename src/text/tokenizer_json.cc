// From Hugging Face files (tokenizer.json, tokenizer_config.json, generation_config.json) to a Tokenizer.
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_set>

#include "text/bpe_tokenizer.h"
#include "text/tokenizer_json_internal.h"
#include "text/tokenizer_json_reader.h"

namespace fathom {
namespace {

using Json = nlohmann::json;

// ---- Fields ----

const Json* Member(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

Result<std::string> Text(const Json& object, const char* key, std::string_view where,
                         std::optional<std::string> fallback = {}) {
  const Json* value = Member(object, key);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr) return Fail(ErrorCode::kCorrupt, "{}.{}: missing", where, key);
  if (!value->is_string()) return Fail(ErrorCode::kCorrupt, "{}.{}: not a string", where, key);
  return value->get<std::string>();
}

Result<bool> Bool(const Json& object, const char* key, std::string_view where, bool fallback) {
  const Json* value = Member(object, key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) return Fail(ErrorCode::kCorrupt, "{}.{}: not true or false", where, key);
  return value->get<bool>();
}

Result<TokenId> IdOf(const Json& value, std::string_view where) {
  if (!value.is_number_integer()) return Fail(ErrorCode::kCorrupt, "{}: not an integer", where);
  const bool huge = value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX;
  const int64_t id = huge ? INT64_MAX : value.get<int64_t>();
  if (id < 0 || id > Vocabulary::kMaxId) return Fail(ErrorCode::kCorrupt, "{}: token id {} is out of range", where, id);
  return static_cast<TokenId>(id);
}

// ---- Normalizer ----

Status ReadNormalizer(const Json& node, const std::string& where, std::vector<NormalForm>& out) {
  FATHOM_TRY(const std::string type, Text(node, "type", where));
  if (out.size() >= 16) return Fail(ErrorCode::kUnsupported, "{}: more than 16 normalizers", where);
  if (type == "Sequence") {
    const Json* list = Member(node, "normalizers");
    if (list == nullptr || !list->is_array()) return Fail(ErrorCode::kCorrupt, "{}.normalizers: not a list", where);
    for (size_t i = 0; i < list->size(); ++i) {
      FATHOM_CHECK_OK(ReadNormalizer((*list)[i], fmt::format("{}.normalizers[{}]", where, i), out));
    }
    return {};
  }
  if (type == "NFC") return out.push_back(NormalForm::kNfc), Status();
  if (type == "NFD") return out.push_back(NormalForm::kNfd), Status();
  if (type == "NFKC") return out.push_back(NormalForm::kNfkc), Status();
  if (type == "NFKD") return out.push_back(NormalForm::kNfkd), Status();
  return Fail(ErrorCode::kUnsupported, "{}.type: normalizer \"{}\" is not supported", where, type);
}

// ---- Pre-tokenizer ----

Result<SplitBehavior> ReadBehavior(const Json& node, const std::string& where, SplitBehavior fallback) {
  if (Member(node, "behavior") == nullptr) return fallback;
  FATHOM_TRY(const std::string name, Text(node, "behavior", where));
  static const std::map<std::string_view, SplitBehavior> kNames = {
      {"Removed", SplitBehavior::kRemoved},
      {"Isolated", SplitBehavior::kIsolated},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous}};
  const auto it = kNames.find(name);
  if (it == kNames.end()) return Fail(ErrorCode::kCorrupt, "{}.behavior: \"{}\" is no behavior", where, name);
  return it->second;
}

Status ReadPreTokenizer(const Json& node, const std::string& where, PreTokenizer& out) {
  FATHOM_TRY(const std::string type, Text(node, "type", where));
  if (out.steps() >= PreTokenizer::kMaxSteps) {
    return Fail(ErrorCode::kUnsupported, "{}: more than {} pre-tokenizers", where, PreTokenizer::kMaxSteps);
  }
  if (out.byte_level()) {
    return Fail(ErrorCode::kUnsupported, "{}.type: \"{}\" after ByteLevel is not supported", where, type);
  }
  const auto named = [&](Status status, std::string_view field) -> Status {
    if (!status) return Prefix(status.error(), fmt::format("{}.{}", where, field));
    return {};
  };
  if (type == "Sequence") {
    const Json* list = Member(node, "pretokenizers");
    if (list == nullptr || !list->is_array()) return Fail(ErrorCode::kCorrupt, "{}.pretokenizers: not a list", where);
    for (size_t i = 0; i < list->size(); ++i) {
      FATHOM_CHECK_OK(ReadPreTokenizer((*list)[i], fmt::format("{}.pretokenizers[{}]", where, i), out));
    }
    return {};
  }
  if (type == "Split") {
    const Json* pattern = Member(node, "pattern");
    if (pattern == nullptr || !pattern->is_object()) return Fail(ErrorCode::kCorrupt, "{}.pattern: missing", where);
    FATHOM_TRY(const SplitBehavior behavior, ReadBehavior(node, where, SplitBehavior::kIsolated));
    FATHOM_TRY(const bool invert, Bool(node, "invert", where, false));
    if (Member(*pattern, "Regex") != nullptr) {
      FATHOM_TRY(const std::string regex, Text(*pattern, "Regex", where + ".pattern"));
      return named(out.AddSplit(regex, behavior, invert), "pattern.Regex");
    }
    FATHOM_TRY(const std::string literal, Text(*pattern, "String", where + ".pattern"));
    return named(out.AddSplit(EscapeRegex(literal), behavior, invert), "pattern.String");
  }
  if (type == "Digits") {
    FATHOM_TRY(const bool individual, Bool(node, "individual_digits", where, false));
    out.AddSplit(CodePointSet::NumericStep(), individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
    return {};
  }
  if (type == "Punctuation") {
    FATHOM_TRY(const SplitBehavior behavior, ReadBehavior(node, where, SplitBehavior::kIsolated));
    out.AddSplit(CodePointSet::PunctuationStep(), behavior);
    return {};
  }
  if (type == "WhitespaceSplit") return out.AddSplit(CodePointSet::WhiteSpace(), SplitBehavior::kRemoved), Status();
  if (type == "Whitespace") return out.AddWhitespace(), Status();
  if (type == "ByteLevel") {
    FATHOM_TRY(const bool prefix, Bool(node, "add_prefix_space", where, true));
    FATHOM_TRY(const bool use_regex, Bool(node, "use_regex", where, true));
    return named(out.AddByteLevel(prefix, use_regex), "use_regex");
  }
  return Fail(ErrorCode::kUnsupported, "{}.type: pre-tokenizer \"{}\" is not supported (fathom reads byte-level BPE)",
              where, type);
}

// ---- Post-processor: only what it says about BOS ----

/// The text of the special token that a template puts before a single sequence; empty when none.
std::string TemplateBos(const Json& node, int depth = 0) {
  const Json* type = Member(node, "type");
  if (type == nullptr || depth > 8) return {};
  if (*type == "Sequence") {
    const Json* list = Member(node, "processors");
    if (list == nullptr || !list->is_array()) return {};
    for (const Json& processor : *list) {
      if (std::string bos = TemplateBos(processor, depth + 1); !bos.empty()) return bos;
    }
  } else if (*type == "TemplateProcessing") {
    const Json* single = Member(node, "single");
    if (single == nullptr || !single->is_array() || single->empty()) return {};
    const Json* special = Member((*single)[0], "SpecialToken");
    const Json* id = special != nullptr ? Member(*special, "id") : nullptr;
    if (id != nullptr && id->is_string()) return id->get<std::string>();
  }
  return {};
}

// ---- Companions ----

Result<Json> ParseCompanion(std::string_view text, std::string_view file) {
  if (text.empty()) return Json::object();
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded() || !json.is_object()) return Fail(ErrorCode::kCorrupt, "{}: not a JSON object", file);
  return json;
}

/// A token in tokenizer_config.json: a string, or an object with its content.
std::string ConfigToken(const Json& config, const char* key) {
  const Json* value = Member(config, key);
  if (value != nullptr && value->is_object()) value = Member(*value, "content");
  return value != nullptr && value->is_string() ? value->get<std::string>() : std::string();
}

struct Listed {
  AddedToken token;
  std::string where;
};

Result<AddedToken> ReadAddedToken(const Json& node, TokenId id, const std::string& where) {
  AddedToken token;
  token.id = id;
  FATHOM_TRY(token.text, Text(node, "content", where));
  FATHOM_TRY(const bool special, Bool(node, "special", where, false));
  FATHOM_TRY(token.lstrip, Bool(node, "lstrip", where, false));
  FATHOM_TRY(token.rstrip, Bool(node, "rstrip", where, false));
  FATHOM_TRY(token.single_word, Bool(node, "single_word", where, false));
  FATHOM_TRY(token.normalized, Bool(node, "normalized", where, !special));
  token.token_class = ClassifyToken(token.text, special);
  return token;
}

Result<std::vector<Listed>> ReadAddedTokens(const Json& document, const Json& config) {
  std::vector<Listed> out;
  std::unordered_set<TokenId> ids;
  std::unordered_set<std::string> texts;
  const auto take = [&](AddedToken token, const std::string& where) {
    if (token.text.empty()) return;
    ids.insert(token.id);
    texts.insert(token.text);
    out.push_back({std::move(token), where});
  };
  if (const Json* list = Member(document, "added_tokens")) {
    if (!list->is_array()) return Fail(ErrorCode::kCorrupt, "added_tokens: not a list");
    for (size_t i = 0; i < list->size(); ++i) {
      const std::string where = fmt::format("added_tokens[{}]", i);
      const Json* id = Member((*list)[i], "id");
      if (id == nullptr) return Fail(ErrorCode::kCorrupt, "{}.id: missing", where);
      FATHOM_TRY(const TokenId number, IdOf(*id, where + ".id"));
      FATHOM_TRY(AddedToken token, ReadAddedToken((*list)[i], number, where));
      take(std::move(token), where);
    }
  }
  // tokenizer_config.json may add more; what tokenizer.json has already stays as it says.
  if (const Json* more = Member(config, "added_tokens_decoder"); more != nullptr && more->is_object()) {
    for (const auto& [key, node] : more->items()) {
      const std::string where = fmt::format("tokenizer_config.json: added_tokens_decoder[\"{}\"]", key.substr(0, 32));
      const bool digits = !key.empty() && key.size() < 10 &&
                          std::all_of(key.begin(), key.end(), [](char c) { return c >= '0' && c <= '9'; });
      if (!digits) return Fail(ErrorCode::kCorrupt, "{}: not a token id", where);
      FATHOM_TRY(const TokenId id, IdOf(Json(std::stoll(key)), where));
      FATHOM_TRY(AddedToken token, ReadAddedToken(node, id, where));
      if (!ids.contains(id) && !texts.contains(token.text)) take(std::move(token), where);
    }
  }
  return out;
}

Status FillVocabulary(const TokenizerJsonReader& reader, std::vector<Listed>& added, BpeTokenizer::Parts& parts) {
  Vocabulary& vocabulary = *parts.vocabulary;
  int64_t max_id = -1;
  size_t worst = 0;
  for (size_t i = 0; i < reader.ids.size(); ++i) {
    if (reader.ids[i] > max_id) max_id = reader.ids[i], worst = i;
  }
  std::string where = "model.vocab";
  if (!reader.ids.empty()) where += fmt::format("[\"{}\"]", reader.vocab[worst].substr(0, 64));
  for (const Listed& listed : added) {
    if (listed.token.id > max_id) max_id = listed.token.id, where = listed.where + ".id";
  }
  if (auto status = vocabulary.Reserve(reader.ids.size() + added.size(), max_id); !status) {
    return Prefix(status.error(), where);
  }
  std::string bytes;
  std::map<std::string_view, TokenId, std::less<>> foreign;  // tokens that are not of the byte-level alphabet
  for (size_t i = 0; i < reader.ids.size(); ++i) {
    const std::string_view key = reader.vocab[i];
    const auto id = static_cast<TokenId>(reader.ids[i]);
    bytes.clear();
    const bool is_word = ByteLevelToBytes(key, bytes);
    Status status = vocabulary.Add(id, is_word ? bytes : key, is_word ? Vocabulary::kWord : 0);
    if (status && is_word && !vocabulary.Index(id)) status = Fail(ErrorCode::kCorrupt, "the token appears twice");
    if (!status) return Prefix(status.error(), fmt::format("model.vocab[\"{}\"]", key.substr(0, 64)));
    if (!is_word) foreign.emplace(key, id);
  }
  std::string text;
  for (Listed& listed : added) {
    // A token that the model has under its name keeps the model's id (as for the authors' code).
    text.clear();
    const bool is_word = ByteLevelToBytes(listed.token.text, text);
    if (const auto it = foreign.find(listed.token.text); it != foreign.end()) {
      listed.token.id = it->second;
    } else if (const TokenId id = is_word ? vocabulary.Find(text) : -1; id >= 0) {
      listed.token.id = id;
      if (vocabulary.Bytes(id) != listed.token.text) {  // such as "Ġ" added by that very name
        return Fail(ErrorCode::kUnsupported, "{}.content: \"{}\" is also a word of model.vocab", listed.where,
                    listed.token.text.substr(0, 64));
      }
    }
    if (auto status = AddAddedToken(listed.token, parts); !status) return Prefix(status.error(), listed.where + ".id");
  }
  return {};
}

Status FillModel(const TokenizerJsonReader& reader, const Json& model, BpeTokenizer::Parts& parts) {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    FATHOM_TRY(const std::string affix, Text(model, key, "model", ""));
    if (!affix.empty()) return Fail(ErrorCode::kUnsupported, "model.{}: \"{}\" is not supported", key, affix);
  }
  if (const Json* dropout = Member(model, "dropout"); dropout != nullptr) {
    if (!dropout->is_number() || dropout->get<double>() != 0) {
      return Fail(ErrorCode::kUnsupported, "model.dropout: a vocabulary with dropout is for training");
    }
  }
  BpeModel::Options options;
  FATHOM_TRY(options.ignore_merges, Bool(model, "ignore_merges", "model", false));
  FATHOM_TRY(options.byte_fallback, Bool(model, "byte_fallback", "model", false));
  FATHOM_TRY(options.fuse_unknown, Bool(model, "fuse_unk", "model", false));
  FATHOM_TRY(const std::string unknown, Text(model, "unk_token", "model", ""));
  if (!unknown.empty()) {
    const AddedToken* token = parts.added.FindByText(unknown);
    options.unknown = token != nullptr ? token->id : parts.vocabulary->Find(unknown);
  }
  const size_t count = reader.merge_pairs ? reader.merges.size() / 2 : reader.merges.size();
  parts.model = std::make_unique<BpeModel>(parts.vocabulary.get(), count, options);
  std::string left, right;
  for (size_t i = 0; i < count; ++i) {
    std::string_view a, b;
    if (reader.merge_pairs) {
      a = reader.merges[2 * i], b = reader.merges[2 * i + 1];
    } else {
      const std::string_view merge = reader.merges[i];
      const size_t space = merge.find(' ');
      if (space == std::string_view::npos || merge.find(' ', space + 1) != std::string_view::npos) {
        return Fail(ErrorCode::kCorrupt, "model.merges[{}]: \"{}\" is not two tokens", i, merge.substr(0, 64));
      }
      a = merge.substr(0, space), b = merge.substr(space + 1);
    }
    left.clear(), right.clear();
    if (!ByteLevelToBytes(a, left) || !ByteLevelToBytes(b, right)) continue;  // no text becomes these: cannot apply
    if (auto status = parts.model->AddMerge(left, right); !status) {
      return Prefix(status.error(), fmt::format("model.merges[{}]", i));
    }
  }
  parts.model->Finish();
  return {};
}

// BOS and EOS: the configuration names them; without one, the names that the families use.
Status FindSpecialTokens(const TokenizerSpec& spec, const Json& document, const Json& config, const Json& generation,
                         BpeTokenizer::Parts& parts) {
  const auto find = [&](std::string_view text) -> TokenId {
    if (text.empty()) return -1;
    const AddedToken* token = parts.added.FindByText(text);
    return token != nullptr ? token->id : parts.vocabulary->Find(text);
  };
  const Json* post = Member(document, "post_processor");
  const std::string template_bos = post != nullptr ? TemplateBos(*post) : std::string();
  const bool configured = !spec.tokenizer_config_json.empty();
  parts.bos = find(ConfigToken(config, "bos_token"));
  if (parts.bos < 0) parts.bos = find(template_bos);
  const auto guess = [&](std::initializer_list<std::string_view> names) -> TokenId {
    for (std::string_view name : names) {
      const AddedToken* token = configured ? nullptr : parts.added.FindByText(name);
      if (token != nullptr && token->token_class == TokenClass::kControl) return token->id;
    }
    return -1;
  };
  bool family_adds_bos = false;
  if (parts.bos < 0) {
    parts.bos = guess({"<｜begin▁of▁sentence｜>", "<|begin_of_text|>", "<s>"});
    family_adds_bos = parts.bos >= 0;
  }
  parts.eos = find(ConfigToken(config, "eos_token"));
  if (parts.eos < 0) {
    parts.eos = guess({"<｜end▁of▁sentence｜>", "<|eot_id|>", "<|im_end|>", "<|endoftext|>", "</s>"});
  }
  const Json* add_bos = Member(config, "add_bos_token");
  if (add_bos != nullptr && add_bos->is_boolean()) {
    parts.add_bos = add_bos->get<bool>();
  } else {
    // transformers' Llama classes add BOS unless told otherwise; others leave it to the post-processor.
    parts.add_bos = !template_bos.empty() || family_adds_bos ||
                    ConfigToken(config, "tokenizer_class").starts_with("LlamaTokenizer");
  }
  parts.add_bos = parts.add_bos && parts.bos >= 0;
  if (const Json* ids = Member(generation, "eos_token_id")) {
    const Json list = ids->is_array() ? *ids : Json::array({*ids});
    for (const Json& id : list) {
      FATHOM_TRY(const TokenId number, IdOf(id, "generation_config.json: eos_token_id"));
      parts.end_of_generation.push_back(number);
    }
  }
  parts.end_of_generation.insert(parts.end_of_generation.end(), spec.eog_ids.begin(), spec.eog_ids.end());
  if (parts.bos < 0 && spec.bos_id >= 0) parts.bos = spec.bos_id;
  if (parts.eos < 0 && spec.eos_id >= 0) parts.eos = spec.eos_id;
  MarkNamedTokens(parts);
  return {};
}

}  // namespace

namespace {

// What both readers need first.
struct Documents {
  TokenizerJsonReader reader;
  Json config, generation;
};

std::unexpected<Error> Named(std::unexpected<Error> error) {
  const bool companion = error.error().message.starts_with("tokenizer_config.json: ") ||
                         error.error().message.starts_with("generation_config.json: ");
  return companion ? error : Prefix(error.error(), "tokenizer.json");
}

Result<Documents> ParseDocuments(const TokenizerSpec& spec) {
  Documents out;
  Json::sax_parse(spec.tokenizer_json, &out.reader);
  if (!out.reader.error.empty()) return Fail(ErrorCode::kCorrupt, "{}", out.reader.error);
  if (!out.reader.document.is_object()) return Fail(ErrorCode::kCorrupt, "not a JSON object");
  FATHOM_TRY(out.config, ParseCompanion(spec.tokenizer_config_json, "tokenizer_config.json"));
  FATHOM_TRY(out.generation, ParseCompanion(spec.generation_config_json, "generation_config.json"));
  return out;
}

/// The model's object, checked as far as all of it depends on it, and the steps before it.
Result<const Json*> ReadSteps(const TokenizerJsonReader& reader, std::vector<NormalForm>& forms, PreTokenizer& chain) {
  const Json* model = Member(reader.document, "model");
  if (model == nullptr || !model->is_object()) return Fail(ErrorCode::kCorrupt, "model: missing");
  FATHOM_TRY(const std::string type, Text(*model, "type", "model", "BPE"));
  if (type != "BPE") return Fail(ErrorCode::kUnsupported, "model.type: \"{}\" is not supported (only BPE)", type);
  if (!reader.has_vocab || reader.ids.empty()) return Fail(ErrorCode::kCorrupt, "model.vocab: missing or empty");
  if (!reader.has_merges) return Fail(ErrorCode::kCorrupt, "model.merges: missing");
  if (const Json* node = Member(reader.document, "normalizer")) {
    FATHOM_CHECK_OK(ReadNormalizer(*node, "normalizer", forms));
  }
  const Json* pre = Member(reader.document, "pre_tokenizer");
  if (pre != nullptr) FATHOM_CHECK_OK(ReadPreTokenizer(*pre, "pre_tokenizer", chain));
  if (!chain.byte_level()) {
    return Fail(ErrorCode::kUnsupported, "pre_tokenizer: no ByteLevel step (fathom reads byte-level BPE)");
  }
  return model;
}

Status LoadParts(const TokenizerSpec& spec, BpeTokenizer::Parts& parts) {
  FATHOM_TRY(Documents documents, ParseDocuments(spec));
  const TokenizerJsonReader& reader = documents.reader;
  FATHOM_TRY(const Json* model, ReadSteps(reader, parts.normal_forms, parts.pre_tokenizer));
  FATHOM_TRY(std::vector<Listed> added, ReadAddedTokens(reader.document, documents.config));
  FATHOM_CHECK_OK(FillVocabulary(reader, added, parts));
  FATHOM_CHECK_OK(FindSpecialTokens(spec, reader.document, documents.config, documents.generation, parts));
  return FillModel(reader, *model, parts);
}

Status ReadParts(const TokenizerSpec& spec, TokenizerJson& out) {
  FATHOM_TRY(Documents documents, ParseDocuments(spec));
  out.reader = std::move(documents.reader);
  FATHOM_TRY(const Json* model, ReadSteps(out.reader, out.normal_forms, out.pre_tokenizer));
  FATHOM_TRY(out.ignore_merges, Bool(*model, "ignore_merges", "model", false));
  FATHOM_TRY(std::vector<Listed> added, ReadAddedTokens(out.reader.document, documents.config));
  for (Listed& listed : added) out.added.push_back(std::move(listed.token));
  out.pad_token = ConfigToken(documents.config, "pad_token");
  out.unk_token = ConfigToken(documents.config, "unk_token");
  return {};
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> LoadTokenizerJson(const TokenizerSpec& spec) {
  BpeTokenizer::Parts parts;
  if (auto status = LoadParts(spec, parts); !status) return Named(std::unexpected(status.error()));
  return BpeTokenizer::Build(std::move(parts));
}

Result<TokenizerJson> ReadTokenizerJson(const TokenizerSpec& spec) {
  TokenizerJson out;
  if (auto status = ReadParts(spec, out); !status) return Named(std::unexpected(status.error()));
  return out;
}

}  // namespace fathom
