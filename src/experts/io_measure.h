// How fast experts are read past the page cache and through it, measured on a few tens of them: for ChooseIo.
//
// Takes at most about 2 × kIoSeconds + kIoWarmSeconds (0.13 s; a slow disk a little longer, by what it had begun to read) and
// 16 MiB of memory meanwhile; what it makes the page cache hold is given back. Thread-safe.
#pragma once

#include "base/result.h"
#include "experts/expert_layout.h"
#include "experts/io_choice.h"
#include "io/env.h"

namespace fathom {

inline constexpr double kIoSeconds = 0.055, kIoWarmSeconds = 0.02;

/// Fills in whether the file system can, the three rates, and the bytes of all experts; not those of slots and of the cache.
/// Experts are taken from all over the model, others for one way than for the other, and both take turns. What the page cache
/// holds already does not count as cold. Rates stay 0 where there was less than kLeastIoBytes to
/// read (small models). Errors: those of Env, of
/// reads, kResource.
Result<IoMeasured> MeasureIo(const ExpertLayout& layout, Env& env);
inline constexpr int64_t kLeastIoBytes = int64_t{8} << 20;

}  // namespace fathom
