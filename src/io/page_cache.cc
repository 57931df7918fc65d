#include "io/page_cache.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "io/descriptor.h"
#include "io/system_error.h"

namespace fathom {
namespace {

struct OpenFile {
  Descriptor fd;
  int64_t size = 0;
};

Result<OpenFile> Open(const std::string& path) {
  OpenFile file{Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK))};
  if (file.fd.get() < 0) return SystemError(path, "cannot open", errno);
  struct stat info{};
  if (::fstat(file.fd.get(), &info) != 0) return SystemError(path, "cannot stat", errno);
  if (!S_ISREG(info.st_mode)) return Fail(ErrorCode::kInvalidArgument, "{}: is not a regular file", path);
  file.size = info.st_size;
  return file;
}

Status CheckRange(const std::string& path, int64_t offset, int64_t bytes) {
  if (offset >= 0 && bytes >= 0) return {};
  return Fail(ErrorCode::kInvalidArgument, "{}: {} bytes at {}", path, bytes, offset);
}

/// begin: at the beginning of a page.
Result<int64_t> CachedBetween(const std::string& path, int fd, int64_t begin, int64_t end) {
  const int64_t page = ::sysconf(_SC_PAGESIZE);
  constexpr int64_t kPiece = int64_t{1} << 30;
  std::vector<unsigned char> resident;
  int64_t pages = 0;
  for (int64_t at = begin; at < end; at += kPiece) {
    const auto length = static_cast<size_t>(std::min(kPiece, end - at));
    void* const map = ::mmap(nullptr, length, PROT_READ, MAP_SHARED, fd, at);
    if (map == MAP_FAILED) return SystemError(path, "cannot map", errno);
    resident.assign((length + static_cast<size_t>(page) - 1) / static_cast<size_t>(page), 0);
    const int asked = ::mincore(map, length, resident.data());
    const int error = errno;
    ::munmap(map, length);
    if (asked != 0) return SystemError(path, "mincore", error);
    pages += std::count_if(resident.begin(), resident.end(), [](unsigned char flags) { return (flags & 1) != 0; });
  }
  return pages * page;
}

}  // namespace

Result<int64_t> CachedBytes(const std::string& path) {
  FATHOM_TRY(const OpenFile file, Open(path));
  return CachedBetween(path, file.fd.get(), 0, file.size);
}

Result<int64_t> CachedBytes(const std::string& path, int64_t offset, int64_t bytes) {
  FATHOM_CHECK_OK(CheckRange(path, offset, bytes));
  FATHOM_TRY(const OpenFile file, Open(path));
  if (offset >= file.size) return 0;
  const int64_t page = ::sysconf(_SC_PAGESIZE);
  return CachedBetween(path, file.fd.get(), offset / page * page, offset + std::min(bytes, file.size - offset));
}

Status DropCached(const std::string& path, int64_t offset, int64_t bytes) {
  FATHOM_CHECK_OK(CheckRange(path, offset, bytes));
  if (bytes == 0) return {};  // to the kernel that means: to the end
  FATHOM_TRY(const OpenFile file, Open(path));
  if (const int error = ::posix_fadvise(file.fd.get(), offset, bytes, POSIX_FADV_DONTNEED); error != 0)
    return SystemError(path, "cannot drop pages", error);
  return {};
}

}  // namespace fathom
