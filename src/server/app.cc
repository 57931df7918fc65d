#include "server/app.h"

#include <openssl/rand.h>

#include <algorithm>
#include <chrono>

#include "server/json_reader.h"

namespace fathom {
namespace {

struct Match {
  const Route* route = nullptr;
  std::string argument;
};

bool Fits(std::string_view pattern, std::string_view path, std::string& argument) {
  const size_t brace = pattern.find('{');
  if (brace == std::string_view::npos) return pattern == path;
  if (path.size() <= brace || !path.starts_with(pattern.substr(0, brace))) return false;
  argument = path.substr(brace);
  return true;
}

Match FindRoute(std::string_view method, std::string_view path, bool& other_method) {
  const std::string canonical = CanonicalPath(path);
  Match match;
  for (const Route& route : Routes()) {
    if (!Fits(route.pattern, canonical, match.argument)) continue;
    if (route.method == method || (route.method == "GET" && method == "HEAD")) {
      match.route = &route;
      return match;
    }
    other_method = true;
  }
  return match;
}

std::string_view PresentedKey(const HttpHead& head) {
  if (const std::string_view bearer = BearerToken(head.Header("authorization")); !bearer.empty()) return bearer;
  if (const std::string_view key = head.Header("x-api-key"); !key.empty()) return key;  // Anthropic's
  return head.Header("api-key");
}

Dialect DialectOf(std::string_view path) {
  return CanonicalPath(path).starts_with("/v1/messages") ? Dialect::kAnthropic : Dialect::kOpenAi;
}

}  // namespace

App::App(Service& service, AppOptions options, ServerMetrics& metrics)
    : service_(service), options_(std::move(options)), metrics_(metrics), gate_(options_.quota, options_.tenant_quotas),
      started_(std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
                   .count()) {}

Admitted App::Admit(const HttpHead& head) const {
  Admitted admission;
  const Dialect dialect = DialectOf(head.path);
  const auto refuse = [&](int status, std::string message, std::string code) {
    admission.refusal = ErrorResponse(dialect, ApiError{status, std::move(message), "", std::move(code)});
    return admission;
  };
  const OriginCheck origin = CheckOrigin(head, options_.origins);
  if (origin.verdict == OriginVerdict::kBadHost) {
    return refuse(403, "This host name is not allowed here. Start the server with --allowed-host NAME to allow it.",
                  "host_not_allowed");
  }
  if (origin.verdict == OriginVerdict::kBadOrigin) {
    return refuse(403, "Pages of this origin are not allowed here. Start the server with --cors-origin ORIGIN to allow "
                       "them.", "origin_not_allowed");
  }
  if (!origin.allow_origin.empty()) {
    admission.headers.emplace_back("Access-Control-Allow-Origin", origin.allow_origin);
    admission.headers.emplace_back("Vary", "Origin");
    admission.headers.emplace_back("Access-Control-Expose-Headers", "x-request-id, request-id, retry-after");
  }
  bool other_method = false;
  Match match = FindRoute(head.method, head.path, other_method);
  if (head.method == "OPTIONS") {
    admission.name = "OPTIONS";
    admission.refusal.status = 204;
    admission.refusal.content_type.clear();
    if (!origin.allow_origin.empty()) {
      admission.headers.emplace_back("Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS");
      const std::string_view asked = head.Header("access-control-request-headers");
      const bool plain = asked.size() <= 1024 && std::ranges::all_of(asked, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
               c == ',' || c == ' ';
      });
      admission.headers.emplace_back("Access-Control-Allow-Headers",
                                     asked.empty() || !plain ? "authorization, content-type, x-api-key"
                                                             : std::string(asked));
      admission.headers.emplace_back("Access-Control-Max-Age", "600");
    }
    return admission;
  }
  if (match.route == nullptr) {
    if (other_method) return refuse(405, "This method is not known here.", "method_not_allowed");
    return refuse(404, "Unknown request URL. 'GET /v1/models' and 'POST /v1/chat/completions' are known, for example.",
                  "unknown_url");
  }
  admission.name = match.route->pattern;
  if (!match.route->open && !options_.keys.empty()) {
    const std::string_view key = PresentedKey(head);
    const Caller* caller = key.empty() ? nullptr : options_.keys.Find(key);
    if (caller == nullptr) {
      return refuse(401, key.empty() ? "You didn't provide an API key. Send it as 'Authorization: Bearer KEY' or "
                                       "'x-api-key: KEY'."
                                     : "Incorrect API key provided.",
                    "invalid_api_key");
    }
    admission.caller = *caller;
    if (match.route->admin && !caller->admin) {
      return refuse(403, "This needs a key that is marked 'admin' in the server's key file.", "admin_only");
    }
  } else {
    admission.caller.admin = options_.keys.empty();
  }
  if (match.route->generates && draining()) {
    return refuse(503, "The server is shutting down.", "shutting_down");
  }
  admission.route = match.route;
  admission.argument = std::move(match.argument);
  return admission;
}

Answer App::Handle(const Call& call) { return call.route->handle(*this, call); }

std::string CanonicalPath(std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  for (const std::string_view prefix : {"/beta", "/anthropic"}) {
    if (path.starts_with(prefix) && path.size() > prefix.size() && path[prefix.size()] == '/') {
      path.remove_prefix(prefix.size());
    }
  }
  if (path == "/chat/completions" || path == "/completions" || path == "/models" || path.starts_with("/models/") ||
      path == "/embeddings" || path == "/messages" || path == "/messages/count_tokens" || path == "/responses") {
    return "/v1" + std::string(path);
  }
  if (path == "/v1/tokenize" || path == "/v1/detokenize" || path == "/v1/health") return std::string(path.substr(3));
  return std::string(path);
}

std::span<const Route> Routes() {
  static const auto* const kRoutes = [] {
    auto* routes = new std::vector<Route>;
    AddGenerationRoutes(*routes);
    AddModelRoutes(*routes);
    AddCacheRoutes(*routes);
    AddPageRoutes(*routes);
    return routes;
  }();
  return *kRoutes;
}

HttpResponse JsonResponse(int status, const ordered_json& body) {
  HttpResponse response;
  response.status = status;
  response.body = Dump(body);
  return response;
}

HttpResponse ErrorResponse(Dialect dialect, const ApiError& error, const std::string& request_id) {
  HttpResponse response = JsonResponse(error.status, ErrorBody(dialect, error, request_id));
  if (error.retry_after_seconds > 0) {
    response.headers.emplace_back("Retry-After", std::to_string(error.retry_after_seconds));
  }
  if (error.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

std::string NewId(std::string_view prefix) {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  unsigned char bytes[24];
  if (RAND_bytes(bytes, sizeof bytes) != 1) std::fill(std::begin(bytes), std::end(bytes), 0);
  std::string id(prefix);
  for (const unsigned char byte : bytes) id += kLetters[byte % kLetters.size()];
  return id;
}

}  // namespace fathom
