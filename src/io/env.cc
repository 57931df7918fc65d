#include "io/env.h"

#include <algorithm>

namespace fathom {

Status MappedFile::CheckUnchanged() const {
  if (!probe_) return {};
  FATHOM_TRY(const int64_t now, probe_());
  if (now < size()) {
    return Fail(ErrorCode::kCorrupt, "{}: the file shrank from {} to {} bytes while it was open", path_, size(), now);
  }
  return {};
}

Status MappedFile::Advise(int64_t offset, int64_t bytes, MapAdvice advice) const {
  if (!advise_ || offset < 0 || bytes <= 0 || offset >= size()) return {};
  return advise_(offset, std::min(bytes, size() - offset), advice);
}

Status ReadExactly(const RandomAccessFile& file, const std::string& path, int64_t offset, std::span<std::byte> out) {
  size_t done = 0;
  while (done < out.size()) {
    FATHOM_TRY(const size_t got, file.Read(offset + static_cast<int64_t>(done), out.subspan(done)));
    if (got == 0) {
      return Fail(ErrorCode::kCorrupt, "{}: ends at byte {}, {} more expected", path,
                  offset + static_cast<int64_t>(done), out.size() - done);
    }
    done += got;
  }
  return {};
}

Result<std::string> ReadWholeFile(Env& env, const std::string& path, int64_t max_bytes) {
  FATHOM_TRY(const auto file, env.OpenForReading(path));
  if (file->size() > max_bytes) {
    return Fail(ErrorCode::kResource, "{}: {} bytes, more than the limit of {}", path, file->size(), max_bytes);
  }
  std::string text(static_cast<size_t>(file->size()), '\0');
  FATHOM_CHECK_OK(ReadExactly(*file, path, 0, std::as_writable_bytes(std::span(text))));
  return text;
}

std::string BaseName(const std::string& path) {
  const size_t end = path.find_last_not_of('/');
  if (end == std::string::npos) return path.empty() ? "" : "/";
  const size_t slash = path.find_last_of('/', end);
  const size_t begin = slash == std::string::npos ? 0 : slash + 1;
  return path.substr(begin, end + 1 - begin);
}

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string JoinPath(const std::string& directory, const std::string& name) {
  if (directory.empty() || directory == ".") return name;
  return directory.back() == '/' ? directory + name : directory + "/" + name;
}

}  // namespace fathom
