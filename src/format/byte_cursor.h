// A bounded, forward-only reader over bytes in memory. Little-endian, alignment-free, overflow-safe: nothing is read
// past the end, whatever lengths the bytes claim. Does not own the bytes; one per thread.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

namespace fathom {

static_assert(std::endian::native == std::endian::little, "the readers take numbers straight from little-endian files");

class ByteCursor {
 public:
  explicit ByteCursor(std::span<const std::byte> bytes) : bytes_(bytes) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return bytes_.size() - position_; }

  /// False (and nothing consumed) when fewer bytes are left.
  template <typename T>
    requires std::is_trivially_copyable_v<T>
  [[nodiscard]] bool Read(T& out) {
    if (remaining() < sizeof(T)) return false;
    std::memcpy(&out, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return true;
  }
  [[nodiscard]] bool Skip(uint64_t count) {
    if (remaining() < count) return false;
    position_ += count;
    return true;
  }
  [[nodiscard]] bool Take(uint64_t count, std::span<const std::byte>& out) {
    if (remaining() < count) return false;
    out = bytes_.subspan(position_, count);
    position_ += count;
    return true;
  }
  /// u64 length, then that many bytes.
  [[nodiscard]] bool ReadString(std::string_view& out) {
    const uint64_t start = position_;
    uint64_t length = 0;
    std::span<const std::byte> bytes;
    if (!Read(length) || !Take(length, bytes)) {
      position_ = start;
      return false;
    }
    out = std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return true;
  }

 private:
  std::span<const std::byte> bytes_;
  uint64_t position_ = 0;
};

}  // namespace fathom
