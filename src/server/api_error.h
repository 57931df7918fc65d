// What goes wrong with a request, and how each API says it. Plain values, thread-safe.
//
// Shapes: OpenAI {"error":{"message","type","param","code"}} (platform.openai.com/docs/guides/error-codes), also
// DeepSeek's; Anthropic {"type":"error","error":{"type","message"},"request_id"} (docs.anthropic.com/en/api/errors).
#pragma once

#include <expected>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"
#include "engine/service.h"

namespace fathom {

enum class Dialect { kOpenAi, kAnthropic };

struct ApiError {
  int status = 400;
  std::string message;
  std::string param;  // of OpenAI's shape: the field; empty: null
  std::string code;   // of OpenAI's shape: "invalid_type", "unsupported", …; empty: null
  int retry_after_seconds = 0;  // > 0: a Retry-After header
};

template <typename T>
using ApiResult = std::expected<T, ApiError>;

/// 400 with the field named.
std::unexpected<ApiError> BadField(std::string param, std::string message, std::string code = "invalid_value");
/// 400: well formed, but this server cannot do it (yet).
std::unexpected<ApiError> NotSupported(std::string param, std::string message);
std::unexpected<ApiError> ApiFail(int status, std::string message, std::string code = "");

/// What the service or the cache says, as HTTP has it.
ApiError FromServiceError(const Error& error);
/// What Submit() refuses: a prompt that can never fit 400 (prompt_field: where the request has it), a full queue 429,
/// draining 503.
ApiError FromSubmitError(const SubmitError& error, std::string_view prompt_field);

/// "invalid_request_error", "rate_limit_error", … for a status.
std::string ErrorType(Dialect dialect, int status);
nlohmann::ordered_json ErrorBody(Dialect dialect, const ApiError& error, const std::string& request_id);

}  // namespace fathom
