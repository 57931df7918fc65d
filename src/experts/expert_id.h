// How this room names experts: MoE layers are numbered from 0 (dense layers are not counted), and an expert of the whole
// model has one number, layer * experts + expert. Plain values.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace fathom {

using ExpertId = int32_t;

struct ExpertGeometry {
  static constexpr int32_t kMostLayers = 1024, kMostExperts = 65535, kMostTopK = 256;

  int32_t layers = 0;   // MoE layers
  int32_t experts = 0;  // routed experts of one layer
  int32_t top_k = 0;    // chosen for a token

  int32_t count() const { return layers * experts; }
  ExpertId Id(int32_t layer, int32_t expert) const { return layer * experts + expert; }
  int32_t LayerOf(ExpertId id) const { return id / experts; }
  int32_t ExpertOf(ExpertId id) const { return id % experts; }
  bool operator==(const ExpertGeometry&) const = default;

  /// kInvalidArgument with the field that is out of range.
  Status Check() const {
    if (layers < 1 || layers > kMostLayers) {
      return Fail(ErrorCode::kInvalidArgument, "{} MoE layers are not in [1, {}]", layers, kMostLayers);
    }
    if (experts < 1 || experts > kMostExperts) {
      return Fail(ErrorCode::kInvalidArgument, "{} experts are not in [1, {}]", experts, kMostExperts);
    }
    if (top_k < 1 || top_k > kMostTopK || top_k > experts) {
      return Fail(ErrorCode::kInvalidArgument, "{} experts a token are not in [1, {}]", top_k,
                  kMostTopK < experts ? kMostTopK : experts);
    }
    return {};
  }
};

}  // namespace fathom
