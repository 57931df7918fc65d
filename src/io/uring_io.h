// AsyncIo on io_uring: one thread owns the ring; it issues what waits, sleeps in the kernel and calls completions.
//
// Memory that was registered is read and written with the FIXED operations where the whole request lies in one
// registered piece. Short transfers are resumed. Files without a descriptor, and requests that the kernel refuses
// (EINVAL, EOPNOTSUPP), go to a ThreadIo.
#pragma once

#include <memory>

#include "io/async_io.h"

namespace fathom {

/// Errors: kUnsupported when the kernel has no io_uring, or too old a one, or forbids it; kResource.
Result<std::unique_ptr<AsyncIo>> CreateUringIo(const AsyncIoOptions& options);

}  // namespace fathom
