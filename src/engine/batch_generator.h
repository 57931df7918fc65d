// Answers to many prompts at once: a queue of prompts, a bounded number of sequences in flight, and every step one
// pass of the model over all of them (pieces of new prompts and one token of each answer). A sequence leaves when its
// answer ends, and the next prompt joins.
//
// Greedy answers are those of a lone Session (the same code draws and ends them). Neighbouring prompts that begin alike
// (few-shot examples, a system message) have their common beginning computed once.
//
// Comes from Engine::NewBatchGenerator() and must not outlive its engine. One Run() at a time; the engine's compute
// pool is shared with its sessions step by step. A prompt that cannot be answered is an error of its own and does not
// end the run.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"

namespace fathom {

struct BatchOptions {
  int32_t max_sequences = 16;           // in flight at once, [1, 1024]
  int32_t step_tokens = 1024;           // rows of a step: answers' tokens first, the rest for prompts; [16, 65536]
  int64_t kv_bytes = int64_t{2} << 30;  // most memory for keys and values of sequences in flight
};

struct BatchRequest {
  std::vector<TokenId> prompt;
  GenerationParams params;
};

struct BatchProgress {
  int64_t finished = 0;
  int64_t total = 0;
  int32_t in_flight = 0;
  int64_t prompt_tokens = 0;  // evaluated so far
  int64_t cached_tokens = 0;  // of prompts, taken from a common beginning
  int64_t generated_tokens = 0;
};

class BatchGenerator {
 public:
  virtual ~BatchGenerator() = default;

  /// Called once for every prompt that was answered or refused, in the order of finishing.
  using DoneFn = std::function<void(size_t index, Result<GenerationResult> result)>;
  /// Called several times a step; return false to stop.
  using ProgressFn = std::function<bool(const BatchProgress&)>;

  /// Answers all requests. Errors of one prompt (too long for the context or for kv_bytes: kResource; parameters or ids
  /// out of range: kInvalidArgument) go to `done`. Errors of the run: kCancelled, and what is left undone then is
  /// not reported.
  virtual Status Run(std::span<const BatchRequest> requests, const DoneFn& done, const ProgressFn& progress = {}) = 0;
};

}  // namespace fathom
