#include "cli/input.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace fathom {

Result<std::string> ReadInput(const std::string& path) {
  constexpr size_t kMost = size_t{256} << 20;
  const bool standard = path == "-";
  const std::string name = standard ? "standard input" : path;
  struct Close {
    void operator()(std::FILE* file) const {
      if (file != stdin) std::fclose(file);
    }
  };
  std::unique_ptr<std::FILE, Close> file(standard ? stdin : std::fopen(path.c_str(), "rb"));
  if (!file) {
    return Fail(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, "{}: {}", name, std::strerror(errno));
  }
  struct stat status{};
  if (fstat(fileno(file.get()), &status) == 0 && S_ISDIR(status.st_mode)) {
    return Fail(ErrorCode::kInvalidArgument, "{}: is a directory", name);
  }
  std::string text;
  char buffer[1 << 16];
  while (const size_t got = std::fread(buffer, 1, sizeof buffer, file.get())) {
    if (text.size() + got > kMost) return Fail(ErrorCode::kResource, "{}: larger than 256 MiB, not a prompt", name);
    text.append(buffer, got);
  }
  if (std::ferror(file.get())) return Fail(ErrorCode::kIo, "{}: {}", name, std::strerror(errno));
  return text;
}

}  // namespace fathom
