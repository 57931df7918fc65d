// A wheel through the user's own `python3 -m pip download`, so that their index, proxy and certificates apply and no
// registry's address stands in this program.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "base/result.h"

namespace fathom {

/// Downloads into `folder` and returns the wheel's path. `python` is the interpreter ("python3"). pip's own words go to
/// our stderr when `show`; otherwise their end is part of the error. Errors: kNotFound (no python or no pip), kIo (pip
/// failed; the message says how), kCancelled.
Result<std::filesystem::path> PipDownload(const std::string& python, const std::string& requirement,
                                          const std::filesystem::path& folder, bool show);

}  // namespace fathom
