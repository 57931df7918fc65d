// Memory for a DirectFile: whole pages, aligned to DirectFile::kAlignment, not zeroed.
//
// Owned, movable, not copyable; not thread-safe. Allocation fails as a value.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "base/result.h"
#include "io/direct_file.h"

namespace fathom {

class PageBuffer {
 public:
  PageBuffer() = default;
  /// bytes: rounded up to whole pages. Errors: kResource.
  static Result<PageBuffer> Allocate(int64_t bytes) {
    constexpr int64_t kPage = DirectFile::kAlignment;
    if (bytes < 0 || bytes > (int64_t{1} << 46)) return Fail(ErrorCode::kResource, "cannot allocate {} bytes", bytes);
    PageBuffer buffer;
    buffer.size_ = static_cast<size_t>((bytes + kPage - 1) / kPage * kPage);
    buffer.data_.reset(static_cast<std::byte*>(std::aligned_alloc(kPage, std::max<size_t>(buffer.size_, kPage))));
    if (buffer.data_ == nullptr) return Fail(ErrorCode::kResource, "cannot allocate {} bytes", bytes);
    return buffer;
  }

  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }
  size_t size() const { return size_; }
  std::span<std::byte> span() { return {data_.get(), size_}; }
  std::span<const std::byte> span() const { return {data_.get(), size_}; }

 private:
  struct Free {
    void operator()(std::byte* data) const { std::free(data); }
  };
  std::unique_ptr<std::byte, Free> data_;
  size_t size_ = 0;
};

}  // namespace fathom
