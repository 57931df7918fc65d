// errno as an Error: the code that callers act on, and a message with the path and the system's reason. For the POSIX
// side of this room only.
#pragma once

#include <cerrno>
#include <cstring>
#include <string>

#include "base/result.h"

namespace fathom {

inline std::unexpected<Error> SystemError(const std::string& path, const char* action, int error) {
  ErrorCode code = ErrorCode::kIo;
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      code = ErrorCode::kNotFound;
      break;
    case ENOMEM:
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case EFBIG:
      code = ErrorCode::kResource;
      break;
    case EEXIST:
    case EISDIR:
    case ENAMETOOLONG:
      code = ErrorCode::kInvalidArgument;
      break;
    default:
      break;
  }
  return Fail(code, "{}: {}: {}", path, action, std::strerror(error));
}

}  // namespace fathom
