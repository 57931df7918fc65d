// Arithmetic of training one token, counted from the configuration: what a run's FLOP/s and a plan's device-hours are
// made of. Pure functions, thread-safe.
//
// A matrix product with a weight of n × m costs 2nm operations a token. Attention costs, a layer and token, for every
// position attended to, 2·heads·qk_head_dim (scores) and 2·heads·v_head_dim (sum of values); training runs MLA
// decompressed, so kv_b is a product like any other. A causal document of length S attends to (S + 1)/2 positions in
// the mean. Softmax, norms, rotation, embedding lookups and optimiser are left out, as in the usual counts (PaLM,
// arXiv 2204.02311, appendix B). The backward pass costs twice the forward one; recomputing activations repeats the
// forward pass of the layers.
#pragma once

#include "format/model_config.h"

namespace fathom {

/// Of the forward pass, operations a token, summed over layers.
struct FlopsPerToken {
  double attention = 0;  // projections, low-rank ones included
  double scores = 0;     // grows with the sequence
  double dense = 0;      // feed-forward of dense layers
  double experts = 0;    // routed and shared ones that a token uses
  double router = 0;
  double head = 0;
  double mtp = 0;        // all of the MTP layers: projection, block, and the head once more each

  double forward() const { return attention + scores + dense + experts + router + head + mtp; }
  /// Forward and backward. recompute: with activation checkpointing (the head is not repeated).
  double training(bool recompute = false) const { return 3 * forward() + (recompute ? forward() - head : 0); }
};

/// sequence_length: of documents, tokens; >= 1. REQUIRES: ValidateConfig passed.
FlopsPerToken CountFlops(const ModelConfig& config, double sequence_length);

/// Parameters of the MTP layers that are theirs alone (the embedding and the head are the model's).
int64_t CountMtpParameters(const ModelConfig& config);

}  // namespace fathom
