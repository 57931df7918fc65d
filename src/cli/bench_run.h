// Speed of a loaded model: prefill and decode tokens/s at several context depths, and what share of the machine's
// memory bandwidth decoding reaches and of its arithmetic prefill.
//
// Depths are filled with seeded random tokens, once each and in rising order, so that a deep one costs one prefill.
// Ceilings are measured around every prefill run and between the tokens of every decode run, because shared machines
// swing within minutes, and their memory within fractions of a second.
// One thread; everything that differs between machines comes from outside, so tests run it on a fake engine.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/roofline.h"
#include "engine/engine.h"

namespace fathom {

struct BenchParams {
  int64_t prompt_tokens = 512;    // 0: no prefill measurement
  int64_t generated_tokens = 64;  // 0: no decode measurement
  std::vector<int64_t> depths = {0};
  int repetitions = 3;
  uint64_t seed = 1;
  double bytes_per_token = 0;     // weights read for one decoded token; 0: unknown, no share
  bool roofline = false;          // one more run of each with a profile
  double operations_per_token = 0;  // multiplications and additions with weights for one prefilled token; 0: unknown
};

struct Spread {
  double median = 0, least = 0, most = 0;
  std::vector<double> all;  // in order of measurement
};
Spread SpreadOf(std::vector<double> values);

/// What runs read of experts, all repetitions together.
struct ExpertWork {
  double seconds = 0;        // that the runs took
  double stall_seconds = 0;  // of them, waiting for experts
  double busy_seconds = 0;   // of them, with anything being read
  int64_t tokens = 0, bytes_read = 0, uses = 0, hits = 0;
};

struct DepthResult {
  int64_t depth = 0;
  Spread prefill;  // tokens/s
  Spread decode;   // tokens/s
  double bytes_per_token = 0;      // weights and the KV cache at this depth
  Spread bandwidth;                // bytes/s, of each decode run: as measured between its tokens
  Spread bandwidth_share;          // of each decode run: bytes_per_token * rate / its bandwidth
  Spread arithmetic;               // operations/s that the kernels could do, around the prefill runs
  Spread arithmetic_share;         // of each prefill run: operations_per_token * rate / mean of the peaks around it
  ExpertWork prefill_experts, decode_experts;  // zeros where all of the model is in memory
  Roofline prefill_roofline, decode_roofline;  // empty unless asked for
};

inline constexpr int64_t kBandwidthTokens = 4;

struct BenchHooks {
  /// Reads a fixed amount for some milliseconds, bytes/s; called every kBandwidthTokens tokens of a decode run, whose
  /// time it does not count to. Empty: not measured.
  std::function<double()> bandwidth;
  std::function<double()> arithmetic;  // operations/s now; empty: not measured
  std::function<MachineCeilings()> ceilings;  // all of them now, for rooflines; empty: not measured
  std::function<double()> now;        // seconds; empty: the steady clock
  /// What is going on; false stops (kCancelled). Called between steps.
  std::function<bool(const std::string& what, int64_t done, int64_t total)> progress;
};

/// Results in the order of params.depths. Errors: kInvalidArgument, as Session::Eval.
Result<std::vector<DepthResult>> RunBench(Engine& engine, const BenchParams& params, const BenchHooks& hooks);

}  // namespace fathom
