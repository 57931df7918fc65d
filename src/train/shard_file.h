// A file of training text as a sequence of bytes from any offset, plain or .xz.
//
// Every file is looked at when opened: its size, and for .xz the uncompressed size that its index tells. Reading
// forward is cheap; a step back in an .xz file decodes from the beginning again. Not thread-safe; the Env must outlive
// it. Errors name the file: kNotFound, kIo, kCorrupt (a damaged or truncated .xz, a file that became shorter),
// kResource (an .xz that needs more than 256 MiB to decode).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/env.h"

namespace fathom {

class ShardFile {
 public:
  static Result<std::unique_ptr<ShardFile>> Open(Env& env, const std::string& path);
  virtual ~ShardFile() = default;

  /// Appends exactly min(bytes, size() - offset) bytes from offset to `out`.
  virtual Status Read(int64_t offset, int64_t bytes, std::string& out) = 0;

  int64_t size() const { return size_; }            // uncompressed
  int64_t stored_size() const { return stored_size_; }  // on disk
  const std::string& path() const { return path_; }

 protected:
  ShardFile(std::string path, int64_t size, int64_t stored_size)
      : path_(std::move(path)), size_(size), stored_size_(stored_size) {}

 private:
  std::string path_;
  int64_t size_, stored_size_;
};

/// Files that the patterns name (*, ?, […]), sorted within each pattern, each once. A plain name is itself. Errors:
/// kNotFound naming the pattern that matches nothing.
Result<std::vector<std::string>> ExpandPaths(Env& env, const std::vector<std::string>& patterns);

enum class ShardFormat { kText, kJsonLines };
/// By the name, without .xz; kUnsupported for compressions that fathom does not read.
Result<ShardFormat> FormatOfShard(const std::string& path);

/// The number (from 1) of the line that the byte at `offset` is in, for messages: reads the file from its beginning.
/// 0 when that fails.
int64_t LineAt(Env& env, const std::string& path, int64_t offset);

}  // namespace fathom
