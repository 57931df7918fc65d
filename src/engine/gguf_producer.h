// Makes the data of a GGUF's tensors on all threads while what is finished is being written: what `synth` and `convert`
// share. Memory is two batches of some 32 MB, whatever the size of the file. The bytes depend on neither threads nor
// batches.
//
// One call at a time; the callbacks of the tensors are called from several threads at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "format/gguf_writer.h"
#include "io/env.h"

namespace fathom {

struct ProducedTensor {
  int64_t rows = 0, row_bytes = 0;
  int64_t granule = 1;  // rows that are made together; rows is a multiple
  /// Writes rows [row, row + count) to out, count × row_bytes bytes; row and count are multiples of granule. An error
  /// ends the work.
  std::function<Status(int64_t row, int64_t count, std::byte* out)> fill;
};

/// Bytes done and in all; false stops (kCancelled). Called from the calling thread. May be empty.
using ProduceProgress = std::function<bool(int64_t done, int64_t total)>;

/// The data of all declared tensors, in their order, after WriteHeader and before Finish. threads: 0 is one per core.
/// Errors: the writer's, a tensor's own, kResource (memory), kCancelled.
Status ProduceTensors(const std::vector<ProducedTensor>& tensors, int threads, const ProduceProgress& progress,
                      GgufWriter& writer);

/// kResource when fewer than bytes + reserve_bytes are free where path is to be; advice ends the message.
Status CheckDiskSpace(const std::string& path, int64_t bytes, int64_t reserve_bytes, std::string_view advice);

}  // namespace fathom
