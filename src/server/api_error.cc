#include "server/api_error.h"

namespace fathom {

std::unexpected<ApiError> BadField(std::string param, std::string message, std::string code) {
  return std::unexpected(ApiError{400, std::move(message), std::move(param), std::move(code)});
}

std::unexpected<ApiError> NotSupported(std::string param, std::string message) {
  return std::unexpected(ApiError{400, std::move(message), std::move(param), "unsupported_feature"});
}

std::unexpected<ApiError> ApiFail(int status, std::string message, std::string code) {
  return std::unexpected(ApiError{status, std::move(message), "", std::move(code)});
}

ApiError FromServiceError(const Error& error) {
  switch (error.code) {
    case ErrorCode::kInvalidArgument: return {400, error.message, "", "invalid_value"};
    case ErrorCode::kUnsupported: return {400, error.message, "", "unsupported_feature"};
    case ErrorCode::kNotFound: return {404, error.message, "", "not_found"};
    case ErrorCode::kResource: return {503, error.message, "", "insufficient_resources", 5};
    case ErrorCode::kCancelled: return {503, "the server is shutting down: " + error.message, "", "shutting_down", 5};
    // A disk that does not answer may come back; a model file that is another one by now will not.
    case ErrorCode::kIo: return {503, error.message, "", "storage_error", 5};
    case ErrorCode::kCorrupt: return {500, error.message, "", "corrupt_file"};
    case ErrorCode::kInternal: break;
  }
  return {500, error.message, "", "internal_error"};
}

ApiError FromSubmitError(const SubmitError& error, std::string_view prompt_field) {
  switch (error.why) {
    case Refusal::kTooLong: return {400, error.message, std::string(prompt_field), "context_length_exceeded"};
    case Refusal::kQueueFull: return {429, error.message, "", "queue_full", 1};
    case Refusal::kDraining: return FromServiceError({ErrorCode::kCancelled, error.message});
    case Refusal::kInvalid: break;
  }
  return FromServiceError({ErrorCode::kInvalidArgument, error.message});
}

std::string ErrorType(Dialect dialect, int status) {
  const bool anthropic = dialect == Dialect::kAnthropic;
  switch (status) {
    case 401: return "authentication_error";
    case 403: return anthropic ? "permission_error" : "permission_denied";
    case 404: return anthropic ? "not_found_error" : "invalid_request_error";
    case 413: return anthropic ? "request_too_large" : "invalid_request_error";
    case 429: return "rate_limit_error";
    case 503: return anthropic ? "overloaded_error" : "service_unavailable";
    default: break;
  }
  if (status >= 500) return anthropic ? "api_error" : "server_error";
  return "invalid_request_error";
}

nlohmann::ordered_json ErrorBody(Dialect dialect, const ApiError& error, const std::string& request_id) {
  using json = nlohmann::ordered_json;
  const std::string type = ErrorType(dialect, error.status);
  if (dialect == Dialect::kAnthropic) {
    json body = {{"type", "error"}, {"error", {{"type", type}, {"message", error.message}}}};
    if (!request_id.empty()) body["request_id"] = request_id;
    return body;
  }
  const auto or_null = [](const std::string& text) { return text.empty() ? json(nullptr) : json(text); };
  return {{"error",
           {{"message", error.message}, {"type", type}, {"param", or_null(error.param)}, {"code", or_null(error.code)}}}};
}

}  // namespace fathom
