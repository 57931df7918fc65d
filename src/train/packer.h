// Pieces to micro-batches of a fixed size: sources mixed by weight, documents laid end to end, little padding.
//
// Pieces are taken from the source that is furthest behind its share, and wait in a short list: the oldest goes into
// the batch while it fits, then the largest that fits; at the end prose is cut to fill what is left. Deterministic, not
// thread-safe.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "base/result.h"
#include "train/batch.h"
#include "train/data_stream.h"
#include "train/document_source.h"

namespace fathom {

class Packer {
 public:
  struct Source {
    std::unique_ptr<DocumentSource> documents;
    double weight = 1;
  };

  /// token_bytes: length of each token's text, by id; bos: -1 when there is none.
  Packer(std::vector<Source> sources, int64_t batch_tokens, std::vector<uint16_t> token_bytes, TokenId bos);

  Result<Batch> Next();

  nlohmann::json State() const;
  Status Restore(const nlohmann::json& state);
  nlohmann::json Fingerprint() const;
  std::vector<DataStream::SourceStats> Stats() const;

 private:
  static constexpr size_t kLookahead = 64;
  static constexpr int64_t kSmallestCut = 16;

  struct Counters {
    int64_t drawn = 0;      // tokens taken from the source
    int64_t tokens = 0;     // given out
    int64_t documents = 0;
  };

  Status Fill();
  size_t Choose(int64_t room) const;
  Piece CutFront(Piece& piece, int64_t inputs) const;
  void Append(const Piece& piece, Batch& batch);

  std::vector<Source> sources_;
  std::vector<Counters> counters_;
  std::deque<Piece> pending_;
  int64_t pending_tokens_ = 0;
  int64_t batch_tokens_;
  std::vector<uint16_t> token_bytes_;
  TokenId bos_;
};

}  // namespace fathom
