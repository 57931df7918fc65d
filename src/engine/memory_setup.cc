#include "engine/memory_setup.h"

#include <malloc.h>

#include <algorithm>

#include "base/process_memory.h"
#include "engine/buffer_loan.h"
#include "experts/expert_layout.h"
#include "model/memory_needs.h"

namespace fathom {
namespace {

constexpr int32_t kLeastRows = 32;

}  // namespace

int64_t LeastSlots(const ExpertGeometry& geometry) { return std::min<int64_t>(2 * geometry.top_k, geometry.count()); }

Result<MemoryPlanInput> MemoryInputOf(const ModelFile& file, const EngineOptions& options, const MemoryAsked& asked) {
  const ModelConfig& config = file.config();
  const MemoryPromise& promise = options.promise;
  MemoryPlanInput in{.budget = promise.bytes,
                     .dense = ResidentModel::BytesOf(file, {.experts = false}) + DerivedBytes(file) + EarlyRouterBytes(config),
                     .whole = ResidentModel::BytesOf(file, {.experts = true}) + DerivedBytes(file),
                     .kv_block_bytes = asked.kv.block_bytes(),
                     .kv_block_tokens = KvLayout::kBlockTokens,
                     .context = asked.context,
                     .most_context = asked.most_context,
                     .shared_pool = promise.serving,
                     .kv_bytes = promise.serving ? promise.kv_bytes : -1,
                     .rows = promise.rows > 0 ? promise.rows : options.prefill_chunk};
  in.whole = std::max(in.whole, in.dense);
  in.least_rows = std::min(in.rows, kLeastRows);
  in.short_rows = promise.serving ? 0 : kShortPassRows;
  if (config.moe.n_routed_experts > 0) {
    FATHOM_TRY(const ExpertLayout layout, ExpertLayout::Create(file));
    const ExpertGeometry& geometry = layout.geometry();
    in.experts = geometry.count();
    in.slot_bytes = layout.slot_bytes();
    in.slot_classes = static_cast<int32_t>(layout.slot_classes().size());
    in.least_slots = LeastSlots(geometry);
    in.expert_bytes = layout.total_bytes() / in.experts;
    in.experts_per_token = int64_t{geometry.layers} * geometry.top_k;
    if (options.experts.memory_bytes > 0) {
      in.fixed_slots = std::min(options.experts.memory_bytes / in.slot_bytes, in.experts);
      if (in.fixed_slots < in.least_slots) {
        return Fail(ErrorCode::kInvalidArgument, "{} bytes hold {} experts of {} bytes; {} are needed, which take {} bytes",
                    options.experts.memory_bytes, in.fixed_slots, in.slot_bytes, in.least_slots,
                    in.least_slots * in.slot_bytes);
      }
    }
  } else if (options.experts.memory_bytes > 0) {
    return Fail(ErrorCode::kInvalidArgument, "a dense model has no experts to keep in memory");
  }
  // Logits are held where they are made, where they are drawn from, and by the caller.
  constexpr int64_t kCopies = 3;
  const int64_t logit_rows = std::max(promise.logit_rows, 1);
  in.extra = promise.extra_bytes + (kCopies + logit_rows) * config.vocab_size * int64_t{sizeof(float)};
  in.scratch = [config, logit_rows, sequences = std::max(promise.sequences, 1), threads = asked.threads](
                   int32_t rows, int32_t context) {
    return ScratchBytes(config, {.rows = rows,
                                 .logit_rows = logit_rows,
                                 .sequences = sequences,
                                 .context = context,
                                 .threads = threads});
  };
  return in;
}

Result<MemoryPlan> PlanFor(const ModelFile& file, const EngineOptions& options, const MemoryAsked& asked) {
  FATHOM_TRY(MemoryPlanInput in, MemoryInputOf(file, options, asked));
  ResidentModel::DropHeaders(file);
#ifdef __GLIBC__
  malloc_trim(0);  // what reading headers and the tokenizer left behind
#endif
  const ProcessMemory now = ReadProcessMemory();
  in.process = now.resident;
  in.peak = now.peak;
  return PlanMemory(in);
}

}  // namespace fathom
