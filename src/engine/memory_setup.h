// From a promise of memory (EngineOptions::promise) and an opened file to a plan, and the model resident as planned. Internal
// to engine/; one thread.
#pragma once

#include <memory>

#include "base/result.h"
#include "engine/engine.h"
#include "engine/memory_plan.h"
#include "engine/resident_model.h"
#include "experts/expert_id.h"
#include "format/model_file.h"
#include "io/env.h"
#include "model/kv_layout.h"

namespace fathom {

/// What is known of keys and values before the plan.
struct MemoryAsked {
  KvLayout kv;
  int32_t context = 0;       // that somebody asked for; 0: nobody
  int32_t most_context = 0;  // else at most so much
  int threads = 1;
};

/// What a token needs of a layer, and as many again that are arriving (as ExpertMemory asks for).
int64_t LeastSlots(const ExpertGeometry& geometry);

/// REQUIRES: all else that takes memory for good (the tokenizer, the threads) is there: what the process takes now counts as
/// taken. Errors: as PlanMemory, and those of ExpertLayout.
Result<MemoryPlan> PlanFor(const ModelFile& file, const EngineOptions& options, const MemoryAsked& asked);

/// The same, from sizes that are given: what PlanFor asks PlanMemory. For tests and forecasts.
Result<MemoryPlanInput> MemoryInputOf(const ModelFile& file, const EngineOptions& options, const MemoryAsked& asked);

}  // namespace fathom
