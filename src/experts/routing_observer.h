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
  /// What an early look at the gate of `layer`, `ahead` layers before its turn, is to have found instead of what it found:
  /// ids [tokens, top_k] are replaced. False: it stands, as the choices themselves.
  virtual bool OnGuessed(int32_t layer, int32_t ahead, int64_t tokens, std::span<int32_t> ids) {
    (void)layer, (void)ahead, (void)tokens, (void)ids;
    return false;
  }
  /// Nothing more comes. Errors: those of the disk.
  virtual Status Finish() { return {}; }
};

/// Passes that end before their last layer are not recorded. Errors while recording show at Finish().
std::unique_ptr<RoutingObserver> MakeRoutingRecorder(const ExpertGeometry& geometry, std::unique_ptr<RoutingWriter> writer);

/// The trace's tokens in order, from the beginning again at its end. A trace of fewer layers is used again for the later
/// ones, each time kLayerLag tokens on; of more choices, the first top_k. Errors: kInvalidArgument (another number of
/// experts, fewer choices than the model makes, guesses_right not in [0, 1]).
/// A model's own early looks know nothing of a record. In their place come the record's choices, each right with
/// probability guesses_right one layer ahead, and its n-th power n layers ahead; seeded, so runs repeat.
Result<std::unique_ptr<RoutingObserver>> MakeRoutingReplayer(const ExpertGeometry& geometry, RoutingTrace trace,
                                                             double guesses_right = 0);

}  // namespace fathom
