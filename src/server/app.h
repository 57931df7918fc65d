// What the server answers, without sockets: which requests it lets in, and what each route does.
//
// Admit() looks at a request's head alone, before its body is read. Handle() gives either the answer, or a GenerationOrder
// that the connection runs on the service. Thread-safe; Handle() may take long (a long prompt is encoded, a cache is
// verified) and then belongs on a worker thread, as Route::slow says.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/service.h"
#include "server/api_request.h"
#include "server/auth.h"
#include "server/http_types.h"
#include "server/origin_guard.h"
#include "server/reply_writer.h"
#include "server/server_metrics.h"
#include "server/tenant_gate.h"

namespace fathom {

struct AppOptions {
  std::string model_name = "fathom";  // as /v1/models and answers have it
  ApiKeys keys;                       // empty: everybody may ask
  OriginRules origins;
  TenantQuota quota;                  // of each tenant
  std::map<std::string, TenantQuota> tenant_quotas;  // of those that have one of their own
  Prices prices;
  int max_json_depth = 64;
};

struct GenerationOrder {
  std::vector<ServiceRequest> requests;  // one a choice
  std::vector<ServiceResult> ready;      // when not empty: the results, and the model is not asked (max_tokens 0)
  int32_t n = 1;                         // choices of one prompt, which stand side by side
  std::unique_ptr<ReplyWriter> writer;
  Dialect dialect = Dialect::kOpenAi;
  std::string id;
  bool stream = false;
  std::string prompt_field = "messages";  // where the request has its prompt, for errors
  std::shared_ptr<void> place;           // in the tenant's limits
};

struct Answer {
  HttpResponse response;
  std::unique_ptr<GenerationOrder> generation;  // when set, response is not used
};

class App;

struct Route {
  std::string_view method;   // "GET" routes also answer HEAD
  std::string_view pattern;  // "/v1/models/{id}"; also the name in metrics and the access log
  Dialect dialect = Dialect::kOpenAi;
  bool open = false;         // needs no key
  bool slow = false;         // always on a worker thread
  bool generates = false;
  bool admin = false;        // with keys: only those marked so
  Answer (*handle)(App& app, const struct Call& call) = nullptr;
};

/// A request that may be answered.
struct Call {
  const Route* route = nullptr;
  const HttpHead* head = nullptr;
  std::string_view body;
  std::string argument;  // what stood for {…}
  Caller caller;
};

struct Admitted {
  const Route* route = nullptr;  // nullptr: `refusal` is the answer
  HttpResponse refusal;
  std::string_view name = "-";   // for metrics and log also when refused
  std::string argument;
  Caller caller;
  std::vector<std::pair<std::string, std::string>> headers;  // CORS, for whatever is answered
};

class App {
 public:
  App(Service& service, AppOptions options, ServerMetrics& metrics);

  Admitted Admit(const HttpHead& head) const;
  Answer Handle(const Call& call);

  /// From now on /health says "draining" and nothing new is generated.
  void BeginDrain() { draining_ = true; }
  bool draining() const { return draining_; }

  Service& service() { return service_; }
  const Engine& engine() const { return service_.engine(); }
  const AppOptions& options() const { return options_; }
  ServerMetrics& metrics() { return metrics_; }
  TenantGate& gate() { return gate_; }
  int64_t started() const { return started_; }

 private:
  Service& service_;
  const AppOptions options_;
  ServerMetrics& metrics_;
  TenantGate gate_;
  std::atomic<bool> draining_{false};
  const int64_t started_;
};

HttpResponse JsonResponse(int status, const ordered_json& body);
HttpResponse ErrorResponse(Dialect dialect, const ApiError& error, const std::string& request_id = "");
/// "chatcmpl-" and 24 random letters and digits.
std::string NewId(std::string_view prefix);

/// All routes; one function a file of handlers adds its own.
std::span<const Route> Routes();
void AddGenerationRoutes(std::vector<Route>& routes);  // handlers_generate.cc
void AddModelRoutes(std::vector<Route>& routes);       // handlers_misc.cc
void AddCacheRoutes(std::vector<Route>& routes);       // handlers_cache.cc
void AddPageRoutes(std::vector<Route>& routes);        // handlers_page.cc

/// The path that a route is found by: "/chat/completions" and "/beta/chat/completions" are "/v1/chat/completions".
std::string CanonicalPath(std::string_view path);

}  // namespace fathom
