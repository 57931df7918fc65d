// How much guessing ahead gains where text repeats and costs where it does not, with and without it turn by turn in one
// process, so that a machine that swings swings for both.
//
// Two courses of text, the same for any model, random weights included: the tokens are given ("replayed") and the sampler's
// choice is not looked at, all else is done as for any answer. An edit: a prompt of random tokens, and an answer that
// repeats it with one token in `edit_every` changed. Nothing that repeats: a prompt and an answer of random tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cli/bench_run.h"

namespace fathom {

struct SpeculationBenchParams {
  int64_t prompt_tokens = 512;
  int64_t generated_tokens = 256;
  int64_t edit_every = 24;
  int repetitions = 3;
  uint64_t seed = 1;
};

struct SpeculationBenchResult {
  std::string what;  // "edit", "new text"
  Spread plain, guessing;  // tokens/s
  Spread ratio;            // of each pair of runs
  int64_t drafted = 0, accepted = 0;
};

/// Errors: kInvalidArgument, as Session::Generate. hooks: progress only.
Result<std::vector<SpeculationBenchResult>> RunSpeculationBench(Engine& engine, const SpeculationBenchParams& params,
                                                                const BenchHooks& hooks);

}  // namespace fathom
