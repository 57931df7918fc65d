// The safetensors container (docs/formats/safetensors.md): the tensor directory of one file.
//
// Parse() reads a span that the caller owns and that must outlive any use of the offsets. Everything is checked;
// memory is bounded by a small multiple of the header's size. Immutable afterwards, thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "tensor/dtype.h"

namespace fathom {

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  // outermost first; empty for a scalar; extents may be 0
  uint64_t offset = 0;         // in the file
  int64_t bytes = 0;
};

struct SafetensorsFile {
  std::vector<SafetensorsEntry> tensors;                      // in order of the header
  std::vector<std::pair<std::string, std::string>> metadata;  // __metadata__

  /// bytes: the whole file. The messages do not name the file; the caller knows it.
  static Result<SafetensorsFile> Parse(std::span<const std::byte> bytes);
};

}  // namespace fathom
