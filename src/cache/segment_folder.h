// The files of the SSD tier: its folder, its lock, the segment files of all spaces and the capacity that they share
// (docs/formats/kv-segment.md, "The folder"). What stands in the slots is the tier's business.
//
// Not thread-safe. Opening changes nothing until every check of folder, versions and keys has passed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "cache/block_cipher.h"
#include "cache/segment_format.h"
#include "cache/tier.h"
#include "io/env.h"

namespace fathom {

class SegmentFolder {
 public:
  struct Options {
    std::string directory;
    int64_t capacity_bytes = 0;
    int64_t segment_bytes = 0;
    bool direct_io = true;
    TierProgress progress;
  };
  struct Segment {
    SegmentInfo info;
    std::unique_ptr<DirectFile> file;
    int64_t usable_slots = 0;  // fewer than info.slots when the file is short and could not be extended
  };

  /// prototype: space, layout, cipher and key of the segments to use and to make. Errors: see SsdTier::Open.
  static Result<std::unique_ptr<SegmentFolder>> Open(Env& env, const SegmentInfo& prototype, const Options& options,
                                                     const std::string& key_file);

  /// Removes all segment files of a cache folder that nobody has open. Errors: kResource (in use), kIo.
  static Status RemoveAll(Env& env, const std::string& directory);

  /// Hands over the segments found at opening, by number.
  std::vector<Segment> TakeSegments() { return std::move(segments_); }
  /// A new one, ready for use; makes room by removing what belongs to other spaces. Errors: kResource (the capacity is
  /// used up, or the device is full), kIo.
  Result<Segment> Make();

 private:
  struct Stranger {  // a segment file that is not used, and may be removed for room
    std::string path;
    int64_t bytes = 0, modified = 0;
  };

  SegmentFolder(Env& env, const SegmentInfo& prototype, const Options& options)
      : env_(env), prototype_(prototype), options_(options) {}
  Status Prepare();
  Status Survey(const std::string& key_file);
  Status OpenOwn(const std::string& path, const std::string& key_file);
  Status KeepWithinCapacity();
  Status RemoveStranger();  // the oldest. REQUIRES: there is one
  Result<Segment> MakeOf(int64_t slots);
  int64_t room() const { return options_.capacity_bytes - own_bytes_ - stranger_bytes_; }

  Env& env_;
  SegmentInfo prototype_;
  Options options_;
  std::string own_;  // the space's folder
  std::unique_ptr<FileLock> lock_;
  std::vector<Segment> segments_;
  std::vector<Stranger> strangers_;  // the oldest last
  int64_t own_bytes_ = 0, stranger_bytes_ = 0;
  uint64_t next_number_ = 1;
};

}  // namespace fathom
