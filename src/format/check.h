// Is this model file whole? Compares what is there with what its configuration needs, without computing anything.
//
// A pure function of the opened file; thread-safe. What it finds are values in the report, never errors. The work and
// the report are bounded, whatever the configuration claims.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "format/model_file.h"

namespace fathom {

struct CheckOptions {
  /// Read every tensor and look for values that can only come from damage: NaN and infinity in plain numbers, in the
  /// scales of blocks and in FP8. Reads the whole file (at disk speed when it is not in memory).
  bool scan_values = false;
  /// Called now and then during the scan with bytes read so far and in all; returning false ends the scan.
  std::function<bool(int64_t done, int64_t total)> progress;
};

struct CheckReport {
  /// One line each, naming the tensor: missing, wrong shape, unusable type, damaged values. Empty: the model is whole.
  /// At most kMaxProblems, and then a line that says so.
  std::vector<std::string> problems;
  /// Tensors that fathom does not use (MTP layers, leftovers), by name; no reason to worry.
  std::vector<std::string> unused;
  int64_t used_bytes = 0;  // of tensors that the forward pass needs
  int64_t unused_bytes = 0;
  bool scanned = false;  // the value scan was asked for and ran to its end

  static constexpr size_t kMaxProblems = 100;
  bool whole() const { return problems.empty(); }
};

CheckReport CheckModel(const ModelFile& model, const CheckOptions& options = {});

/// The first element (or scale) in a tensor that is not finite, counted in elements from its beginning; -1 when all are
/// good. Types without a way to be wrong (integers) are good.
int64_t FindNonFinite(const TensorInfo& tensor);

}  // namespace fathom
