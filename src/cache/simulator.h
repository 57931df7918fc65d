// What a cache would have done: replays a trace of requests, each a chain of blocks known by hashes, over the eviction
// policies and the write budget that the cache itself uses, in a memory tier above a disk tier.
//
// Every missed block enters memory (it was just computed) and is offered to the disk; a block that was not admitted
// there is offered again when it is hit. A hit counts only as long as all blocks before it are there too. Generated
// tokens are not in the traces and are not counted. Pure and deterministic; not thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cache/eviction.h"
#include "cache/kv_cache.h"

namespace fathom {

/// Requests over a tree of blocks. A block is its hash and everything before it.
struct CacheTrace {
  static constexpr int32_t kNone = -1;
  struct Block {
    int32_t parent = kNone;
    int32_t depth = 0;   // blocks before it
  };
  struct Request {
    double seconds = 0;
    int64_t tokens = 0;            // of the prompt
    std::vector<int32_t> blocks;   // indices into CacheTrace::blocks, root first
  };
  int64_t block_tokens = 512;
  std::vector<Block> blocks;
  std::vector<Request> requests;

  /// Tokens of block `i` of a request: the last one may be partly filled.
  int64_t TokensOf(const Request& request, size_t i) const;
};

/// Reads lines {"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [ ... ]} (the format of the
/// Mooncake traces), one hash for every `block_tokens` tokens begun. Blank lines are skipped. name: for messages.
/// Errors: kCorrupt with the line and the field.
Result<CacheTrace> ParseTrace(std::string_view text, std::string_view name, int64_t block_tokens = 512);

struct SimulatorOptions {
  int64_t memory_bytes = 0;  // 0: no such tier
  int64_t disk_bytes = 0;
  EvictionKind policy = EvictionKind::kSavedTime;
  int64_t daily_write_bytes = 0;
  int64_t bytes_per_token = 70272;  // bf16 rows of DeepSeek-V3: 61 layers of 576 values
  ComputeRates compute{.seconds_per_token = 1e-2, .seconds_per_token_position = 1e-7};
};

struct SimulatorReport {
  int64_t requests = 0, tokens = 0, blocks = 0;
  int64_t ceiling_tokens = 0;                       // that a cache without end would hit
  int64_t memory_hit_tokens = 0, disk_hit_tokens = 0;
  int64_t hit_requests = 0;                         // with at least one block hit
  double compute_seconds = 0, saved_seconds = 0, ceiling_seconds = 0;
  int64_t evicted_memory = 0, evicted_disk = 0;     // blocks
  int64_t disk_written_bytes = 0, not_admitted = 0; // not_admitted: offers refused
  int64_t peak_memory_bytes = 0, peak_disk_bytes = 0;

  int64_t hit_tokens() const { return memory_hit_tokens + disk_hit_tokens; }
};

SimulatorReport Simulate(const CacheTrace& trace, const SimulatorOptions& options);

/// Hit tokens that no policy can exceed with room for `bytes` in all tiers together: Belady's MIN, which knows the
/// future, gives up (or does not take in) the block whose next use is farthest. A block's parent is used whenever it
/// is, so MIN keeps parents longer than their children by itself: the bound obeys the tree, and it is reached.
int64_t BeladyHitTokens(const CacheTrace& trace, int64_t bytes, int64_t bytes_per_token);

}  // namespace fathom
