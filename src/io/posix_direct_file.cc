#include "io/posix_direct_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <utility>

#include "base/aligned_buffer.h"
#include "io/descriptor.h"
#include "io/system_error.h"

namespace fathom {
namespace {

constexpr int64_t kMostAtOnce = int64_t{1} << 30;  // below what one pread may do, and a multiple of the alignment

class PosixDirectFile : public DirectFile {
 public:
  PosixDirectFile(std::string path, Descriptor fd, bool direct)
      : path_(std::move(path)), fd_(std::move(fd)), direct_(direct) {}

  Status Read(int64_t offset, std::span<std::byte> out) const override {
    FATHOM_CHECK_OK(CheckRange(offset, out.data(), static_cast<int64_t>(out.size())));
    int64_t done = 0;
    bool again = false;
    const auto bytes = static_cast<int64_t>(out.size());
    while (done < bytes) {
      const ssize_t got = ::pread(fd_.get(), out.data() + done,
                                  static_cast<size_t>(std::min(bytes - done, kMostAtOnce)), offset + done);
      if (got < 0) {
        const int error = errno;
        if (error == EINTR) continue;
        if (error == EINVAL && !std::exchange(again, true) && LeaveDirect()) continue;
        return SystemError(path_, "cannot read", error);
      }
      // With O_DIRECT a read that ends inside a block has met the end of the file.
      const int64_t whole = done + got < bytes ? got / kAlignment * kAlignment : got;
      if (whole == 0) {
        return Fail(ErrorCode::kCorrupt, "{}: ends at byte {}, {} more expected", path_, offset + done + got,
                    bytes - done - got);
      }
      done += whole;
    }
    return {};
  }

  Status Write(int64_t offset, std::span<const std::byte> in) override {
    FATHOM_CHECK_OK(CheckRange(offset, in.data(), static_cast<int64_t>(in.size())));
    int64_t done = 0;
    bool again = false;
    const auto bytes = static_cast<int64_t>(in.size());
    while (done < bytes) {
      const ssize_t put = ::pwrite(fd_.get(), in.data() + done,
                                   static_cast<size_t>(std::min(bytes - done, kMostAtOnce)), offset + done);
      if (put < 0) {
        const int error = errno;
        if (error == EINTR) continue;
        if (error == EINVAL && !std::exchange(again, true) && LeaveDirect()) continue;
        return SystemError(path_, "cannot write", error);
      }
      // The rest again from a whole block on; no progress at all is a device that is full without saying so.
      const int64_t whole = done + put < bytes ? put / kAlignment * kAlignment : put;
      if (whole == 0) return SystemError(path_, "cannot write", ENOSPC);
      done += whole;
    }
    return {};
  }

  Status Sync() override {
    if (::fdatasync(fd_.get()) != 0) return SystemError(path_, "cannot sync", errno);
    return {};
  }

  Status Allocate(int64_t bytes) override {
    FATHOM_CHECK_OK(CheckRange(0, nullptr, bytes));
    FATHOM_TRY(const int64_t before, Size());
    if (bytes < before) {
      if (::ftruncate(fd_.get(), bytes) != 0) return SystemError(path_, "cannot shorten", errno);
      return {};
    }
    if (bytes == 0) return {};
    int error = 0;
    do {
      error = ::fallocate(fd_.get(), 0, 0, bytes) == 0 ? 0 : errno;
    } while (error == EINTR);
    if (error == 0) return {};
    Status status = error == EOPNOTSUPP || error == ENOSYS ? ExtendByWriting(before, bytes)
                                                           : SystemError(path_, "cannot reserve space", error);
    // What was reserved before the space ran out goes back.
    if (!status && ::ftruncate(fd_.get(), before) != 0) return SystemError(path_, "cannot shorten", errno);
    return status;
  }

  Status PunchHole(int64_t offset, int64_t bytes) override {
    FATHOM_CHECK_OK(CheckRange(offset, nullptr, bytes));
    if (bytes == 0) return {};
    if (::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes) == 0) return {};
    const int error = errno;
    if (error == EOPNOTSUPP || error == ENOSYS) {
      return Fail(ErrorCode::kUnsupported, "{}: the file system cannot punch holes", path_);
    }
    return SystemError(path_, "cannot punch a hole", error);
  }

