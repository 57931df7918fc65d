// The text of many files as shuffled blocks: stretches of prose of some kilobytes, or lines of JSON.
//
// A few files are open at once ("lanes"); of each, a chunk of some megabytes is in memory, cut into blocks that are
// given out in a shuffled order; the lane is drawn by how much is left of its file. So neighbouring blocks come from
// different books, memory is bounded, and every file is read forward once an epoch. Everything random is a function of
// seed, epoch and place, so that the state is a few numbers. Not thread-safe.
#pragma once

#include <deque>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "train/shard_file.h"

namespace fathom {

struct BlockReaderOptions {
  uint64_t seed = 1;
  double held_out_share = 0;  // the last share of each file's bytes, from the next paragraph or line on
  bool held_out = false;      // which part is read
  int64_t block_bytes = 16384;        // of prose
  int64_t chunk_bytes = 4 << 20;
  int lanes = 6;
};

struct Block {
  std::string_view text;  // until the next call
  ShardFormat format = ShardFormat::kText;
  int file = 0;           // for Where()
  int64_t offset = 0;     // of the block in its file
  // The file goes on after the block within the same document (prose that was cut at a paragraph).
  bool document_ends = false;
};

class BlockReader {
 public:
  static constexpr int64_t kMaxLine = int64_t{64} << 20;

  /// Looks at every file. Errors: those of ShardFile::Open and ExpandPaths.
  static Result<BlockReader> Open(Env& env, const std::vector<std::string>& patterns, const BlockReaderOptions& options);

  /// The next block; after the last one the next epoch begins. Errors name the file; kInvalidArgument when the files
  /// are empty.
  Result<Block> Next();

  int64_t epoch() const { return epoch_; }
  int64_t total_bytes() const { return total_; }  // of an epoch
  bool empty() const { return total_ == 0; }
  /// The first file of another format; empty when there is none.
  std::string FirstFileNot(ShardFormat format) const;
  /// Epochs read, with the part of the present one.
  double Epochs() const;
  /// "file: line N", for messages.
  std::string Where(const Block& block) const;

  /// Where the next block comes from.
  nlohmann::json State() const;
  Status Restore(const nlohmann::json& state);
  /// Names and sizes of the files; a state is of the same stream when it is equal.
  nlohmann::json Fingerprint() const;

 private:
  struct FileInfo {
    std::string path;
    ShardFormat format = ShardFormat::kText;
    int64_t size = 0;
    int64_t begin = 0, end = 0;  // what is read of it, before both are moved to the next paragraph or line
  };
  struct Span {
    int64_t begin = 0, length = 0;  // in the chunk
    bool document_ends = false;
  };
  struct Lane {
    int file = -1;
    std::unique_ptr<ShardFile> shard;
    int64_t chunk_begin = -1;  // in the file; -1: no chunk yet
    int64_t chunk_end = 0;
    bool last = false;  // the chunk is the file's last
    std::string text;   // of the chunk
    std::vector<Span> blocks;
    size_t used = 0;
    int64_t left = 0;  // bytes of the file's part that have not been given out
  };

  BlockReader(Env& env, const BlockReaderOptions& options) : env_(&env), options_(options) {}
  void BeginEpoch();
  Status FillLanes();
  Status OpenLane(Lane& lane, int file);
  /// The first paragraph or line that begins at `offset` or later.
  Result<int64_t> Align(ShardFile& shard, const FileInfo& info, int64_t offset);
  Status LoadChunk(Lane& lane, int64_t begin);
  void CutProse(Lane& lane) const;
  void CutLines(Lane& lane) const;

  Env* env_;
  BlockReaderOptions options_;
  std::vector<FileInfo> files_;
  int64_t total_ = 0;  // bytes of an epoch

  int64_t epoch_ = 0;
  uint64_t draws_ = 0;  // in this epoch
  std::vector<int> order_;
  size_t next_file_ = 0;
  std::deque<Lane> lanes_;
};

/// What ends a document inside a text file.
inline constexpr std::string_view kDocumentSeparator = "<|endoftext|>";

}  // namespace fathom
