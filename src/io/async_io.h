// Reads and writes in flight: io_uring with registered buffers where the kernel allows it, else a few threads with
// pread/pwrite. Which one it is, is found out when it is made.
//
// Thread-safe. Completions are called on the implementation's threads, exactly once each; they must be short. Requests
// of a higher priority are issued before waiting ones of a lower priority; those in flight are not interrupted. Files
// and buffers must live until the completion. Destruction waits for what is in flight and answers the rest with
// kCancelled.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/direct_file.h"

namespace fathom {

struct AsyncIoOptions {
  int depth = 64;              // requests in flight at once, [1, 4096]
  int threads = 4;             // of the thread implementation, [1, 256]
  bool allow_io_uring = true;  // false: threads
};

struct AsyncIoRequest {
  DirectFile* file = nullptr;
  bool write = false;
  int64_t offset = 0;
  std::byte* memory = nullptr;  // read into, or written from
  int64_t bytes = 0;
  uint8_t priority = 0;  // 0 is the most urgent, 2 the least
  std::function<void(Status)> done;
};

class AsyncIo {
 public:
  /// Errors: kInvalidArgument (options), kResource (threads).
  static Result<std::unique_ptr<AsyncIo>> Create(const AsyncIoOptions& options);
  virtual ~AsyncIo() = default;

  virtual void Submit(std::vector<AsyncIoRequest> requests) = 0;
  /// Memory that requests will often use; a best effort (locked-memory limits), never an error. It must live as long as
  /// this object.
  virtual void Register(std::span<std::byte> memory) = 0;
  virtual std::string_view kind() const = 0;  // "io_uring", "threads"
};

}  // namespace fathom
