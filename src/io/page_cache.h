// How much of a file the kernel holds in its page cache, whoever read it. Thread-safe.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace fathom {

/// Bytes, in whole pages. Where the kernel tells strangers nothing (files of other users), all of the file counts. Errors:
/// as Env's.
Result<int64_t> CachedBytes(const std::string& path);

}  // namespace fathom
