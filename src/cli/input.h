// Reading what a user names as input: a file, or standard input.
#pragma once

#include <string>

#include "base/result.h"

namespace fathom {

/// The whole of a file, "-" for standard input. Errors: kNotFound, kIo, kResource above 256 MiB (a prompt is text; a
/// model file named by mistake should not be swallowed).
Result<std::string> ReadInput(const std::string& path);

}  // namespace fathom
