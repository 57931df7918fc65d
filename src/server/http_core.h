// What the listener and its connections share.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <unordered_set>

#include "base/task_threads.h"
#include "server/http_server.h"

namespace fathom {

class HttpConnection {
 public:
  virtual ~HttpConnection() = default;
  virtual void CloseIfIdle() = 0;
};

struct HttpCore {
  HttpCore(Service& service, const ServerOptions& server_options)
      : options(server_options), app(service, server_options.app, metrics) {}

  const ServerOptions options;
  ServerMetrics metrics;
  App app;
  // Of the I/O thread; before the context, whose end takes the last connections with it.
  std::unordered_set<HttpConnection*> connections;
  int64_t body_bytes = 0;  // of requests that are being read or answered
  int32_t answering = 0;

  boost::asio::io_context io{1};
  TaskThreads workers;  // for what would hold up the I/O thread
};

/// Serves one socket until it closes. reserve: beyond the limit of connections; only /health is answered.
void ServeConnection(boost::asio::ip::tcp::socket socket, HttpCore& core, bool reserve);

}  // namespace fathom
