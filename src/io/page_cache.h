// How much of a file the kernel holds in its page cache, whoever read it, and giving it up. Thread-safe.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace fathom {

/// Bytes, in whole pages. Where the kernel tells strangers nothing (files of other users), all of the file counts. Errors:
/// as Env's.
Result<int64_t> CachedBytes(const std::string& path);
/// The same of the pages that [offset, offset + bytes) touches, clipped to the file. Errors also: kInvalidArgument (a negative
/// offset or size).
Result<int64_t> CachedBytes(const std::string& path, int64_t offset, int64_t bytes);
/// Asks the kernel to give up the whole pages of that range; those that are dirty or that somebody maps stay.
Status DropCached(const std::string& path, int64_t offset, int64_t bytes);

}  // namespace fathom
