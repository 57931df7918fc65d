// How many rows a piece of a prompt should have when experts are streamed.
//
// Every piece reads about all experts that are not resident, however many rows it has, so it should be long enough that
// computing takes at least as long as that; beyond, more rows only take more scratch memory. Pure functions, thread-safe.
#pragma once

#include <cstdint>

#include "format/model_config.h"

namespace fathom {

struct PrefillRowsInput {
  int64_t base = 1024;     // rows when nothing is streamed; there are never fewer
  int64_t most = 8192;     // rows that there is scratch memory for
  double pass_bytes = 0;   // that a pass over all experts has to read
  double disk_rate = 0;    // bytes/s, > 0
  double row_seconds = 0;  // of computing, > 0
};

/// Rows whose computing takes kComputeShare times as long as reading pass_bytes, in whole kQuantum; at least base, at most
/// max(base, most).
int64_t PrefillRows(const PrefillRowsInput& input);
inline constexpr double kComputeShare = 1.25;
inline constexpr int64_t kPrefillQuantum = 64;

/// Scratch memory of a forward pass that each of its rows takes, in bytes: what model/scratch.h holds, by the shapes of
/// the model's blocks.
int64_t ScratchBytesOfRow(const ModelConfig& config);

}  // namespace fathom
