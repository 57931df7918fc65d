// Where pieces of documents come from, one after the other and without end.
//
// A piece is n + 1 tokens: n that a model reads and, for each, the one that follows. Sources are deterministic and not
// thread-safe; tokenizer and Env must outlive them. Errors as data_stream.h says.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/env.h"
#include "text/tokenizer.h"
#include "train/recipe.h"

namespace fathom {

struct Piece {
  std::vector<TokenId> tokens;   // at least 2
  std::vector<uint8_t> counted;  // counted[i]: loss counts for predicting tokens[i]; empty: for all
  bool cuttable = false;         // prose may be cut anywhere to fill a batch; what is left goes on after a BOS
  int source = 0;

  int64_t inputs() const { return static_cast<int64_t>(tokens.size()) - 1; }
};

class DocumentSource {
 public:
  virtual ~DocumentSource() = default;
  virtual Result<Piece> Next() = 0;

  virtual nlohmann::json State() const = 0;
  virtual Status Restore(const nlohmann::json& state) = 0;
  /// What must be equal for a state to fit.
  virtual nlohmann::json Fingerprint() const = 0;

  virtual std::string name() const = 0;
  virtual int64_t left_out() const = 0;
  virtual double epochs() const = 0;
};

struct SourceOptions {
  int64_t sequence_length = 1024;
  uint64_t seed = 1;
};

Result<std::unique_ptr<DocumentSource>> OpenTextSource(Env& env, const DataSpec& spec, const Tokenizer& tokenizer,
                                                       const SourceOptions& options);
Result<std::unique_ptr<DocumentSource>> OpenChatSource(Env& env, const DataSpec& spec, const Tokenizer& tokenizer,
                                                       const SourceOptions& options);
Result<std::unique_ptr<DocumentSource>> OpenTaskSource(const DataSpec& spec, const Tokenizer& tokenizer,
                                                       const SourceOptions& options);

}  // namespace fathom
