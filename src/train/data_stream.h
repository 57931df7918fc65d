// The documents of one stage, packed into micro-batches: sources mixed by weight, streamed from disk, the exact position
// saved.
//
// Deterministic: the same specs, seed and state give the same batches on every machine. A stream of `ranks` > 1 gives
// rank r the micro-batches r, r + ranks, … of the stream that one rank would see, so that ranks together see the same
// data; after as many batches each, all ranks' states are the same, and fit any number of ranks. A thread of its own
// prepares the next batches from the first Next() on. Not thread-safe. Errors: kNotFound and kIo name the file; kCorrupt names file and line.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "text/tokenizer.h"
#include "train/batch.h"
#include "train/recipe.h"

namespace fathom {

struct DataStreamOptions {
  int64_t batch_tokens = 8192;      // of one micro-batch
  int64_t sequence_length = 1024;   // longer documents are cut into pieces; longer chats and tasks are left out
  uint64_t seed = 1;
  int rank = 0, ranks = 1;
};

class DataStream {
 public:
  /// tokenizer must outlive the stream. Every file is looked for now, so that a missing one is known before the work.
  static Result<std::unique_ptr<DataStream>> Open(const std::vector<DataSpec>& sources, const Tokenizer& tokenizer,
                                                  const DataStreamOptions& options);
  virtual ~DataStream() = default;

  /// The next micro-batch. A source that ends begins again (its epoch is counted, its pieces in another order).
  virtual Result<Batch> Next() = 0;

  /// Where the stream stands, to continue exactly there. Small: positions, and the tokens of pieces that wait to be
  /// packed, some batches' worth (70 KB for batches of 8192).
  virtual nlohmann::json State() const = 0;
  /// Errors: kCorrupt when the state is of another stream (sources, seed or sizes differ).
  virtual Status Restore(const nlohmann::json& state) = 0;

  struct SourceStats {
    std::string name;
    int64_t tokens = 0;     // given out so far
    int64_t documents = 0;
    int64_t left_out = 0;   // longer than a sequence
    double epochs = 0;
  };
  virtual std::vector<SourceStats> Stats() const = 0;
};

}  // namespace fathom
