// The prose part of `fathom eval`: bits per byte of a held-out text, by the model, by xz and by 5-gram models.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "cli/options.h"

namespace fathom {

struct ProseCommandOptions {
  ModelOptions model;
  std::string file;                // the held-out text
  std::vector<std::string> train;  // what the n-gram models learn from; empty: none of them
  int32_t window = 0;              // tokens; 0: 2048, or the model's context where that is less
  int32_t stride = 0;              // 0: half a window
  int order = 5;
  int64_t ngram_mib = 1024;  // for the tables of one n-gram model
  bool json = false;
};

/// Measures and prints. Errors: of reading, loading and measuring; kCancelled after Ctrl-C.
Status RunProse(const ProseCommandOptions& options);

}  // namespace fathom
