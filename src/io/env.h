// The Env seam: every byte to and from disk goes through here, so that a test can fail, shorten, tear or flip it.
//
// Env::Default() is the POSIX implementation and lives as long as the program; io/fault_env.h wraps any Env and
// misbehaves on demand. Files are owned by the caller (unique_ptr) and may outlive the call that made them, not the
// Env. An Env is thread-safe; a file object is used by one thread at a time, except MappedFile (reading is free) and
// RandomAccessFile::Read (positional, so concurrent reads are fine).
//
// Failures are values: kNotFound (no such file), kResource (no space, memory or descriptors), kInvalidArgument (the
// path is not a regular file), kIo otherwise; the message names the path and the system's reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/direct_file.h"

namespace fathom {

/// What the kernel should expect of a mapping (madvise).
enum class MapAdvice {
  kNormal,      // default read-ahead
  kRandom,      // none: for weights read by expert, where read-ahead fetches mostly unwanted bytes
  kSequential,  // aggressive, pages dropped soon after
  kWillNeed,    // start reading now, without waiting
  kPopulate,    // read now and map the pages; returns when all are there (where the kernel can, else as kWillNeed)
  kDrop,        // not soon again: give the pages back, those of the page cache too that nobody else maps
};

struct MapOptions {
  MapAdvice advice = MapAdvice::kNormal;
  bool populate = false;  // fault every page in before returning (MAP_POPULATE)
};

/// A file mapped read-only. The span stays valid, and stays put, until the object dies; moving is not offered.
///
/// What happens when somebody truncates the file meanwhile: the pages past the new end are gone, and touching them
/// raises SIGBUS, which no check can exclude beforehand (the file may shrink between check and use). fathom therefore
/// parses headers only within the size seen at opening, and offers CheckUnchanged() for the moments where asking is
/// cheap (before a request, after an unexpected result). Replace model files by renaming, never in place.
class MappedFile {
 public:
  /// release is called once, at destruction; probe reports the file's size now (for CheckUnchanged), or why it is not the
  /// file that was mapped; it may be empty.
  MappedFile(std::string path, std::span<const std::byte> bytes, std::function<void()> release,
             std::function<Result<int64_t>()> probe, std::function<Status(int64_t, int64_t, MapAdvice)> advise)
      : path_(std::move(path)),
        bytes_(bytes),
        release_(std::move(release)),
        probe_(std::move(probe)),
        advise_(std::move(advise)) {}
  ~MappedFile() {
    if (release_) release_();
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }
  int64_t size() const { return static_cast<int64_t>(bytes_.size()); }
  const std::string& path() const { return path_; }

  /// kCorrupt when the file behind the mapping is shorter than when it was mapped, or was written to since (its time of
  /// modification). A file replaced by renaming is no change: what was mapped is still there.
  Status CheckUnchanged() const;
  /// Advice for [offset, offset + bytes), clipped to the file; a hint, so failure may be ignored.
  Status Advise(int64_t offset, int64_t bytes, MapAdvice advice) const;

 private:
  std::string path_;
  std::span<const std::byte> bytes_;
  std::function<void()> release_;
  std::function<Result<int64_t>()> probe_;
  std::function<Status(int64_t, int64_t, MapAdvice)> advise_;
};

/// A file open for positional reading.
class RandomAccessFile {
 public:
  virtual ~RandomAccessFile() = default;
  virtual int64_t size() const = 0;  // at opening
  /// Reads up to out.size() bytes at offset; may return fewer, 0 only at the end of the file.
  virtual Result<size_t> Read(int64_t offset, std::span<std::byte> out) const = 0;
};

/// A file open for appending. Not synced unless asked. Destruction closes, without reporting errors.
class WritableFile {
 public:
  virtual ~WritableFile() = default;
  virtual Status Append(std::span<const std::byte> bytes) = 0;  // all of them, or an error
  virtual Status Sync() = 0;                                    // to the device (fsync)
  virtual Status Close() = 0;
};

/// Held by this process until destroyed (also when it is killed); see Env::LockFile.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

/// Who may read a file that is made: whom the umask lets, or its user alone (mode 0600).
enum class FileAccess { kUmask, kPrivate };

class Env {
 public:
  virtual ~Env() = default;
  static Env& Default();

  virtual Result<std::unique_ptr<MappedFile>> Map(const std::string& path, const MapOptions& options) = 0;
  virtual Result<std::unique_ptr<RandomAccessFile>> OpenForReading(const std::string& path) = 0;
  /// A new file; kInvalidArgument when the path exists.
  virtual Result<std::unique_ptr<WritableFile>> Create(const std::string& path, FileAccess access = FileAccess::kUmask) = 0;
  /// Atomically replaces `to`.
  virtual Status Rename(const std::string& from, const std::string& to) = 0;
  virtual Status Remove(const std::string& path) = 0;
  /// Makes renames and removals in a directory durable.
  virtual Status SyncDirectory(const std::string& path) = 0;
  virtual Result<int64_t> FileSize(const std::string& path) = 0;  // regular files only
  virtual bool IsDirectory(const std::string& path) = 0;
  virtual bool Exists(const std::string& path) = 0;
  /// Names (not paths) in a directory, sorted, without "." and "..".
  virtual Result<std::vector<std::string>> List(const std::string& path) = 0;
  /// See io/direct_file.h. Errors as for the others; kNotFound when it is missing and options.create is not set.
  /// What it makes is its user's alone: blocks of a cache stand in such files.
  virtual Result<std::unique_ptr<DirectFile>> OpenDirect(const std::string& path, const DirectOpenOptions& options) = 0;
  /// With its parents, those that it makes for its user alone (0700, as the XDG specification asks for caches); fine, and
  /// left as it is, when it is there.
  virtual Status CreateDirectories(const std::string& path) = 0;
  /// Takes the lock that stands for a folder, made (0600) where it is missing. Does not wait: kResource when somebody else (or
  /// this process already) holds it; the message names the folder and the process.
  virtual Result<std::unique_ptr<FileLock>> LockFile(const std::string& path) = 0;
  /// Bytes that an ordinary user may still write to the file system that `path` is on.
  virtual Result<int64_t> FreeSpace(const std::string& path) = 0;
  /// When its content last changed, in seconds since 1970.
  virtual Result<int64_t> ModifiedSeconds(const std::string& path) = 0;
};

/// Reads exactly out.size() bytes, over short reads; kCorrupt when the file ends before.
Status ReadExactly(const RandomAccessFile& file, const std::string& path, int64_t offset, std::span<std::byte> out);
/// A whole small file as text; kResource when it is larger than max_bytes (nothing is allocated then).
Result<std::string> ReadWholeFile(Env& env, const std::string& path, int64_t max_bytes);

/// The part after the last '/', and the part before it ("." when there is none).
std::string BaseName(const std::string& path);
std::string DirectoryOf(const std::string& path);
std::string JoinPath(const std::string& directory, const std::string& name);

}  // namespace fathom
