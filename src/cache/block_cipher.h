// Encryption of stored blocks: AES-256-GCM with a key from a file (docs/formats/kv-segment.md, "Encryption").
//
// Thread-safe once made. The key is wiped from memory at destruction. Errors name the key file, never its content.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"

namespace fathom {

class Env;

class BlockCipher {
 public:
  static constexpr size_t kKeyBytes = 32, kNonceBytes = 10, kTagBytes = 16;
  static constexpr uint16_t kHeaderPart = 0xFFFF;  // the part of a slot that is not a layer
  using Key = std::array<std::byte, kKeyBytes>;
  using KeyId = std::array<std::byte, 16>;
  using Nonce = std::array<std::byte, kNonceBytes>;
  using Tag = std::array<std::byte, kTagBytes>;

  /// Errors: those of reading; kInvalidArgument when it is neither 32 bytes nor 64 hexadecimal digits.
  static Result<std::unique_ptr<BlockCipher>> FromFile(Env& env, const std::string& path);
  static Result<std::unique_ptr<BlockCipher>> FromKey(const Key& key);
  ~BlockCipher();
  BlockCipher(const BlockCipher&) = delete;
  BlockCipher& operator=(const BlockCipher&) = delete;

  const KeyId& key_id() const { return id_; }
  /// Fresh and random. Errors: kInternal (the system has no randomness).
  static Result<Nonce> NewNonce();
  /// Encrypts `in` to `out` (of the same size; may be the same memory). `authenticated`: not encrypted, but covered by
  /// the tag.
  Result<Tag> Seal(const Nonce& nonce, uint16_t part, std::span<const std::byte> authenticated,
                   std::span<const std::byte> in, std::byte* out) const;
  /// The reverse. kCorrupt when the tag does not fit; `out` holds zeros then.
  Status Open(const Nonce& nonce, uint16_t part, std::span<const std::byte> authenticated, const Tag& tag,
              std::span<const std::byte> in, std::byte* out) const;

 private:
  BlockCipher() = default;
  Key key_{};
  KeyId id_{};
};

}  // namespace fathom
