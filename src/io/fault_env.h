// An Env for tests that passes everything to another Env and misbehaves where told: fails opens, shortens reads, tears
// writes, refuses syncs and renames, flips and cuts bytes of mapped files.
//
// Set the fields before use; not thread-safe against changing them while files are in use.
#pragma once

#include <map>
#include <memory>
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
  size_t max_read = 0;                 // at most this many bytes per Read; 0: no limit
  int64_t fail_reads_from = kNever;    // reads that touch this offset or later fail with kIo
  int64_t fail_write_after = kNever;   // bytes that still reach a file before Append fails with kResource (torn)
  int64_t map_truncate = kNever;       // mapped files look this long
  int64_t shrink_after_map = kNever;   // CheckUnchanged sees this size
  std::map<int64_t, uint8_t> map_xor;  // offset -> bits flipped in mapped files
  std::string only;                    // when not empty: only paths that contain it misbehave
};

class FaultEnv : public Env {
 public:
  explicit FaultEnv(Env& base = Env::Default()) : base_(base) {}

  Faults faults;
  int64_t bytes_appended = 0;  // that reached the files underneath
  int syncs = 0;

  Result<std::unique_ptr<MappedFile>> Map(const std::string& path, const MapOptions& options) override;
  Result<std::unique_ptr<RandomAccessFile>> OpenForReading(const std::string& path) override;
  Result<std::unique_ptr<WritableFile>> Create(const std::string& path) override;
  Status Rename(const std::string& from, const std::string& to) override;
  Status Remove(const std::string& path) override { return base_.Remove(path); }
  Status SyncDirectory(const std::string& path) override;
  Result<int64_t> FileSize(const std::string& path) override { return base_.FileSize(path); }
  bool IsDirectory(const std::string& path) override { return base_.IsDirectory(path); }
  bool Exists(const std::string& path) override { return base_.Exists(path); }
  Result<std::vector<std::string>> List(const std::string& path) override { return base_.List(path); }

  bool Applies(const std::string& path) const {
    return faults.only.empty() || path.find(faults.only) != std::string::npos;
  }

 private:
  Env& base_;
};

}  // namespace fathom
