// Byte-level BPE: text to token ids and back, for every vocabulary that fathom's model families use.
//
// A Tokenizer is immutable once built and thread-safe. User text can never become a control token: Encode() splits on
// special tokens only in text that the caller marks as trusted (prompt encoders do; user content never is).
// Invalid UTF-8 is encoded as bytes, never refused and never dropped (a byte that no UTF-8 has and the vocabulary lacks is
// said as U+FFFD). Errors in vocabularies name the file's field.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fathom {

using TokenId = int32_t;

/// The same facts as format/model_file.h's TokenizerSource, in this room's words (rooms on one floor do not meet).
struct TokenizerSpec {
  // Hugging Face: the texts of the files; when tokenizer_json is not empty it is what is used.
  std::string_view tokenizer_json, tokenizer_config_json, generation_config_json;
  // GGUF tokenizer.ggml.*: model "gpt2" only, pre names the pre-tokeniser.
  std::string_view ggml_model, ggml_pre;
  std::span<const std::string> tokens;
  std::span<const int32_t> token_types;  // 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte
  std::span<const std::string> merges;
  TokenId bos_id = -1, eos_id = -1, pad_id = -1, unk_id = -1, eot_id = -1;
  std::span<const TokenId> eog_ids;
  int add_bos = -1, add_eos = -1;  // -1 unknown: the family's habit
};

enum class TextTrust {
  kUser,     // special tokens in the text are plain characters
  kTrusted,  // special tokens are recognised (templates, `fathom tokenize --special`)
};

class Tokenizer {
 public:
  static Result<std::unique_ptr<Tokenizer>> Create(const TokenizerSpec& spec);
  virtual ~Tokenizer() = default;

  /// No BOS/EOS is added here. Appends to `out`.
  virtual void Encode(std::string_view text, TextTrust trust, std::vector<TokenId>& out) const = 0;
  std::vector<TokenId> Encode(std::string_view text, TextTrust trust) const {
    std::vector<TokenId> out;
    Encode(text, trust, out);
    return out;
  }

  /// Bytes of one token as they appear in text (control tokens: their name); empty for unknown ids.
  virtual std::string_view TokenBytes(TokenId id) const = 0;
  virtual bool IsControl(TokenId id) const = 0;        // never shown to users
  virtual bool IsEndOfGeneration(TokenId id) const = 0;  // EOS, <|im_end|>, <|eot_id|>, …
  virtual TokenId FindToken(std::string_view text) const = 0;  // exact special or vocabulary entry; -1 when absent
  virtual int32_t vocab_size() const = 0;
  virtual TokenId bos_id() const = 0;  // -1 when none
  virtual TokenId eos_id() const = 0;
  virtual bool add_bos() const = 0;    // prepend BOS to a raw prompt

  /// Whole text of ids; control tokens are left out unless asked for.
  std::string Decode(std::span<const TokenId> ids, bool keep_control = false) const;
};

/// Turns tokens into text as they come and never emits half a code point: bytes that may still become a character
/// are held back; bytes that cannot become one are replaced by U+FFFD. Not thread-safe; one per stream.
class StreamingDetokenizer {
 public:
  explicit StreamingDetokenizer(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}
  /// Text that is certain now (valid UTF-8, may be empty). Control tokens give nothing.
  std::string Push(TokenId id);
  /// Whatever is held back, at the end of the stream.
  std::string Flush();

 private:
  const Tokenizer* tokenizer_;
  std::string pending_;
};

}  // namespace fathom
