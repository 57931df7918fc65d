// The SSD tier: KV blocks in preallocated segment files, one slot a block, read and written past the page cache
// (docs/formats/kv-segment.md).
//
// Truth is in the slots' headers: opening reads them all and reports what stands there; there is no index to be wrong.
// A slot is overwritten header first (invalid), then rows, then the valid header, so that a torn write is an empty slot.
// The folder belongs to one process at a time (lock file). Files are synced about once a second and by Flush; the page on
// the format says what a crash leaves. Thread-safe, see cache/tier.h. The AsyncIo outlives the tier; destruction cancels
// what waits to be written (Flush before) and waits for what the device is at.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "cache/tier.h"
#include "io/async_io.h"

namespace fathom {

class Env;

struct SsdTierOptions {
  std::string directory;             // made where it is missing
  int64_t capacity_bytes = 0;        // of all segment files
  int64_t segment_bytes = int64_t{256} << 20;  // more where the capacity would need over 256 files
  int64_t queue_bytes = int64_t{256} << 20;  // rows that wait to be written; beyond it Put answers kResource
  bool direct_io = true;
  std::string key_file;              // empty: not encrypted
  TierProgress progress;
};

class SsdTier : public Tier {
 public:
  /// found: called for every valid block of this space, in the order of writing; its rows have not been read yet. Blocks
  /// of other spaces (another model or element type) stay until their room is needed. A capacity below what is there
  /// removes other spaces' files first, then this one's oldest. Errors: kInvalidArgument (options, a bad or wrong key
  /// file), kResource (in use by another process, memory, descriptors), kIo, kCorrupt (not a cache folder), kUnsupported
  /// (encrypted and no key, a newer version); nothing is changed then.
  static Result<std::unique_ptr<SsdTier>> Open(Env& env, AsyncIo& io, const KvSpace& space,
                                               const SsdTierOptions& options,
                                               const std::function<void(const StoredBlock&)>& found);
};

}  // namespace fathom
