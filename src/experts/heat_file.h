// Measured routing statistics of a model, kept between runs: how often each expert is used a pass. Seeds the slots of the
// next run. docs/formats/heat.md has the bytes.
//
// A small file beside the model's caches, replaced whole. Losing it, or finding it damaged, costs a warm start and
// nothing else: callers treat every error of Load as "nothing is known". Functions are thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "experts/expert_id.h"
#include "io/env.h"

namespace fathom {

struct ExpertHeat {
  ExpertGeometry geometry;
  std::array<std::byte, 32> fingerprint{};  // of the model (SHA-256)
  std::vector<float> uses;                  // [geometry.count()], in [0, 1]
};

/// "<first 32 hex digits of the fingerprint>.heat" in `directory`.
std::string HeatPath(const std::string& directory, const std::array<std::byte, 32>& fingerprint);
/// Replaces the file atomically, making the directory where it is missing. Errors: kInvalidArgument (sizes), Env's.
Status SaveHeat(Env& env, const std::string& path, const ExpertHeat& heat);
/// Errors: kNotFound, kCorrupt (damaged, or of another model), kUnsupported (a newer version), Env's.
Result<ExpertHeat> LoadHeat(Env& env, const std::string& path, const ExpertGeometry& geometry,
                            const std::array<std::byte, 32>& fingerprint);

/// 64 hex digits (engine/fingerprint.h) as bytes; kInvalidArgument when they are not.
Result<std::array<std::byte, 32>> ParseFingerprint(std::string_view hex);

}  // namespace fathom
