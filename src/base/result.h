// Errors as values. Files, networks and users fail through Result<T>; an assertion is for our own mistakes.
//
// Messages name the thing (file, field, argument) and what to do next where that is known. Thread-safe: plain values.
#pragma once

#include <fmt/format.h>

#include <expected>
#include <string>
#include <utility>

namespace fathom {

enum class ErrorCode {
  kInvalidArgument,  // the caller's words are wrong (exit status 2 at the command line)
  kNotFound,
  kCorrupt,      // a file is not what it says it is
  kUnsupported,  // well formed, but fathom cannot do it
  kResource,     // memory, disk space, limits
  kIo,
  kCancelled,
  kInternal,
};

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
};

template <typename T>
using Result = std::expected<T, Error>;
using Status = Result<void>;

/// Builds the error side of a Result: `return Fail(ErrorCode::kCorrupt, "{}: tensor {} ends past the file", ...)`.
template <typename... Args>
[[nodiscard]] std::unexpected<Error> Fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected<Error>(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}

/// The same error with words before it, e.g. the file's name.
[[nodiscard]] inline std::unexpected<Error> Prefix(const Error& error, std::string_view what) {
  return std::unexpected<Error>(Error{error.code, fmt::format("{}: {}", what, error.message)});
}

}  // namespace fathom

#define FATHOM_CONCAT_INNER(a, b) a##b
#define FATHOM_CONCAT(a, b) FATHOM_CONCAT_INNER(a, b)

/// FATHOM_TRY(auto x, Expr()); declares x from a Result or returns its error.
#define FATHOM_TRY(declaration, expression) FATHOM_TRY_IMPL(FATHOM_CONCAT(result_, __LINE__), declaration, expression)
#define FATHOM_TRY_IMPL(tmp, declaration, expression)         \
  auto tmp = (expression);                                    \
  if (!tmp) return std::unexpected(std::move(tmp).error());   \
  declaration = std::move(tmp).value()

/// For Status: returns the error, goes on otherwise.
#define FATHOM_CHECK_OK(expression)                                            \
  do {                                                                         \
    if (auto status_ = (expression); !status_) return std::unexpected(std::move(status_).error()); \
  } while (false)
