// A model's files, open for reads past the page cache or through it, and what tells whether they are still what they were.
//
// Read-only after Open(), thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/env.h"

namespace fathom {

class ModelFiles {
 public:
  /// direct: past the page cache, where the file systems can (direct() tells); else through it, without reading ahead. Errors:
  /// those of Env.
  static Result<std::unique_ptr<ModelFiles>> Open(Env& env, std::span<const std::string> paths, bool direct);
  /// Whether all of them are read past the page cache.
  bool direct() const;

  DirectFile* file(int32_t index) const { return files_[index].file.get(); }
  /// Bytes of [offset, offset + bytes) that can be read in whole pages: the file's last page, when it is not whole, cannot.
  int64_t Readable(int32_t index, int64_t offset, int64_t bytes) const;
  /// Copies what of [offset, offset + bytes) lies in the last page to `out`, which stands for the whole range.
  void CopyTail(int32_t index, int64_t offset, int64_t bytes, std::byte* out) const;
  /// kCorrupt with the file's name when one of them has another length, time of modification or inode than at opening.
  /// Replacing a file by renaming another one over it is no change: what was opened is still there.
  Status CheckUnchanged() const;
  Status CheckUnchanged(int32_t index) const;

 private:
  struct Stamp {
    int64_t size = 0, modified = 0;
    uint64_t inode = 0, device = 0;
    bool operator==(const Stamp&) const = default;
  };
  struct File {
    std::unique_ptr<DirectFile> file;
    Stamp stamp;
    std::vector<std::byte> tail;  // from the last page boundary to the end
  };
  explicit ModelFiles(Env& env) : env_(env) {}
  Result<Stamp> StampOf(const DirectFile& file) const;

  Env& env_;
  std::vector<File> files_;
};

}  // namespace fathom
