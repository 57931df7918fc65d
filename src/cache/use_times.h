// When blocks on the SSD were last used and how often, over a restart. Slots only know when they were written; to keep more
// there would cost a write a hit. So the cache writes one small file now and then, and when it ends, of the blocks that were
// used since they were written. It is a hint: lost, old or damaged, it leaves blocks as old as their slots say.
//
// The file, little-endian: the eight bytes "FATHUSE1"; a uint64, how many records; a uint64, XXH3-64 of the records; then
// 32 bytes a block: its key (low half, high half), microseconds since 1970 (int64), hits (uint32), zero (uint32).
// Plain functions, thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>

#include "base/result.h"
#include "cache/block_key.h"

namespace fathom {

class Env;

struct BlockUse {
  double last_used = 0;  // seconds since 1970
  uint32_t hits = 0;
  bool operator==(const BlockUse&) const = default;
};

using BlockUses = std::unordered_map<BlockKey, BlockUse>;

/// Beyond so many the rest is left out.
inline constexpr size_t kMostBlockUses = 2'000'000;

/// The file appears whole or not at all. Errors: kIo, kResource.
Status WriteBlockUses(Env& env, const std::string& path, const BlockUses& uses);
/// Empty where there is no file. Errors: kIo; kCorrupt when it is not what it should be.
Result<BlockUses> ReadBlockUses(Env& env, const std::string& path);

}  // namespace fathom
