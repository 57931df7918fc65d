#include "text/vocabulary.h"

#include <cstring>

#include "text/unicode.h"

namespace fathom {
namespace {

struct Alphabet {
  std::array<uint16_t, 256> to_char{};
  std::array<int16_t, 512> to_byte{};
  Alphabet() {
    to_byte.fill(-1);
    // Printable Latin-1 stands for itself; the other 68 bytes take U+0100 and on, in order (GPT-2's encoder.py).
    uint16_t next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      to_char[byte] = printable ? static_cast<uint16_t>(byte) : next++;
      to_byte[to_char[byte]] = static_cast<int16_t>(byte);
    }
  }
};
const Alphabet kAlphabet;

}  // namespace

bool ByteLevelToBytes(std::string_view text, std::string& out) {
  const size_t before = out.size();
  for (size_t i = 0; i < text.size();) {
    const Utf8Char c = DecodeUtf8(text, i);
    const int byte = c.ok && c.code_point < kAlphabet.to_byte.size() ? kAlphabet.to_byte[c.code_point] : -1;
    if (byte < 0) {
      out.resize(before);
      return false;
    }
    out += static_cast<char>(byte);
    i += c.length;
  }
  return true;
}

std::string BytesToByteLevel(std::string_view bytes) {
  std::string out;
  for (char byte : bytes) AppendUtf8(kAlphabet.to_char[static_cast<uint8_t>(byte)], out);
  return out;
}

uint64_t HashBytes(std::string_view bytes) {
  const auto mix = [](uint64_t a, uint64_t b) {
    const auto wide = static_cast<unsigned __int128>(a) * b;
    return static_cast<uint64_t>(wide) ^ static_cast<uint64_t>(wide >> 64);
  };
  constexpr uint64_t kA = 0x9E3779B97F4A7C15, kB = 0xD6E8FEB86659FD93;
  uint64_t hash = bytes.size() * kB;
  const char* p = bytes.data();
  size_t left = bytes.size();
  for (; left > 8; left -= 8, p += 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    hash = mix(hash ^ word, kA);
  }
  uint64_t word = 0;
  if (left > 0) std::memcpy(&word, p, left);
  return mix(hash ^ word ^ kA, kB);
}

Status Vocabulary::Reserve(size_t count, int64_t max_id) {
  if (max_id > kMaxId || max_id >= static_cast<int64_t>(count) + kMaxGap) {
    return Fail(ErrorCode::kCorrupt, "token id {} is out of range for {} tokens", max_id, count);
  }
  spans_.resize(static_cast<size_t>(max_id + 1));
  flags_.resize(spans_.size());
  size_t slots = 1024;
  while (slots < count * 2) slots *= 2;
  slots_.assign(slots, Slot{});
  arena_.reserve(count * 8);
  return {};
}

Status Vocabulary::Add(TokenId id, std::string_view bytes, uint8_t flags) {
  if (flags_[id] & kPresent) return Fail(ErrorCode::kCorrupt, "token id {} is used twice", id);
  if (arena_.size() + bytes.size() > UINT32_MAX) return Fail(ErrorCode::kCorrupt, "the tokens are too long together");
  spans_[id] = {static_cast<uint32_t>(arena_.size()), static_cast<uint32_t>(bytes.size())};
  flags_[id] = flags | kPresent;
  arena_ += bytes;
  return {};
}

namespace {

uint64_t Head(std::string_view bytes) {
  uint64_t head = 0;
  if (bytes.size() >= 8) std::memcpy(&head, bytes.data(), 8);
  else if (!bytes.empty()) std::memcpy(&head, bytes.data(), bytes.size());
  return head;
}

}  // namespace

bool Vocabulary::Is(const Slot& slot, uint64_t head, std::string_view bytes) const {
  return slot.head == head && slot.length == bytes.size() &&
         (bytes.size() <= 8 || Bytes(slot.id).substr(8) == bytes.substr(8));
}

bool Vocabulary::Index(TokenId id) {
  if (slots_.size() < (indexed_ + 1) * 2) Grow();
  const std::string_view bytes = Bytes(id);
  const uint64_t head = Head(bytes);
  for (size_t i = HashBytes(bytes) & (slots_.size() - 1);; i = (i + 1) & (slots_.size() - 1)) {
    if (slots_[i].id < 0) {
      slots_[i] = {head, static_cast<uint32_t>(bytes.size()), id};
      ++indexed_;
      return true;
    }
    if (Is(slots_[i], head, bytes)) return false;
  }
}

void Vocabulary::Grow() {
  const std::vector<Slot> old = std::move(slots_);
  slots_.assign(old.empty() ? 1024 : old.size() * 2, Slot{});
  indexed_ = 0;
  for (const Slot& slot : old) {
    if (slot.id >= 0) Index(slot.id);
  }
}

TokenId Vocabulary::Find(std::string_view bytes) const {
  if (slots_.empty()) return -1;
  const uint64_t head = Head(bytes);
  for (size_t i = HashBytes(bytes) & (slots_.size() - 1);; i = (i + 1) & (slots_.size() - 1)) {
    if (slots_[i].id < 0) return -1;
    if (Is(slots_[i], head, bytes)) return slots_[i].id;
  }
}

}  // namespace fathom
