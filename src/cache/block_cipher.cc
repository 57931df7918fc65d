#include "cache/block_cipher.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string_view>

#include "io/env.h"

namespace fathom {
namespace {

constexpr std::string_view kKeyIdText = "fathom kv-segment key id 1";

struct ContextFree {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using Context = std::unique_ptr<EVP_CIPHER_CTX, ContextFree>;

const unsigned char* Bytes(const std::byte* data) { return reinterpret_cast<const unsigned char*>(data); }
unsigned char* Bytes(std::byte* data) { return reinterpret_cast<unsigned char*>(data); }

std::array<unsigned char, 12> FullNonce(const BlockCipher::Nonce& nonce, uint16_t part) {
  std::array<unsigned char, 12> full;
  std::memcpy(full.data(), nonce.data(), nonce.size());
  full[10] = static_cast<unsigned char>(part & 0xFF);
  full[11] = static_cast<unsigned char>(part >> 8);
  return full;
}

bool FitsInt(size_t size) { return size <= static_cast<size_t>(std::numeric_limits<int>::max()); }

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

Result<std::unique_ptr<BlockCipher>> BlockCipher::FromFile(Env& env, const std::string& path) {
  FATHOM_TRY(std::string text, ReadWholeFile(env, path, 4096));
  Key key{};
  bool good = text.size() == kKeyBytes;
  if (good) {
    std::memcpy(key.data(), text.data(), kKeyBytes);
  } else {
    const size_t end = text.find_last_not_of("\r\n");
    const size_t digits = end == std::string::npos ? 0 : end + 1;
    good = digits == 2 * kKeyBytes;
    for (size_t i = 0; good && i < kKeyBytes; ++i) {
      const int high = HexDigit(text[2 * i]), low = HexDigit(text[2 * i + 1]);
      good = high >= 0 && low >= 0;
      key[i] = static_cast<std::byte>(high << 4 | low);
    }
  }
  OPENSSL_cleanse(text.data(), text.size());
  if (!good) {
    OPENSSL_cleanse(key.data(), key.size());
    return Fail(ErrorCode::kInvalidArgument,
                "{}: is not a key: 32 bytes or 64 hexadecimal digits (make one with: openssl rand -hex 32)", path);
  }
  auto cipher = FromKey(key);
  OPENSSL_cleanse(key.data(), key.size());
  return cipher;
}

Result<std::unique_ptr<BlockCipher>> BlockCipher::FromKey(const Key& key) {
  std::unique_ptr<BlockCipher> cipher(new BlockCipher());
  cipher->key_ = key;
  std::array<unsigned char, EVP_MAX_MD_SIZE> hash;
  unsigned int bytes = 0;
  if (HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
           reinterpret_cast<const unsigned char*>(kKeyIdText.data()), kKeyIdText.size(), hash.data(),
           &bytes) == nullptr ||
      bytes < cipher->id_.size()) {
    return Fail(ErrorCode::kInternal, "HMAC-SHA256 failed");
  }
  std::memcpy(cipher->id_.data(), hash.data(), cipher->id_.size());
  return cipher;
}

BlockCipher::~BlockCipher() { OPENSSL_cleanse(key_.data(), key_.size()); }

Result<BlockCipher::Nonce> BlockCipher::NewNonce() {
  Nonce nonce;
  if (RAND_bytes(Bytes(nonce.data()), static_cast<int>(nonce.size())) != 1) {
    return Fail(ErrorCode::kInternal, "the system gives no random bytes");
  }
  return nonce;
}

Result<BlockCipher::Tag> BlockCipher::Seal(const Nonce& nonce, uint16_t part, std::span<const std::byte> authenticated,
                                           std::span<const std::byte> in, std::byte* out) const {
  const Context context(EVP_CIPHER_CTX_new());
  const auto full = FullNonce(nonce, part);
  Tag tag;
  int done = 0, last = 0;
  if (context == nullptr || !FitsInt(in.size()) || !FitsInt(authenticated.size()) ||
      EVP_EncryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, Bytes(key_.data()), full.data()) != 1 ||
      (!authenticated.empty() && EVP_EncryptUpdate(context.get(), nullptr, &done, Bytes(authenticated.data()),
                                                   static_cast<int>(authenticated.size())) != 1) ||
      EVP_EncryptUpdate(context.get(), Bytes(out), &done, Bytes(in.data()), static_cast<int>(in.size())) != 1 ||
      EVP_EncryptFinal_ex(context.get(), Bytes(out) + done, &last) != 1 ||
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes, tag.data()) != 1) {
    return Fail(ErrorCode::kInternal, "AES-256-GCM failed");
  }
  return tag;
}

Status BlockCipher::Open(const Nonce& nonce, uint16_t part, std::span<const std::byte> authenticated, const Tag& tag,
                         std::span<const std::byte> in, std::byte* out) const {
  const Context context(EVP_CIPHER_CTX_new());
  const auto full = FullNonce(nonce, part);
  Tag expected = tag;
  int done = 0, last = 0;
  if (context == nullptr || !FitsInt(in.size()) || !FitsInt(authenticated.size()) ||
      EVP_DecryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, Bytes(key_.data()), full.data()) != 1 ||
      (!authenticated.empty() && EVP_DecryptUpdate(context.get(), nullptr, &done, Bytes(authenticated.data()),
                                                   static_cast<int>(authenticated.size())) != 1) ||
      EVP_DecryptUpdate(context.get(), Bytes(out), &done, Bytes(in.data()), static_cast<int>(in.size())) != 1 ||
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes, expected.data()) != 1) {
    return Fail(ErrorCode::kInternal, "AES-256-GCM failed");
  }
  if (EVP_DecryptFinal_ex(context.get(), Bytes(out) + done, &last) != 1) {
    std::fill_n(out, in.size(), std::byte{0});
    return Fail(ErrorCode::kCorrupt, "does not decrypt: changed, or of another key");
  }
  return {};
}

}  // namespace fathom
