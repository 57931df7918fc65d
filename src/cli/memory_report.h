// A promise of memory in words: what goes where when it begins, and whether it was kept when it ends.
//
// Pure but for MeasurePromise, which asks the kernel. Thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "engine/engine.h"

namespace fathom {

/// Lines "what  size  note" and the speed to expect from a disk of `read_rate` bytes a second (0: not known).
std::string PlanTable(const MemoryPlan& plan, double read_rate);

struct PromiseKept {
  int64_t promised = 0;
  int64_t peak = 0;        // of the process, as the kernel counts it
  int64_t page_cache = 0;  // of the model's files, that has come since they were opened
  bool page_cache_outside = false;  // --io buffered: it was not promised
  bool kept() const { return peak + (page_cache_outside ? 0 : page_cache) <= promised; }
};

/// Nothing when none was given.
std::optional<PromiseKept> MeasurePromise(const Engine& engine);
/// One line.
std::string PromiseLine(const PromiseKept& promise);

}  // namespace fathom
