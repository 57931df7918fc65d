// safetensors bytes from anywhere; every byte of every accepted tensor is touched.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "format/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  auto file = fathom::SafetensorsFile::Parse(bytes);
  if (!file) {
    if (file.error().message.empty()) std::abort();
    return 0;
  }
  size_t sum = 0, covered = 0;
  for (const auto& tensor : file->tensors) {
    for (std::byte b : bytes.subspan(tensor.offset, static_cast<size_t>(tensor.bytes)))
      sum += std::to_integer<size_t>(b);
    covered += static_cast<size_t>(tensor.bytes);
  }
  if (covered > size) std::abort();  // overlap
  return sum == 1;
}
