// Env on POSIX: open, pread, mmap, write, fsync, rename.
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <limits>
#include <memory>
#include <utility>

#include "io/descriptor.h"
#include "io/env.h"
#include "io/posix_direct_file.h"
#include "io/system_error.h"

namespace fathom {
namespace {

struct OpenedFile {
  Descriptor fd;
  int64_t size = 0;
  int64_t modified = 0;
};

int64_t Nanoseconds(const timespec& time) { return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; }

// O_NONBLOCK so that a FIFO given as a model fails at once instead of waiting for a writer.
Result<OpenedFile> OpenRegular(const std::string& path) {
  int raw;
  do {
    raw = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  } while (raw < 0 && errno == EINTR);
  if (raw < 0) return SystemError(path, "cannot open", errno);
  Descriptor fd(raw);
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return SystemError(path, "cannot stat", errno);
  if (!S_ISREG(info.st_mode)) {
    return Fail(ErrorCode::kInvalidArgument, "{}: {}", path,
                S_ISDIR(info.st_mode) ? "is a directory" : "is not a regular file");
  }
  return OpenedFile{std::move(fd), static_cast<int64_t>(info.st_size), Nanoseconds(info.st_mtim)};
}

int ToMadvise(MapAdvice advice) {
  switch (advice) {
    case MapAdvice::kNormal:
      return MADV_NORMAL;
    case MapAdvice::kRandom:
      return MADV_RANDOM;
    case MapAdvice::kSequential:
      return MADV_SEQUENTIAL;
    case MapAdvice::kWillNeed:
      return MADV_WILLNEED;
    case MapAdvice::kPopulate:
#ifdef MADV_POPULATE_READ
      return MADV_POPULATE_READ;
#else
      return MADV_WILLNEED;
#endif
    case MapAdvice::kDrop:
      return MADV_DONTNEED;
  }
  return MADV_NORMAL;
}

class PosixRandomAccessFile : public RandomAccessFile {
 public:
  PosixRandomAccessFile(std::string path, OpenedFile file) : path_(std::move(path)), file_(std::move(file)) {}
  int64_t size() const override { return file_.size; }
  Result<size_t> Read(int64_t offset, std::span<std::byte> out) const override {
    for (;;) {
      const ssize_t got = ::pread(file_.fd.get(), out.data(), std::min<size_t>(out.size(), size_t{1} << 30), offset);
      if (got >= 0) return static_cast<size_t>(got);
      if (errno != EINTR) return SystemError(path_, "cannot read", errno);
    }
  }

 private:
  std::string path_;
  OpenedFile file_;
};

class PosixWritableFile : public WritableFile {
 public:
  PosixWritableFile(std::string path, Descriptor fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  Status Append(std::span<const std::byte> bytes) override {
    while (!bytes.empty()) {
      const ssize_t wrote = ::write(fd_.get(), bytes.data(), std::min<size_t>(bytes.size(), size_t{1} << 30));
      if (wrote < 0) {
        if (errno == EINTR) continue;
        return SystemError(path_, "cannot write", errno);
      }
      bytes = bytes.subspan(static_cast<size_t>(wrote));
    }
    return {};
  }
  Status Sync() override {
    if (::fsync(fd_.get()) != 0) return SystemError(path_, "cannot sync", errno);
    return {};
  }
  Status Close() override {
    const int fd = fd_.release();
    if (fd >= 0 && ::close(fd) != 0 && errno != EINTR) return SystemError(path_, "cannot close", errno);
    return {};
  }

 private:
  std::string path_;
  Descriptor fd_;
};

class PosixFileLock : public FileLock {
 public:
  explicit PosixFileLock(Descriptor fd) : fd_(std::move(fd)) {}

 private:
  Descriptor fd_;  // the lock goes with it, also when the process is killed
};

class PosixEnv : public Env {
 public:
  Result<std::unique_ptr<MappedFile>> Map(const std::string& path, const MapOptions& options) override {
    FATHOM_TRY(OpenedFile file, OpenRegular(path));
    const auto size = static_cast<size_t>(file.size);
    // The descriptor stays open with the mapping, so that CheckUnchanged asks the same inode even after a rename.
    auto fd = std::make_shared<Descriptor>(std::move(file.fd));
    auto probe = [path, fd, size = file.size, modified = file.modified]() -> Result<int64_t> {
      struct stat info{};
      if (::fstat(fd->get(), &info) != 0) return SystemError(path, "cannot stat", errno);
      if (info.st_size >= size && Nanoseconds(info.st_mtim) != modified) {
        return Fail(ErrorCode::kCorrupt, "{}: the file was changed while it was open; replace files by renaming", path);
      }
      return static_cast<int64_t>(info.st_size);
    };
    if (size == 0) return std::make_unique<MappedFile>(path, std::span<const std::byte>(), nullptr, probe, nullptr);
    void* base = ::mmap(nullptr, size, PROT_READ, MAP_SHARED | (options.populate ? MAP_POPULATE : 0), fd->get(), 0);
    if (base == MAP_FAILED) return SystemError(path, "cannot map", errno);
    auto advise = [path, base, fd](int64_t offset, int64_t bytes, MapAdvice advice) -> Status {
      const int64_t page = ::sysconf(_SC_PAGESIZE);
      const int64_t begin = offset / page * page;
      std::byte* from = static_cast<std::byte*>(base) + begin;
      const auto length = static_cast<size_t>(offset + bytes - begin);
      if (::madvise(from, length, ToMadvise(advice)) == 0) {
        if (advice == MapAdvice::kDrop) (void)::posix_fadvise(fd->get(), begin, static_cast<off_t>(length), POSIX_FADV_DONTNEED);
        return {};
      }
      // Kernels before 5.14 do not know MADV_POPULATE_READ.
      if (errno == EINVAL && advice == MapAdvice::kPopulate && ::madvise(from, length, MADV_WILLNEED) == 0) return {};
      return SystemError(path, "madvise", errno);
    };
    auto mapped = std::make_unique<MappedFile>(
        path, std::span(static_cast<const std::byte*>(base), size), [base, size] { ::munmap(base, size); }, probe,
        advise);
    if (options.advice != MapAdvice::kNormal) {
      (void)mapped->Advise(0, mapped->size(), options.advice);  // only a hint
    }
    return mapped;
  }

