// What goes where under a promise of memory: everything resident, or routed experts in so many slots, or not at all, and then
// what would do. Pure: sizes in, a plan out; nothing is read, allocated or measured here. Thread-safe.
//
// Everything counts that the process takes: what it has taken when the plan is made (the program, the tokenizer, tables),
// weights, slots, keys and values, the buffers of a pass, what the caller says it will need beside, and a reserve for what
// nobody counts (page tables, stacks, an allocator's holes).
//
// Where one sequence at a time is computed, what only long passes need of their buffers is lent to slots while tokens are made
// one by one (engine/buffer_loan.h); the plan says to how many.
//
// Order of wishes. All weights resident, with the context that was asked for or at least kFloorContext, before anything
// else. Where that does not fit: passes of fewer rows before a shorter context before refusing; slots take what is left.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "base/result.h"

namespace fathom {

struct MemoryPlanInput {
  int64_t budget = 0;   // bytes promised
  int64_t process = 0;  // taken already, and not of anything below
  int64_t peak = 0;     // that was taken at most so far: a budget below it is broken already
  int64_t extra = 0;    // that the caller will take beside the engine

  int64_t dense = 0;  // weights that are resident in any case, with what is made of them at load
  int64_t whole = 0;  // the same with all routed experts among them

  // Routed experts; experts 0: a model without.
  int64_t experts = 0, slot_bytes = 0;
  int32_t slot_classes = 1;  // of different sizes, whose mean slot_bytes is (ExpertLayout)
  int64_t least_slots = 0;
  int64_t fixed_slots = 0;        // that were asked for (--expert-memory); 0: the plan chooses
  int64_t expert_bytes = 0;       // of one expert's matrices, on average
  int64_t experts_per_token = 0;  // over all layers

  // Keys and values.
  int64_t kv_block_bytes = 0, kv_block_tokens = 64;
  int32_t context = 0;       // asked for; 0: the plan chooses, at most:
  int32_t most_context = 0;
  bool shared_pool = false;  // of many sequences, with a cache that has use for all there is; otherwise one sequence's
  int64_t kv_bytes = -1;     // of a shared pool, asked for; -1: the plan chooses

  // Passes of the model.
  int32_t rows = 1, least_rows = 1;
  int32_t short_rows = 0;  // passes of at most so many keep their buffers, those of longer ones may be lent; 0: they may not
  std::function<int64_t(int32_t rows, int32_t context)> scratch;  // bytes; grows with both
};

struct MemoryPlan {
  int64_t budget = 0;
  int64_t process = 0, extra = 0, reserve = 0;
  int64_t weights = 0;     // resident ones
  bool all_resident = true;
  int64_t slots = 0, slot_bytes = 0, experts = 0;  // slots 0: all experts are among the weights
  int64_t lent_slots = 0;  // and more, in the buffers' memory, between long passes
  int32_t slot_classes = 1;
  int64_t kv_bytes = 0;    // of blocks; their memory is a little more (kv_memory)
  int64_t kv_memory = 0;
  int64_t scratch = 0;
  int32_t context = 0, rows = 0;
  bool page_cache_outside = false;  // experts are read through it, and what it holds of them is not counted

  int64_t slot_memory() const;
  int64_t used() const { return process + extra + reserve + weights + slot_memory() + kv_memory + scratch; }
  int64_t spare() const { return budget - used(); }

  // The speed to expect of tokens made one by one.
  double hit_share = 1;        // of experts found resident when all are used alike
  double hot_share = -1;       // the same by measured routing (HotShare); -1: none was measured
  int64_t bytes_per_token = 0;  // of experts, that a token asks for
  /// Bytes that a token has to wait for, by hot_share where it is known.
  double missing_bytes() const {
    return static_cast<double>(bytes_per_token) * (1 - (hot_share >= 0 ? hot_share : hit_share));
  }
  /// Tokens a second that a disk of so many bytes a second allows; 0: it does not bind.
  double disk_bound(double rate) const { return missing_bytes() > 0 ? rate / missing_bytes() : 0; }
};

/// A context below this is chosen only where no other fits; below kLeastContext none is.
inline constexpr int32_t kFloorContext = 4096, kLeastContext = 512;

/// Errors: kInvalidArgument for sizes that cannot be; kResource when it does not fit, with what takes how much and the
/// least budget and the longest context that would do.
Result<MemoryPlan> PlanMemory(const MemoryPlanInput& input);

/// The least budget, in whole MiB, that PlanMemory takes.
int64_t LeastMemory(const MemoryPlanInput& input);

/// What a pool of so many bytes of blocks takes beside them: slabs' last huge pages and, where prefixes are kept in it (shared),
/// logits.
int64_t KvOverhead(bool shared_pool, int64_t bytes);

/// Of uses by so many passes, the share that falls on the `slots` experts used most. -1 without uses.
double HotShare(std::span<const float> heat, int64_t slots);

}  // namespace fathom
