#include "base/aligned_buffer.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

namespace fathom {
namespace {
constexpr size_t kCacheLine = 64;
constexpr size_t kHugePage = size_t{2} << 20;
}  // namespace

Result<AlignedBuffer> AlignedBuffer::Allocate(size_t bytes) {
  AlignedBuffer buffer;
  if (bytes == 0) return buffer;
  if (bytes > (size_t{1} << 48)) return Fail(ErrorCode::kResource, "cannot allocate {} bytes", bytes);
  if (bytes < kHugePage) {
    const size_t rounded = (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
    void* memory = std::aligned_alloc(kCacheLine, rounded);
    if (memory == nullptr) return Fail(ErrorCode::kResource, "cannot allocate {} bytes", bytes);
    std::memset(memory, 0, rounded);
    buffer.data_ = static_cast<std::byte*>(memory);
    buffer.size_ = bytes;
    return buffer;
  }
  // Map one huge page more than asked, then trim to an aligned start.
  const size_t rounded = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  void* map = mmap(nullptr, rounded + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) return Fail(ErrorCode::kResource, "cannot allocate {} bytes", bytes);
  auto address = reinterpret_cast<uintptr_t>(map);
  const uintptr_t aligned = (address + kHugePage - 1) / kHugePage * kHugePage;
  if (aligned > address) munmap(map, aligned - address);
  const size_t tail = address + kHugePage - aligned;
  if (tail > 0) munmap(reinterpret_cast<void*>(aligned + rounded), tail);
  buffer.data_ = reinterpret_cast<std::byte*>(aligned);
  buffer.size_ = bytes;
  buffer.mapped_ = rounded;
  madvise(buffer.data_, rounded, MADV_HUGEPAGE);
  return buffer;
}

void AlignedBuffer::Free() {
  if (data_ == nullptr) return;
  if (mapped_ > 0) {
    munmap(data_, mapped_);
  } else {
    std::free(data_);
  }
  data_ = nullptr;
  size_ = mapped_ = 0;
}

}  // namespace fathom
