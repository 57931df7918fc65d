// Runs a suite's items through a model in batches and sums the scores up.
//
// Items are sampled by seed (the same seed and n choose the same items on every machine) and stay in the suite's order,
// so that neighbours share their few-shot examples. A prompt that cannot be answered (too long for the context) counts
// as wrong and is counted in `errors`. Stopping (progress returns false) keeps what was finished: `partial` is set, and
// the scores are those of the finished items, which in a batch are rather the short ones.
//
// Not thread-safe; the engine is used by one run at a time.
#pragma once

#include <functional>
#include <map>

#include "engine/batch_generator.h"
#include "engine/engine.h"
#include "eval/statistics.h"
#include "eval/suite.h"

namespace fathom {

struct EvalOptions {
  SuiteContext context;
  ChatFormat format = ChatFormat::kPlain;  // of messages; kPlain: texts to be continued
  bool thinking = true;                    // formats with a switch: the prompt ends in <think>, else in </think>
  int32_t max_tokens = 0;                  // of an answer; 0: as the suite has it
  BatchOptions batch;
};

/// One item's outcome, in full.
struct Sample {
  const EvalItem* item = nullptr;
  std::string prompt;  // as the model got it, control tokens by name
  std::string output, reasoning;
  std::string error;  // why there is no answer; empty: there is one
  FinishReason finish_reason = FinishReason::kStop;
  ItemScore score;
  int64_t prompt_tokens = 0, generated_tokens = 0;
};

struct FamilyResult {
  FamilyInfo info;
  Estimate score;
  std::optional<double> extra;  // mean of the second measure
  std::optional<double> chance;
};

struct SuiteResult {
  const Suite* suite = nullptr;
  LoadedSuite loaded;           // owns the items that samples point to
  int64_t asked = 0;            // items chosen
  std::vector<Sample> samples;  // finished ones, in the suite's order
  std::vector<FamilyResult> families;
  Estimate score;  // the headline
  std::optional<double> extra, chance;
  int64_t errors = 0;   // prompts that could not be answered
  int64_t cut_off = 0;  // answers that ended at max_tokens or the context
  bool partial = false;
  BatchProgress work;
  double seconds = 0;
};

/// `count` of `total` indices, chosen by seed without repetition, ascending; all of them when count is 0 or too large.
std::vector<size_t> SampleIndices(size_t total, size_t count, uint64_t seed);

/// A prompt as the model gets it. Errors: as EncodeChat; kUnsupported when the model has no usable tokenizer.
Result<std::vector<TokenId>> EncodeItem(const Engine& engine, const EvalItem& item, const EvalOptions& options);

/// Told after every step; false stops.
using EvalProgressFn = std::function<bool(const BatchProgress& progress, double score_so_far)>;
/// Told of each item as it is finished, for samples on disk.
using SampleFn = std::function<Status(const Sample&)>;

/// Errors: of loading, of the engine as a whole, and of `on_sample`.
Result<SuiteResult> RunSuite(Engine& engine, const Suite& suite, const EvalOptions& options,
                             const SampleFn& on_sample = {}, const EvalProgressFn& progress = {});

/// Sums up result.samples into families and the headline. Part of RunSuite; for tests.
void Summarize(SuiteResult& result);

}  // namespace fathom
