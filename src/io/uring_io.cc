#include "io/uring_io.h"

#include <liburing.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <thread>
#include <utility>

#include "base/scheduling.h"
#include "base/start_thread.h"
#include "io/descriptor.h"
#include "io/request_queue.h"
#include "io/system_error.h"
#include "io/thread_io.h"

namespace fathom {
namespace {

constexpr unsigned kMostBuffers = 1024;                 // registered pieces
constexpr int64_t kMostBufferBytes = int64_t{1} << 30;  // of one piece: the kernel's limit
constexpr int64_t kMostAtOnce = int64_t{1} << 30;       // of one operation: its length has 32 bits

void Finish(AsyncIoRequest& request, Status status) {
  if (request.done) std::exchange(request.done, nullptr)(std::move(status));
}

struct Operation {
  AsyncIoRequest request;
  int64_t done_bytes = 0;
  bool plain = false;  // a FIXED one was refused
};

class UringIo : public AsyncIo {
 public:
  // A file keeps a quarter of the places free for others, in case its device hangs.
  UringIo(int depth, std::unique_ptr<ThreadIo> threads)
      : depth_(depth), threads_(std::move(threads)), queue_(std::max(1, depth - depth / 4)) {}

  Status Start() {
    const int error = io_uring_queue_init(static_cast<unsigned>(depth_) + 1, &ring_, IORING_SETUP_CLAMP);
    if (error < 0) return Fail(ErrorCode::kUnsupported, "io_uring: {}", std::strerror(-error));
    has_ring_ = true;
    std::unique_ptr<io_uring_probe, void (*)(io_uring_probe*)> probe(io_uring_get_probe_ring(&ring_),
                                                                     io_uring_free_probe);
    if (probe == nullptr) return Fail(ErrorCode::kUnsupported, "io_uring: cannot be probed");
    for (int operation : {IORING_OP_READ, IORING_OP_WRITE, IORING_OP_READ_FIXED, IORING_OP_WRITE_FIXED}) {
      if (!io_uring_opcode_supported(probe.get(), operation)) {
        return Fail(ErrorCode::kUnsupported, "io_uring: the kernel lacks operation {}", operation);
      }
    }
    wake_ = Descriptor(::eventfd(0, EFD_CLOEXEC));
    if (wake_.get() < 0) return SystemError("eventfd", "cannot create", errno);
    can_register_ = io_uring_register_buffers_sparse(&ring_, kMostBuffers) == 0;
    FATHOM_TRY(thread_, StartThread([this] { Loop(); }));
    return {};
  }

  ~UringIo() override {
    std::vector<AsyncIoRequest> cancelled;
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
      cancelled = queue_.TakeAll();
    }
    for (AsyncIoRequest& request : cancelled) Finish(request, Fail(ErrorCode::kCancelled, "I/O was stopped"));
    if (thread_.joinable()) {
      Wake();
      thread_.join();
    }
    threads_.reset();
    if (has_ring_) io_uring_queue_exit(&ring_);
  }

  void Submit(std::vector<AsyncIoRequest> requests) override {
    std::vector<AsyncIoRequest> elsewhere, cancelled;
    bool wake = false;
    {
      const std::lock_guard lock(mutex_);
      for (AsyncIoRequest& request : requests) {
        if (stop_) {
          cancelled.push_back(std::move(request));
        } else if (!ForRing(request)) {
          elsewhere.push_back(std::move(request));
        } else {
          queue_.Push(std::move(request));
          wake = true;
        }
      }
    }
    if (wake) Wake();
    if (!elsewhere.empty()) threads_->Submit(std::move(elsewhere));
    for (AsyncIoRequest& request : cancelled) Finish(request, Fail(ErrorCode::kCancelled, "I/O was stopped"));
  }

  void Register(std::span<std::byte> memory) override {
    if (!can_register_ || memory.empty()) return;
    {
      const std::lock_guard lock(mutex_);
      to_register_.push_back(memory);
    }
    Wake();
  }

