// The metadata of one GGUF into another one, for conversions that change types of tensors and nothing else.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "format/gguf_writer.h"

namespace fathom {

struct GgufCopyChanges {
  int32_t file_type = 0;     // general.file_type; -1: as it is
  std::string name;          // general.name; empty: as it is
  int32_t block_count = 0;   // > 0: so many blocks, and no MTP layers among them
};

/// Every key of the file (of the first part of a split one) in its order and type, but for what `changes` says, for
/// split.* and for the alignment, which is the writer's. Errors: those of reading; kUnsupported for a value of a type
/// that GgufWriter lacks, naming the key.
Status CopyGgufMetadata(const std::string& path, const GgufCopyChanges& changes, GgufWriter& writer);

}  // namespace fathom
