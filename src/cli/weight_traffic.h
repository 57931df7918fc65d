// Bytes of weights that one decoded token reads: what decode speed is held against memory bandwidth with.
//
// Pure function of a model's tensor table; thread-safe.
#pragma once

#include <cstdint>

#include "format/model_file.h"

namespace fathom {

struct WeightTraffic {
  int64_t dense_bytes = 0;          // read whole for every token: attention, norms, shared experts, router, head
  int64_t routed_bytes = 0;         // all routed experts together
  int64_t active_routed_bytes = 0;  // the top-k share of them
  int64_t embedding_bytes = 0;      // looked up, not read (0 when the head is tied to it)
  int64_t skipped_bytes = 0;        // MTP layers, which plain decoding does not use
  int64_t per_token() const { return dense_bytes + active_routed_bytes; }
};

WeightTraffic CountWeightTraffic(const ModelFile& model);

}  // namespace fathom
