// A tokenizer.json as it is parsed: the vocabulary and the merges, which are nearly all of it, go straight from the
// parser's events to lists; the rest, which is small, becomes a JSON document to be checked field by field.
//
// For tokenizer_json.cc. After a failed parse `error` names the field. Memory is a small multiple of the text's size.
#pragma once

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fathom {

/// Many short strings in one block.
struct StringList {
  std::string arena;
  std::vector<uint32_t> ends;
  void Add(std::string_view text) {
    arena += text;
    ends.push_back(static_cast<uint32_t>(arena.size()));
  }
  size_t size() const { return ends.size(); }
  std::string_view operator[](size_t i) const {
    const uint32_t begin = i == 0 ? 0 : ends[i - 1];
    return std::string_view(arena).substr(begin, ends[i] - begin);
  }
};

/// Takes the parser's events: model.vocab and model.merges to lists, all else to a document.
class TokenizerJsonReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  using Json = nlohmann::json;
  static constexpr size_t kMaxDepth = 64;

  Json document;
  StringList vocab;               // keys
  std::vector<int64_t> ids;    // beside vocab
  StringList merges;              // "a b", or a and b one after the other with merge_pairs
  bool has_vocab = false, has_merges = false, merge_pairs = false;
  std::string error;

  bool null() override { return Value(nullptr); }
  bool boolean(bool value) override { return Value(value); }
  bool number_integer(number_integer_t value) override {
    return in_ == In::kVocab ? Bad(fmt::format("model.vocab[\"{}\"]: token id {} is negative", last_key_, value))
                             : Value(value);
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (in_ != In::kVocab) return Value(value);
    ids.push_back(static_cast<int64_t>(std::min<number_unsigned_t>(value, INT64_MAX)));
    return true;
  }
  bool number_float(number_float_t value, const string_t&) override { return Value(value); }
  bool string(string_t& value) override {
    if (in_ == In::kMerges && depth_ == (merge_pairs ? 4u : 3u)) {
      if (merges.arena.size() + value.size() > UINT32_MAX) return Bad("model.merges: too long");
      merges.Add(value);
      ++pair_size_;
      return true;
    }
    return Value(value);
  }
  bool binary(binary_t&) override { return Bad("binary data"); }

  bool start_object(size_t) override {
    if (!Open()) return false;
    if (in_ != In::kDocument) return Bad(fmt::format("{}: an object where a value belongs", Where()));
    if (depth_ == 3 && section_ == "model" && last_key_ == "vocab") {
      if (has_vocab) return Bad("model.vocab: appears twice");
      has_vocab = true;
      in_ = In::kVocab;
      return true;
    }
    return Begin(Json::object());
  }
  bool key(string_t& value) override {
    if (in_ == In::kVocab) {
      if (vocab.arena.size() + value.size() > UINT32_MAX) return Bad("model.vocab: too long");
      vocab.Add(value);
    } else if (depth_ == 1) {
      section_ = value;
    }
    last_key_ = value;
    return true;
  }
  bool end_object() override {
    if (in_ == In::kVocab) in_ = In::kDocument;
    else stack_.pop_back();
    --depth_;
    return true;
  }
  bool start_array(size_t) override {
    if (!Open()) return false;
    if (in_ == In::kVocab) return Bad(fmt::format("{}: an array where a token id belongs", Where()));
    if (in_ == In::kMerges) {
      if (depth_ != 4 || (merges.size() > 0 && !merge_pairs)) return Bad(fmt::format("{}: malformed", Where()));
      merge_pairs = true;
      pair_size_ = 0;
      return true;
    }
    if (depth_ == 3 && section_ == "model" && last_key_ == "merges") {
      if (has_merges) return Bad("model.merges: appears twice");
      has_merges = true;
      in_ = In::kMerges;
      return true;
    }
    return Begin(Json::array());
  }
  bool end_array() override {
    if (in_ == In::kMerges) {
      if (depth_ == 4 && pair_size_ != 2) return Bad(fmt::format("{}: not a pair of tokens", Where()));
      if (depth_ == 3) in_ = In::kDocument;
    } else {
      stack_.pop_back();
    }
    --depth_;
    return true;
  }
  bool parse_error(size_t position, const std::string&, const Json::exception&) override {
    if (error.empty()) error = fmt::format("not valid JSON at byte {}", position);
    return false;
  }

 private:
  enum class In { kDocument, kVocab, kMerges };

  std::string Where() const {
    if (in_ == In::kVocab) return fmt::format("model.vocab[\"{}\"]", last_key_.substr(0, 64));
    if (in_ == In::kMerges) return fmt::format("model.merges[{}]", merge_pairs ? merges.size() / 2 : merges.size());
    return section_;
  }
  bool Bad(std::string message) {
    if (error.empty()) error = std::move(message);
    return false;
  }
  bool Open() {
    // Counted when entered: the document's own braces are depth 1, model's 2, model.vocab's 3.
    if (++depth_ > kMaxDepth) return Bad(fmt::format("{}: nested more than {} deep", section_, kMaxDepth));
    return true;
  }
  template <typename T>
  bool Value(T&& value) {
    if (in_ != In::kDocument) {
      return Bad(fmt::format("{}: {}", Where(), in_ == In::kVocab ? "the token id is not an integer"
                                                                  : "not a merge"));
    }
    Place(Json(std::forward<T>(value)));
    return true;
  }
  bool Begin(Json value) {
    stack_.push_back(Place(std::move(value)));
    return true;
  }
  Json* Place(Json value) {
    if (stack_.empty()) return document = std::move(value), &document;
    Json& top = *stack_.back();
    if (top.is_array()) return top.push_back(std::move(value)), &top.back();
    return &(top[last_key_] = std::move(value));
  }

  In in_ = In::kDocument;
  size_t depth_ = 0;
  size_t pair_size_ = 0;
  std::string section_, last_key_;
  std::vector<Json*> stack_;
};

}  // namespace fathom
