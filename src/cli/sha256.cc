#include "cli/sha256.h"

#include <openssl/evp.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

namespace fathom {

struct Sha256::Context {
  EVP_MD_CTX* md = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(md); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) { EVP_DigestInit_ex(context_->md, EVP_sha256(), nullptr); }
Sha256::~Sha256() = default;

void Sha256::Add(const void* data, size_t bytes) { EVP_DigestUpdate(context_->md, data, bytes); }

std::string Sha256::Finish() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  EVP_DigestFinal_ex(context_->md, digest, &length);
  std::string hex;
  for (unsigned i = 0; i < length; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

Result<std::string> Sha256OfFile(const std::filesystem::path& path,
                                 const std::function<bool(int64_t, int64_t)>& progress) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return Fail(ErrorCode::kIo, "{}: {}", path.string(), std::strerror(errno));
  std::error_code ignored;
  const auto total = static_cast<int64_t>(std::filesystem::file_size(path, ignored));
  std::vector<char> buffer(1 << 20);
  Sha256 sha;
  int64_t done = 0;
  bool stopped = false;
  while (const size_t got = std::fread(buffer.data(), 1, buffer.size(), file)) {
    sha.Add(buffer.data(), got);
    done += static_cast<int64_t>(got);
    if (progress && !progress(done, total)) {
      stopped = true;
      break;
    }
  }
  const bool failed = std::ferror(file) != 0;
  std::fclose(file);
  if (stopped) return Fail(ErrorCode::kCancelled, "interrupted");
  if (failed) return Fail(ErrorCode::kIo, "{}: reading failed", path.string());
  return sha.Finish();
}

std::string NormalSha256(std::string_view text) {
  if (text.size() != 64) return {};
  std::string normal;
  for (const char c : text) {
    if (c >= '0' && c <= '9') normal += c;
    else if (c >= 'a' && c <= 'f') normal += c;
    else if (c >= 'A' && c <= 'F') normal += static_cast<char>(c - 'A' + 'a');
    else return {};
  }
  return normal;
}

}  // namespace fathom
