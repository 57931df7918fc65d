// What sources of text and of chats have in common: blocks of files that become pieces.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "train/block_reader.h"
#include "train/document_source.h"

namespace fathom {

class BlockSource : public DocumentSource {
 public:
  Result<Piece> Next() final;
  nlohmann::json State() const final;
  Status Restore(const nlohmann::json& state) final;
  nlohmann::json Fingerprint() const final;
  std::string name() const final { return name_; }
  int64_t left_out() const final { return left_out_; }
  double epochs() const final { return reader_.Epochs(); }

 protected:
  BlockSource(BlockReader reader, std::string name) : reader_(std::move(reader)), name_(std::move(name)) {}

  /// Appends the block's pieces, none when it is left out (and then calls LeaveOut()).
  virtual Status Cut(const Block& block, std::vector<Piece>& pieces) = 0;
  void LeaveOut() { ++left_out_; }
  std::string Where(const Block& block) const { return reader_.Where(block); }

 private:
  BlockReader reader_;
  std::string name_;
  nlohmann::json block_state_;  // the reader's, before the present block
  std::vector<Piece> pieces_;   // of the present block
  size_t next_ = 0;
  int64_t left_out_ = 0;
  int64_t block_left_out_ = 0;  // left_out_ before the present block
};

/// "text books_*.txt.xz" and the like, for tables.
std::string NameOfSource(const DataSpec& spec);

}  // namespace fathom
