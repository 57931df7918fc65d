// A file on its way: NAME.part beside NAME, locked while somebody writes it, renamed when it is whole and checked.
//
// The lock is on the .part file itself, so a killed process leaves no stale lock. NAME.part.json remembers what the
// bytes so far belong to. One thread; several processes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "base/result.h"

namespace fathom {

class PartFile {
 public:
  struct Note {
    std::string url;
    std::string etag;  // strong, as the server sent it; empty when it sent none
  };

  /// Creates folders, opens and locks the part file. While another process holds it, `waiting` is called about five
  /// times a second; false gives up (kCancelled). Afterwards done() tells whether somebody else has finished NAME
  /// meanwhile.
  static Result<PartFile> Open(const std::filesystem::path& destination, const std::function<bool()>& waiting);
  PartFile(PartFile&& other) noexcept;
  PartFile& operator=(PartFile&&) = delete;
  ~PartFile();

  bool done() const { return done_; }
  int64_t size() const { return size_; }
  const std::filesystem::path& path() const { return part_; }

  /// What the bytes so far belong to; an empty Note when unknown.
  Note ReadNote() const;
  Status WriteNote(const Note& note) const;

  Status Append(const void* data, size_t bytes);
  /// Back to nothing.
  Status Restart();
  /// Bytes to disk, then NAME appears whole or not at all.
  Status Commit();
  /// Removes the part file and its note.
  void Discard();

 private:
  PartFile() = default;
  std::filesystem::path destination_, part_;
  int fd_ = -1;
  int64_t size_ = 0;
  bool done_ = false;
};

/// Bytes free for this user on the disk that holds `path` (or its nearest existing ancestor); -1 when unknown.
int64_t FreeDiskSpace(std::filesystem::path path);

}  // namespace fathom
