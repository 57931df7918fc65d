// What stands beside the gate of every MoE layer: records its choices, or puts recorded ones in their place.
//
// Called by the forward pass, one pass at a time, layer by layer from 0. Not thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "experts/routing_trace.h"

namespace fathom {

class RoutingObserver {
 public:
  virtual ~RoutingObserver() = default;
  /// The gate of MoE layer `layer` has chosen ids [tokens, top_k]. True: they have been replaced (each token's different
  /// from each other), and the weights have to be computed anew.
  virtual bool OnRouted(int32_t layer, int64_t tokens, std::span<int32_t> ids) = 0;
  /// Nothing more comes. Errors: those of the disk.
  virtual Status Finish() { return {}; }
};

/// Passes that end before their last layer are not recorded. Errors while recording show at Finish().
std::unique_ptr<RoutingObserver> MakeRoutingRecorder(const ExpertGeometry& geometry, std::unique_ptr<RoutingWriter> writer);

/// The trace's tokens in order, from the beginning again at its end. A trace of fewer layers is used again for the later
/// ones, each time kLayerLag tokens on; of more choices, the first top_k. Errors: kInvalidArgument (another number of
/// experts, fewer choices than the model makes).
Result<std::unique_ptr<RoutingObserver>> MakeRoutingReplayer(const ExpertGeometry& geometry, RoutingTrace trace);

}  // namespace fathom
