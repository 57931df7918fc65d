#include "cli/part_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

namespace fathom {
namespace {

namespace fs = std::filesystem;

std::unexpected<Error> Errno(const fs::path& path) {
  const int error = errno;
  const ErrorCode code = error == ENOSPC || error == EDQUOT ? ErrorCode::kResource : ErrorCode::kIo;
  return Fail(code, "{}: {}", path.string(), std::strerror(error));
}

fs::path NotePath(const fs::path& part) { return part.string() + ".json"; }

}  // namespace

PartFile::PartFile(PartFile&& other) noexcept
    : destination_(std::move(other.destination_)), part_(std::move(other.part_)), fd_(std::exchange(other.fd_, -1)),
      size_(other.size_), done_(other.done_) {}

PartFile::~PartFile() {
  if (fd_ >= 0) close(fd_);
}

Result<PartFile> PartFile::Open(const fs::path& destination, const std::function<bool()>& waiting) {
  std::error_code error;
  fs::create_directories(destination.parent_path(), error);
  if (error) return Fail(ErrorCode::kIo, "{}: {}", destination.parent_path().string(), error.message());
  PartFile file;
  file.destination_ = destination;
  file.part_ = destination.string() + ".part";
  for (;;) {
    file.fd_ = open(file.part_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (file.fd_ < 0) return Errno(file.part_);
    while (flock(file.fd_, LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK && errno != EINTR) return Errno(file.part_);
      if (waiting && !waiting()) return Fail(ErrorCode::kCancelled, "interrupted");
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
    // The holder before us may have renamed or removed the file that we waited for.
    struct stat ours{}, named{};
    if (fstat(file.fd_, &ours) != 0) return Errno(file.part_);
    if (stat(file.part_.c_str(), &named) == 0 && ours.st_ino == named.st_ino && ours.st_dev == named.st_dev) {
      file.size_ = ours.st_size;
      break;
    }
    close(std::exchange(file.fd_, -1));
  }
  file.done_ = fs::exists(destination, error);
  if (file.done_ && file.size_ == 0) file.Discard();  // made by our own open
  if (!file.done_ && lseek(file.fd_, 0, SEEK_END) < 0) return Errno(file.part_);
  return file;
}

PartFile::Note PartFile::ReadNote() const {
  std::ifstream in(NotePath(part_));
  const auto object = nlohmann::json::parse(in, nullptr, false);
  Note note;
  if (!object.is_object()) return note;
  if (object.contains("url") && object["url"].is_string()) note.url = object["url"];
  if (object.contains("etag") && object["etag"].is_string()) note.etag = object["etag"];
  return note;
}

Status PartFile::WriteNote(const Note& note) const {
  std::ofstream out(NotePath(part_));
  const nlohmann::json object{{"url", note.url}, {"etag", note.etag}};
  out << object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  out.close();
  if (!out) return Fail(ErrorCode::kIo, "{}: cannot be written", NotePath(part_).string());
  return {};
}

Status PartFile::Append(const void* data, size_t bytes) {
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t put = write(fd_, at, bytes);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return Errno(part_);
    at += put;
    bytes -= static_cast<size_t>(put);
    size_ += put;
  }
  return {};
}

Status PartFile::Restart() {
  if (ftruncate(fd_, 0) != 0 || lseek(fd_, 0, SEEK_SET) < 0) return Errno(part_);
  size_ = 0;
  return {};
}

Status PartFile::Commit() {
  if (fsync(fd_) != 0) return Errno(part_);
  if (rename(part_.c_str(), destination_.c_str()) != 0) return Errno(destination_);
  std::error_code ignored;
  fs::remove(NotePath(part_), ignored);
  const int folder = open(destination_.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    fsync(folder);
    close(folder);
  }
  done_ = true;
  return {};
}

void PartFile::Discard() {
  std::error_code ignored;
  fs::remove(part_, ignored);
  fs::remove(NotePath(part_), ignored);
  size_ = 0;
}

int64_t FreeDiskSpace(fs::path path) {
  std::error_code ignored;
  path = fs::absolute(path, ignored);
  while (!fs::exists(path, ignored) && path.has_relative_path()) path = path.parent_path();
  struct statvfs status{};
  if (statvfs(path.c_str(), &status) != 0) return -1;
  return static_cast<int64_t>(status.f_bavail) * static_cast<int64_t>(status.f_frsize);
}

}  // namespace fathom
