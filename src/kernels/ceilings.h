// What this machine can do at best: the yardsticks against which `fathom bench` states shares.
//
// Each function takes well under a second and reports the best of several short rounds, since other programs can only
// slow a round down. They use all threads of the pool at once. Not thread-safe with respect to the pool.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "base/thread_pool.h"

namespace fathom {

/// Streaming read bandwidth in bytes a second; every thread reads one large range of its own. `bytes` should be many
/// times the last-level cache. Errors: kResource.
Result<double> MeasureReadBandwidth(ThreadPool& pool, int64_t bytes = int64_t{1} << 30);

/// Operations a second (a multiply-add counts two) of the dot products that the kernels in use are made of.
double MeasureInt8Peak(ThreadPool& pool);
double MeasureF32Peak(ThreadPool& pool);
/// 0 where the kernels in use have no bf16 dot product.
double MeasureBf16Peak(ThreadPool& pool);

}  // namespace fathom
