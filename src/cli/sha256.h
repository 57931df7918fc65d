// SHA-256 of files and buffers (OpenSSL).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace fathom {

/// One per stream; not thread-safe.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void Add(const void* data, size_t bytes);
  /// Lowercase hex; once.
  std::string Finish();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

/// Of a whole file. `progress` gets bytes done and to do; false stops (kCancelled).
Result<std::string> Sha256OfFile(const std::filesystem::path& path,
                                 const std::function<bool(int64_t done, int64_t total)>& progress = {});

/// 64 hexadecimal digits, lowercased; empty when the text is something else.
std::string NormalSha256(std::string_view text);

}  // namespace fathom
