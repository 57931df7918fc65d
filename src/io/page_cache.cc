#include "io/page_cache.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "io/descriptor.h"
#include "io/system_error.h"

namespace fathom {

Result<int64_t> CachedBytes(const std::string& path) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) return SystemError(path, "cannot open", errno);
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return SystemError(path, "cannot stat", errno);
  if (!S_ISREG(info.st_mode)) return Fail(ErrorCode::kInvalidArgument, "{}: is not a regular file", path);
  const int64_t page = ::sysconf(_SC_PAGESIZE), size = info.st_size;
  constexpr int64_t kPiece = int64_t{1} << 30;
  std::vector<unsigned char> resident;
  int64_t pages = 0;
  for (int64_t at = 0; at < size; at += kPiece) {
    const auto length = static_cast<size_t>(std::min(kPiece, size - at));
    void* const map = ::mmap(nullptr, length, PROT_READ, MAP_SHARED, fd.get(), at);
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

}  // namespace fathom
