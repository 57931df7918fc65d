// The HTTP server: one thread for all sockets (Boost.Beast coroutines), a small pool for work that takes long, and the
// service behind it.
//
//   auto server = Server::Start(service, options);   // listening when it returns
//   server->BeginDrain();  service.Drain(30);  server->Stop(5);
//
// The service must outlive the server, and every request must be done (Drain) or cancelled before the server goes;
// ~Server cancels what is left. Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "server/app.h"

namespace fathom {

struct ServerOptions {
  std::string host = "127.0.0.1";  // an address or a name; beyond loopback keys are required
  uint16_t port = 8080;            // 0: any free one
  AppOptions app;
  int64_t max_body_bytes = 32 << 20;
  int64_t max_bodies_bytes = 512 << 20;  // of all requests that are being read, together
  uint32_t max_header_bytes = 32 << 10;
  int32_t max_connections = 4096;        // beyond it a few more are let in that get /health, or 503
  double idle_seconds = 75;              // between requests
  double header_seconds = 20;            // for a whole head
  double body_stall_seconds = 30;        // between pieces of a body
  double body_seconds = 600;             // for a whole body
  double send_stall_seconds = 60;        // a client that takes nothing for so long is gone
  double keep_alive_seconds = 10;        // of silence in a stream before a comment
  int worker_threads = 2;
};

class Server {
 public:
  /// Whether Start() could listen, without doing it: asked before a model is loaded. Errors as there.
  static Status Check(const ServerOptions& options);
  /// Errors: kInvalidArgument (beyond loopback without keys, a host that is no address), kResource (the port is taken:
  /// says what to do), kIo.
  static Result<std::unique_ptr<Server>> Start(Service& service, const ServerOptions& options);
  virtual ~Server() = default;
  virtual uint16_t port() const = 0;
  /// "http://127.0.0.1:8080"
  virtual std::string url() const = 0;
  /// Stops accepting, closes idle connections; running answers go on, new ones get 503. Returns at once.
  virtual void BeginDrain() = 0;
  /// Waits until the answers in work have been sent, at most `seconds`, then closes everything. Once.
  virtual void Stop(double seconds) = 0;
  virtual const ServerMetrics& metrics() const = 0;
};

}  // namespace fathom