  Result<std::unique_ptr<RandomAccessFile>> OpenForReading(const std::string& path) override {
    FATHOM_TRY(OpenedFile file, OpenRegular(path));
    return std::make_unique<PosixRandomAccessFile>(path, std::move(file));
  }

  Result<std::unique_ptr<WritableFile>> Create(const std::string& path, FileAccess access) override {
    const mode_t mode = access == FileAccess::kPrivate ? 0600 : 0644;
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0) return SystemError(path, "cannot create", errno);
    return std::make_unique<PosixWritableFile>(path, Descriptor(fd));
  }

  Status Rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) return SystemError(to, "cannot rename into place", errno);
    return {};
  }

  Status Remove(const std::string& path) override {
    if (::unlink(path.c_str()) != 0) return SystemError(path, "cannot remove", errno);
    return {};
  }

  Status SyncDirectory(const std::string& path) override {
    Descriptor fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd.get() < 0) return SystemError(path, "cannot open", errno);
    // Some file systems refuse fsync on directories; there the rename is as durable as it gets.
    if (::fsync(fd.get()) != 0 && errno != EINVAL && errno != EROFS) return SystemError(path, "cannot sync", errno);
    return {};
  }

  Result<int64_t> FileSize(const std::string& path) override {
    struct stat info{};
    if (::stat(path.c_str(), &info) != 0) return SystemError(path, "cannot stat", errno);
    if (!S_ISREG(info.st_mode)) return Fail(ErrorCode::kInvalidArgument, "{}: is not a regular file", path);
    return static_cast<int64_t>(info.st_size);
  }

  bool IsDirectory(const std::string& path) override {
    struct stat info{};
    return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
  }

  bool Exists(const std::string& path) override {
    struct stat info{};
    return ::stat(path.c_str(), &info) == 0;
  }

  Result<std::vector<std::string>> List(const std::string& path) override {
    std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(path.c_str()), ::closedir);
    if (dir == nullptr) return SystemError(path, "cannot list", errno);
    std::vector<std::string> names;
    for (;;) {
      errno = 0;
      const dirent* entry = ::readdir(dir.get());
      if (entry == nullptr) {
        if (errno != 0) return SystemError(path, "cannot list", errno);
        break;
      }
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  Result<std::unique_ptr<DirectFile>> OpenDirect(const std::string& path, const DirectOpenOptions& options) override {
    return OpenPosixDirectFile(path, options);
  }

  Status CreateDirectories(const std::string& path) override {
    for (size_t end = 0; end != std::string::npos;) {
      end = path.find('/', end + 1);
      const std::string part = path.substr(0, end);
      if (part.empty() || IsDirectory(part)) continue;
      if (::mkdir(part.c_str(), 0700) != 0) {
        const int error = errno;
        if (error == EEXIST && IsDirectory(part)) continue;  // somebody else was faster
        return SystemError(part, "cannot make the folder", error);
      }
    }
    return {};
  }

  Result<std::unique_ptr<FileLock>> LockFile(const std::string& path) override {
    Descriptor fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (fd.get() < 0) return SystemError(path, "cannot open", errno);
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      const int error = errno;
      if (error != EWOULDBLOCK) return SystemError(path, "cannot lock", error);
      char text[32] = {};
      const ssize_t got = ::pread(fd.get(), text, sizeof(text) - 1, 0);
      const long long pid = got > 0 ? std::atoll(text) : 0;
      return Fail(ErrorCode::kResource,
                  "{}: the folder is in use by another fathom process{}; stop that one or use another folder",
                  DirectoryOf(path), pid > 0 ? fmt::format(" (process {})", pid) : "");
    }
    // Who it is, for the message above; the lock does not depend on it.
    const std::string pid = fmt::format("{}\n", static_cast<long long>(::getpid()));
    if (::ftruncate(fd.get(), 0) != 0 || ::pwrite(fd.get(), pid.data(), pid.size(), 0) < 0) {
      return SystemError(path, "cannot write", errno);
    }
    return std::make_unique<PosixFileLock>(std::move(fd));
  }

  Result<int64_t> FreeSpace(const std::string& path) override {
    struct statvfs info{};
    if (::statvfs(path.c_str(), &info) != 0) return SystemError(path, "cannot ask for the free space", errno);
    const auto bytes = static_cast<unsigned __int128>(info.f_bavail) * info.f_frsize;
    return static_cast<int64_t>(std::min<unsigned __int128>(bytes, std::numeric_limits<int64_t>::max()));
  }

  Result<int64_t> ModifiedSeconds(const std::string& path) override {
    struct stat info{};
    if (::stat(path.c_str(), &info) != 0) return SystemError(path, "cannot stat", errno);
    return static_cast<int64_t>(info.st_mtime);
  }
};

}  // namespace

Env& Env::Default() {
  static PosixEnv env;
  return env;
}

}  // namespace fathom
