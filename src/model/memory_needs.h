// What a model will need of memory beside its tensors, before any of them is read: for the plan of a promise of memory
// (engine/memory_plan.h). Pure functions of the tensor table, thread-safe.
#pragma once

#include <cstdint>

#include "format/model_file.h"

namespace fathom {

/// ModelWeights::derived_bytes that LoadWeights will come to, when no tensor lies askew.
int64_t DerivedBytes(const ModelFile& file);

/// What Model::UseExperts() takes beside the store: routers in 8 bits.
int64_t EarlyRouterBytes(const ModelConfig& config);

/// The shape of the largest pass.
struct PassShape {
  int64_t rows = 1;        // of all segments together
  int64_t logit_rows = 1;  // of them, with logits
  int64_t sequences = 1;   // segments
  int64_t context = 1;     // tokens that one of them sees
  int threads = 1;
};

/// The most that the passes' buffers (Model's Scratch, activations and attention's workspace included) come to. Above what
/// is really taken, by a few percent. Logits themselves are the caller's.
int64_t ScratchBytes(const ModelConfig& config, const PassShape& shape);

}  // namespace fathom
