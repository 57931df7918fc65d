// DirectFile on POSIX; see io/direct_file.h.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "io/direct_file.h"

namespace fathom {

Result<std::unique_ptr<DirectFile>> OpenPosixDirectFile(const std::string& path, const DirectOpenOptions& options);

}  // namespace fathom
