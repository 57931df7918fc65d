// Writes a file that appears whole or not at all: bytes go to a temporary name in the same directory, Finish() syncs
// and renames it into place, and anything else (an error, destruction) removes it.
//
// Buffered; meant for large sequential writes. Not thread-safe. After a failed call every further call fails with the
// same error, and the destructor cleans up.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/env.h"

namespace fathom {

class FileWriter {
 public:
  static constexpr size_t kDefaultBuffer = size_t{4} << 20;

  /// The temporary file is made at once, so that a directory that cannot be written is known before the work.
  static Result<std::unique_ptr<FileWriter>> Create(Env& env, const std::string& path,
                                                    size_t buffer_bytes = kDefaultBuffer,
                                                    FileAccess access = FileAccess::kUmask);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  Status Append(std::span<const std::byte> bytes);
  /// Zero bytes, e.g. padding.
  Status AppendZeros(int64_t count);
  /// Flushes, syncs, renames and syncs the directory. The file is there when this returns without error.
  Status Finish();

  int64_t position() const { return position_; }  // bytes appended so far
  const std::string& path() const { return path_; }

 private:
  FileWriter(Env& env, std::string path, std::string temporary, std::unique_ptr<WritableFile> file,
             size_t buffer_bytes);
  Status Flush();
  Status Remember(Status status);

  Env& env_;
  std::string path_;
  std::string temporary_;
  std::unique_ptr<WritableFile> file_;
  std::vector<std::byte> buffer_;
  size_t capacity_;
  int64_t position_ = 0;
  bool finished_ = false;
  Status error_;
};

/// A whole small file, the counterpart of ReadWholeFile: it appears with all of `text`, synced, or not at all.
Status WriteWholeFile(Env& env, const std::string& path, std::string_view text, FileAccess access = FileAccess::kUmask);

}  // namespace fathom
