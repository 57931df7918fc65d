// Sizes as people write them at the command line. Pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace fathom {

/// "4GiB", "64M", "1.5g", "1500MB", "4096": K, M, G and T are powers of 1024, with iB or without; KB, MB, GB and TB powers
/// of 1000. kInvalidArgument, with the option's name, for anything else, negative numbers, and what 2^60 does not hold.
Result<int64_t> ParseByteSize(std::string_view option, std::string_view text);

}  // namespace fathom
