// The tokens of a vocabulary: bytes by id, id by bytes, and what each token is allowed to do.
//
// Built once by a loader, then immutable and thread-safe. Tokens are held as the bytes that they stand for (the
// byte-level alphabet of GPT-2 is undone at load), so that neither encoding nor decoding translates anything.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/tokenizer.h"

namespace fathom {

/// Undoes GPT-2's byte-level alphabet (each byte written as a printable character), appending to `out`. False, with
/// `out` as before, when a character is not of that alphabet.
bool ByteLevelToBytes(std::string_view text, std::string& out);
/// The other way, for messages and tests.
std::string BytesToByteLevel(std::string_view bytes);

uint64_t HashBytes(std::string_view bytes);

class Vocabulary {
 public:
  enum Flag : uint8_t {
    kPresent = 1,
    kWord = 2,     // BPE may produce it: it is found by its bytes
    kAdded = 4,    // found by its name in texts, before BPE
    kControl = 8,  // never shown
    kGuarded = 16,  // never recognised in the text of users: controls, and <think>, <tool_call> and the like
    kEndOfGeneration = 32,
  };
  /// Ids may leave gaps, but not so large that the tables would be mostly empty.
  static constexpr int64_t kMaxGap = 1 << 20;
  static constexpr TokenId kMaxId = (1 << 24) - 1;

  /// `count` tokens are about to come with ids up to `max_id`. Errors: kCorrupt when that leaves absurd gaps.
  Status Reserve(size_t count, int64_t max_id);
  /// REQUIRES: 0 <= id <= max_id of Reserve(). An id that is present already: kCorrupt.
  Status Add(TokenId id, std::string_view bytes, uint8_t flags);
  /// Makes the token findable by its bytes; false when another token has the same bytes.
  bool Index(TokenId id);
  void SetFlags(TokenId id, uint8_t set, uint8_t clear = 0) {
    flags_[id] = static_cast<uint8_t>((flags_[id] & ~clear) | set);
  }

  TokenId size() const { return static_cast<TokenId>(spans_.size()); }  // highest id + 1
  bool Has(TokenId id, uint8_t flag) const { return id >= 0 && id < size() && (flags_[id] & flag) != 0; }
  std::string_view Bytes(TokenId id) const {
    if (id < 0 || id >= size()) return {};
    return std::string_view(arena_).substr(spans_[id].begin, spans_[id].length);
  }
  /// Among tokens that were indexed; -1 when absent.
  TokenId Find(std::string_view bytes) const;

 private:
  struct Span { uint32_t begin = 0, length = 0; };
  // A slot answers for tokens of up to eight bytes, which is most words of running text, without a look elsewhere.
  struct Slot {
    uint64_t head = 0;    // the first eight bytes, padded with zeros
    uint32_t length = 0;
    TokenId id = -1;
  };
  void Grow();
  bool Is(const Slot& slot, uint64_t head, std::string_view bytes) const;

  std::string arena_;
  std::vector<Span> spans_;
  std::vector<uint8_t> flags_;
  std::vector<Slot> slots_;  // open addressing, power of two, at most half full
  size_t indexed_ = 0;
};

}  // namespace fathom
