#include "io/async_io.h"

#include "io/thread_io.h"
#include "io/uring_io.h"

namespace fathom {

Result<std::unique_ptr<AsyncIo>> AsyncIo::Create(const AsyncIoOptions& options) {
  if (options.depth < 1 || options.depth > 4096) {
    return Fail(ErrorCode::kInvalidArgument, "I/O depth {} is not in [1, 4096]", options.depth);
  }
  if (options.threads < 1 || options.threads > 256) {
    return Fail(ErrorCode::kInvalidArgument, "{} I/O threads are not in [1, 256]", options.threads);
  }
  if (options.allow_io_uring) {
    if (auto io = CreateUringIo(options)) return io;  // else seccomp, a sysctl or an old kernel: threads do as well
  }
  FATHOM_TRY(auto io, ThreadIo::Create(options.threads));
  return io;
}

}  // namespace fathom
