// The engine's own batch: first come, first served, decode before prefill. Internal to engine/; see batch_generator.h
// for the contract.
#pragma once

#include <memory>
#include <mutex>

#include "engine/batch_generator.h"
#include "engine/generation.h"
#include "model/model.h"

namespace fathom {

/// How many tokens two sequences have in common at their beginning.
int64_t CommonPrefix(std::span<const TokenId> a, std::span<const TokenId> b);

class BatchImpl final : public BatchGenerator {
 public:
  /// Everything passed by reference outlives the batch. `compute` is held while the model runs.
  BatchImpl(Model& model, KvPool& kv_pool, std::mutex& compute, const Tokenizer* tokenizer, int32_t context_length,
            const BatchOptions& options)
      : model_(model),
        kv_pool_(kv_pool),
        compute_(compute),
        tokenizer_(tokenizer),
        context_length_(context_length),
        options_(options) {}

  /// Options in range; the message names the field (kInvalidArgument).
  static Status Check(const BatchOptions& options);

  Status Run(std::span<const BatchRequest> requests, const DoneFn& done, const ProgressFn& progress) override;

 private:
  struct Sequence;
  class Work;  // one Run()

  Model& model_;
  KvPool& kv_pool_;
  std::mutex& compute_;
  const Tokenizer* tokenizer_;
  int32_t context_length_;
  BatchOptions options_;
};

}  // namespace fathom