  std::string_view kind() const override { return "io_uring"; }

 private:
  struct Piece {
    const std::byte* begin;
    const std::byte* end;
    int index;
  };

  // Whether the ring takes it; the others' errors come from DirectFile itself.
  static bool ForRing(const AsyncIoRequest& request) {
    constexpr int64_t kAlignment = DirectFile::kAlignment;
    return request.file->descriptor() >= 0 && request.bytes > 0 && request.bytes % kAlignment == 0 &&
           request.offset >= 0 && request.offset % kAlignment == 0 &&
           reinterpret_cast<uintptr_t>(request.memory) % kAlignment == 0;
  }

  void Wake() {
    const uint64_t one = 1;
    while (::write(wake_.get(), &one, sizeof(one)) < 0 && errno == EINTR) {
    }
  }

  void Loop() {
    AskForShortSlices();  // what it hands on is waited for by threads that compute meanwhile
    bool listening = false;  // a read of wake_ is in the ring
    for (;;) {
      bool stopping;
      std::vector<AsyncIoRequest> next;
      std::vector<std::span<std::byte>> memories;
      {
        const std::lock_guard lock(mutex_);
        stopping = stop_;
        memories.swap(to_register_);
        while (in_flight_ + static_cast<int>(next.size()) < depth_) {
          auto request = queue_.Pop();
          if (!request) break;
          next.push_back(std::move(*request));
        }
      }
      for (std::span<std::byte> memory : memories) RegisterNow(memory);
      for (AsyncIoRequest& request : next) {
        ++in_flight_;
        Issue(new Operation{std::move(request)});
      }
      if (stopping && in_flight_ == 0) return;
      if (!listening && !stopping) {
        io_uring_sqe* sqe = NextEntry();
        io_uring_prep_read(sqe, wake_.get(), &wakes_, sizeof(wakes_), 0);
        io_uring_sqe_set_data(sqe, nullptr);
        listening = true;
      }
      const int error = io_uring_submit_and_wait(&ring_, 1);
      if (error < 0 && error != -EINTR && error != -EAGAIN && error != -EBUSY) {
        // Short of memory, or worse; what is in the ring stays there, so try again a little later.
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      io_uring_cqe* cqe = nullptr;
      while (io_uring_peek_cqe(&ring_, &cqe) == 0 && cqe != nullptr) {
        auto* operation = static_cast<Operation*>(io_uring_cqe_get_data(cqe));
        const int result = cqe->res;
        io_uring_cqe_seen(&ring_, cqe);
        if (operation == nullptr) {
          listening = false;
        } else {
          Completed(operation, result);
        }
      }
    }
  }

  io_uring_sqe* NextEntry() {
    io_uring_sqe* sqe;
    while ((sqe = io_uring_get_sqe(&ring_)) == nullptr) (void)io_uring_submit(&ring_);
    return sqe;
  }

  void Issue(Operation* operation) {
    const AsyncIoRequest& request = operation->request;
    std::byte* memory = request.memory + operation->done_bytes;
    const auto bytes = static_cast<unsigned>(std::min(request.bytes - operation->done_bytes, kMostAtOnce));
    const auto offset = static_cast<uint64_t>(request.offset + operation->done_bytes);
    const int fd = request.file->descriptor();
    const int buffer = operation->plain ? -1 : FindPiece(memory, bytes);
    io_uring_sqe* sqe = NextEntry();
    if (buffer >= 0 && request.write) {
      io_uring_prep_write_fixed(sqe, fd, memory, bytes, offset, buffer);
    } else if (buffer >= 0) {
      io_uring_prep_read_fixed(sqe, fd, memory, bytes, offset, buffer);
    } else if (request.write) {
      io_uring_prep_write(sqe, fd, memory, bytes, offset);
    } else {
      io_uring_prep_read(sqe, fd, memory, bytes, offset);
    }
    io_uring_sqe_set_data(sqe, operation);
  }

  void Completed(Operation* operation, int result) {
    AsyncIoRequest& request = operation->request;
    if (result == -EINTR || result == -EAGAIN) return Issue(operation);
    if (result == -EFAULT && !operation->plain) {
      operation->plain = true;
      return Issue(operation);
    }
    Status status;
    if (result == -EINVAL || result == -EOPNOTSUPP) {
      // O_DIRECT that the file system does not mean: DirectFile knows how to go on.
      Release(operation);
      std::vector<AsyncIoRequest> one;
      one.push_back(std::move(request));
      delete operation;
      threads_->Submit(std::move(one));
      return;
    }
    if (result < 0) {
      status = SystemError(request.file->path(), request.write ? "cannot write" : "cannot read", -result);
    } else {
      constexpr int64_t kAlignment = DirectFile::kAlignment;
      const int64_t left = request.bytes - operation->done_bytes;
      const int64_t got = result < left ? result / kAlignment * kAlignment : result;
      operation->done_bytes += got;
      if (got > 0 && got < left) return Issue(operation);
      if (got == 0 && request.write) {
        status = SystemError(request.file->path(), "cannot write", ENOSPC);
      } else if (got == 0) {
        status = Fail(ErrorCode::kCorrupt, "{}: ends at byte {}, {} more expected", request.file->path(),
                      request.offset + operation->done_bytes + result, left - result);
      }
    }
    Release(operation);
    Finish(request, std::move(status));
    delete operation;
  }

  void Release(Operation* operation) {
    --in_flight_;
    const std::lock_guard lock(mutex_);
    queue_.Finished(operation->request.file);
  }

  void RegisterNow(std::span<std::byte> memory) {
    while (!memory.empty() && pieces_.size() < kMostBuffers) {
      const auto piece = memory.first(std::min(memory.size(), static_cast<size_t>(kMostBufferBytes)));
      memory = memory.subspan(piece.size());
      iovec vector{piece.data(), piece.size()};
      const __u64 tag = 0;
      const int index = static_cast<int>(pieces_.size());
      // Fails at the limit of locked memory; then these requests are plain ones.
      if (io_uring_register_buffers_update_tag(&ring_, static_cast<unsigned>(index), &vector, &tag, 1) != 1) return;
      const Piece entry{piece.data(), piece.data() + piece.size(), index};
      pieces_.insert(std::upper_bound(pieces_.begin(), pieces_.end(), entry,
                                      [](const Piece& a, const Piece& b) { return a.begin < b.begin; }),
                     entry);
    }
  }

  int FindPiece(const std::byte* memory, int64_t bytes) const {
    const auto after = std::upper_bound(pieces_.begin(), pieces_.end(), memory,
                                        [](const std::byte* at, const Piece& piece) { return at < piece.begin; });
    if (after == pieces_.begin()) return -1;
    const Piece& piece = *std::prev(after);
    return memory + bytes <= piece.end ? piece.index : -1;
  }

  const int depth_;
  std::unique_ptr<ThreadIo> threads_;
  Descriptor wake_;
  bool can_register_ = false;

  std::mutex mutex_;
  RequestQueue queue_;
  std::vector<std::span<std::byte>> to_register_;
  bool stop_ = false;

  // The ring's thread's own.
  io_uring ring_{};
  bool has_ring_ = false;
  int in_flight_ = 0;
  uint64_t wakes_ = 0;
  std::vector<Piece> pieces_;  // by address
  std::thread thread_;
};

}  // namespace

Result<std::unique_ptr<AsyncIo>> CreateUringIo(const AsyncIoOptions& options) {
  FATHOM_TRY(auto threads, ThreadIo::Create(options.threads));
  auto io = std::make_unique<UringIo>(options.depth, std::move(threads));
  FATHOM_CHECK_OK(io->Start());
  return io;
}

}  // namespace fathom