  Result<int64_t> Size() const override {
    struct stat info{};
    if (::fstat(fd_.get(), &info) != 0) return SystemError(path_, "cannot stat", errno);
    return static_cast<int64_t>(info.st_size);
  }

  const std::string& path() const override { return path_; }
  bool is_direct() const override { return direct_.load(std::memory_order_relaxed); }
  int descriptor() const override { return fd_.get(); }

 private:
  Status CheckRange(int64_t offset, const void* memory, int64_t bytes) const {
    if (offset < 0 || bytes < 0 || offset % kAlignment != 0 || bytes % kAlignment != 0 ||
        reinterpret_cast<uintptr_t>(memory) % kAlignment != 0) {
      return Fail(ErrorCode::kInvalidArgument, "{}: {} bytes at {} are not whole blocks of {}", path_, bytes, offset,
                  kAlignment);
    }
    return {};
  }

  // Some file systems take O_DIRECT at opening and refuse it later, or for this alignment: go on through the page
  // cache.
  bool LeaveDirect() const {
    const int flags = ::fcntl(fd_.get(), F_GETFL);
    direct_.store(false, std::memory_order_relaxed);
    return flags >= 0 && ::fcntl(fd_.get(), F_SETFL, flags & ~O_DIRECT) == 0;
  }

  // Where fallocate is missing (NFS before 4.2, some FUSE): zeros reserve the space too.
  Status ExtendByWriting(int64_t from, int64_t to) {
    constexpr int64_t kChunk = int64_t{1} << 20;
    FATHOM_TRY(AlignedBuffer zeros, AlignedBuffer::Allocate(static_cast<size_t>(kChunk + kAlignment)));
    const auto address = reinterpret_cast<uintptr_t>(zeros.data());
    const std::byte* aligned = zeros.data() + (kAlignment - static_cast<int64_t>(address) % kAlignment) % kAlignment;
    for (int64_t at = from / kAlignment * kAlignment; at < to; at += kChunk) {
      // A file whose end lies inside a block keeps that block's bytes.
      if (at < from) {
        if (::ftruncate(fd_.get(), at + kAlignment) != 0) return SystemError(path_, "cannot extend", errno);
        at += kAlignment - kChunk;
        continue;
      }
      FATHOM_CHECK_OK(Write(at, {aligned, static_cast<size_t>(std::min(kChunk, to - at))}));
    }
    return {};
  }

  const std::string path_;
  const Descriptor fd_;
  mutable std::atomic<bool> direct_;
};

}  // namespace

Result<std::unique_ptr<DirectFile>> OpenPosixDirectFile(const std::string& path, const DirectOpenOptions& options) {
  int flags = O_RDWR | O_CLOEXEC | O_NONBLOCK | (options.create ? O_CREAT : 0);
  bool direct = options.direct;
  int raw;
  for (;;) {
    raw = ::open(path.c_str(), flags | (direct ? O_DIRECT : 0), 0600);
    // A file that may only be read (a model in a shared folder) is opened for that; writing it fails later.
    if (raw < 0 && !options.create && (flags & O_RDWR) != 0 && (errno == EACCES || errno == EROFS || errno == ETXTBSY)) {
      flags &= ~O_RDWR;
      continue;
    }
    if (raw >= 0 || (errno != EINTR && !(errno == EINVAL && direct))) break;
    if (errno == EINVAL) direct = false;
  }
  if (raw < 0) return SystemError(path, "cannot open", errno);
  Descriptor fd(raw);
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return SystemError(path, "cannot stat", errno);
  if (!S_ISREG(info.st_mode)) return Fail(ErrorCode::kInvalidArgument, "{}: is not a regular file", path);
  // Only for opening (a FIFO); io_uring would answer EAGAIN instead of waiting for the device.
  const int opened = ::fcntl(fd.get(), F_GETFL);
  if (opened < 0 || ::fcntl(fd.get(), F_SETFL, opened & ~O_NONBLOCK) != 0) {
    return SystemError(path, "cannot open", errno);
  }
  // Said whatever `direct` is, since the page cache may have to do later. A wish; without it reads are only slower.
  if (options.random) (void)::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_RANDOM);
  return std::make_unique<PosixDirectFile>(path, std::move(fd), direct);
}

}  // namespace fathom
