// An Env for tests that passes everything to another Env and misbehaves where told: fails opens, shortens reads, tears
// writes, refuses syncs and renames, flips and cuts bytes of mapped files.
//
// Set `faults` before use; not thread-safe against changing them while files are in use. What DirectFiles do
// (DirectFaults) may be changed at any time, since they are used by many threads.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "io/env.h"

namespace fathom {

struct Faults {
  static constexpr int64_t kNever = -1;

  bool fail_map = false;
  bool fail_open = false;
  bool fail_create = false;
  bool fail_sync = false;
  bool fail_close = false;
  bool fail_rename = false;
  bool fail_sync_directory = false;
  bool fail_lock = false;
  int64_t free_space = kNever;         // what FreeSpace says
  size_t max_read = 0;                 // at most this many bytes per Read; 0: no limit
  int64_t fail_reads_from = kNever;    // reads that touch this offset or later fail with kIo
  int64_t fail_write_after = kNever;   // bytes that still reach a file before Append fails with kResource (torn)
  int64_t map_truncate = kNever;       // mapped files look this long
  int64_t shrink_after_map = kNever;   // CheckUnchanged sees this size
  std::map<int64_t, uint8_t> map_xor;  // offset -> bits flipped in mapped files
  std::string only;                    // when not empty: only paths that contain it misbehave
};

/// Misbehaviour of DirectFiles, all files that Faults::only concerns together.
struct DirectFaults {
  static constexpr int64_t kNever = -1;

  int64_t fail_reads_from = kNever;   // reads that touch this offset or later fail with kIo
  int64_t fail_begin = 0, fail_end = 0;  // reads that touch these bytes fail
  int64_t fail_writes_from = kNever;  // the same for writes, with write_error
  int64_t reads_left = kNever;        // so many calls succeed, all later ones fail
  int64_t failing_reads = 0;          // so many reads fail, all later ones go on
  int64_t short_reads = 0;            // so many reads end early, as if the file did (kCorrupt), after their first block
  ErrorCode read_error = ErrorCode::kIo;
  int64_t writes_left = kNever;
  ErrorCode write_error = ErrorCode::kIo;  // kResource: no space
  int64_t write_budget = kNever;  // bytes that still reach files; the write that crosses it is torn there (at a byte)
  bool silent = false;            // torn and dropped writes, and syncs after them, report success: a power cut
  bool fail_sync = false;
  bool fail_allocate = false;           // kResource
  bool fail_punch = false;              // kUnsupported
  bool hang = false;                    // calls wait until this is false again
  int64_t hang_begin = 0, hang_end = 0;  // reads that touch these bytes wait until they do not any more
  std::chrono::microseconds delay{0};   // of every read and write
  std::map<int64_t, uint8_t> read_xor;  // offset -> bits flipped in what is read there
  /// Given the number of the write call, from 0 (over all files): true: nothing of it arrives, and it reports success.
  std::function<bool(int64_t call)> drop_write;
  std::function<bool(int64_t call)> fail_read;  // the same for reads; true: it fails
};

struct DirectCounts {
  int64_t reads = 0, writes = 0, syncs = 0;
  int64_t bytes_read = 0, bytes_written = 0;
  int64_t waiting = 0;  // calls that hang now
};

class FaultEnv : public Env {
 public:
  explicit FaultEnv(Env& base = Env::Default()) : base_(base) {}

  Faults faults;
  int64_t bytes_appended = 0;  // that reached the files underneath
  int syncs = 0;

  Result<std::unique_ptr<MappedFile>> Map(const std::string& path, const MapOptions& options) override;
  Result<std::unique_ptr<RandomAccessFile>> OpenForReading(const std::string& path) override;
  Result<std::unique_ptr<WritableFile>> Create(const std::string& path, FileAccess access) override;
  Status Rename(const std::string& from, const std::string& to) override;
  Status Remove(const std::string& path) override { return base_.Remove(path); }
  Status SyncDirectory(const std::string& path) override;
  Result<int64_t> FileSize(const std::string& path) override { return base_.FileSize(path); }
  bool IsDirectory(const std::string& path) override { return base_.IsDirectory(path); }
  bool Exists(const std::string& path) override { return base_.Exists(path); }
  Result<std::vector<std::string>> List(const std::string& path) override { return base_.List(path); }

  Result<std::unique_ptr<DirectFile>> OpenDirect(const std::string& path, const DirectOpenOptions& options) override;
  Status CreateDirectories(const std::string& path) override;
  Result<std::unique_ptr<FileLock>> LockFile(const std::string& path) override;
  Result<int64_t> FreeSpace(const std::string& path) override;
  Result<int64_t> ModifiedSeconds(const std::string& path) override { return base_.ModifiedSeconds(path); }

  /// Changes what DirectFiles do from now on and wakes those that hang.
  void ChangeDirect(const std::function<void(DirectFaults&)>& change);
  DirectCounts direct_counts() const;

  bool Applies(const std::string& path) const {
    return faults.only.empty() || path.find(faults.only) != std::string::npos;
  }

 private:
  friend class FaultDirectFile;

  Env& base_;
  mutable std::mutex direct_mutex_;
  std::condition_variable direct_changed_;
  DirectFaults direct_;
  DirectCounts direct_counts_;
};

}  // namespace fathom
