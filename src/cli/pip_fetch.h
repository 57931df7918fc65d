// A wheel through the user's own `python3 -m pip download`, so that their index, proxy and certificates apply and no
// registry's address stands in this program.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "base/result.h"

namespace fathom {

/// Runs pip in `folder` and returns the wheel's path. `python` is the interpreter ("python3"). pip's own words go to our
/// stderr unless quiet. Errors: kNotFound (no python or no pip), kIo (pip failed; the message says how), kCancelled.
Result<std::filesystem::path> PipDownload(const std::string& python, const std::string& requirement,
                                          const std::filesystem::path& folder, bool quiet);

}  // namespace fathom
