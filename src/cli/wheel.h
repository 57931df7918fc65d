// A file out of a zip archive (a Python wheel is one), checked on the way.
//
// Blocking. Archives are hostile until shown otherwise: the member's size is bounded by what the caller expects, its
// CRC (libzip) and SHA-256 are checked before it gets its name.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "base/result.h"

namespace fathom {

/// Writes the archive's `member` to `destination` (by way of DESTINATION.part). bytes and sha256 as expected; -1 and
/// empty: not known, then at most 1 TiB. Errors: kNotFound (no such member), kCorrupt, kResource (disk), kIo,
/// kCancelled.
Status ExtractMember(const std::filesystem::path& archive, const std::string& member,
                     const std::filesystem::path& destination, int64_t bytes, const std::string& sha256,
                     const std::function<bool(int64_t done, int64_t total)>& progress);

}  // namespace fathom
