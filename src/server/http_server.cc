#include "server/http_server.h"

#include <sys/resource.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <future>
#include <optional>
#include <thread>

#include "base/log.h"
#include "base/start_thread.h"
#include "server/http_core.h"
#include "server/origin_guard.h"

namespace fathom {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr int32_t kReserveConnections = 64;
constexpr auto kToken = asio::as_tuple(asio::use_awaitable);

Result<tcp::endpoint> ResolveHost(asio::io_context& io, const std::string& host, uint16_t port) {
  error_code error;
  const auto address = asio::ip::make_address(host, error);
  if (!error) return tcp::endpoint(address, port);
  tcp::resolver resolver(io);
  const auto found = resolver.resolve(host, std::to_string(port), tcp::resolver::passive, error);
  if (error || found.empty()) {
    return Fail(ErrorCode::kInvalidArgument, "--host {}: no such address ({})", host, error.message());
  }
  return found.begin()->endpoint();
}

// A connection is a file; the usual limit of 1024 is less than what the server takes.
void RaiseFileLimit(int32_t connections) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const auto wanted = static_cast<rlim_t>(connections) + kReserveConnections + 512;
  if (limit.rlim_cur >= wanted) return;
  limit.rlim_cur = std::min(wanted, limit.rlim_max);
  setrlimit(RLIMIT_NOFILE, &limit);
}

/// Binds, and says in words why not.
Status Open(asio::io_context& io, tcp::acceptor& acceptor, const ServerOptions& options) {
  FATHOM_TRY(const tcp::endpoint wanted, ResolveHost(io, options.host, options.port));
  if (!wanted.address().is_loopback() && options.app.keys.empty()) {
    return Fail(ErrorCode::kInvalidArgument,
                "--host {} would let everybody on the network in without a key\nMake one with 'fathom serve "
                "--new-api-key NAME' and start with --api-keys FILE.", options.host);
  }
  error_code error;
  acceptor.open(wanted.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(wanted, error);
  if (error == asio::error::address_in_use) {
    return Fail(ErrorCode::kResource,
                "port {} is taken, perhaps by another 'fathom serve'\nChoose another with --port N; --port 0 takes any "
                "that is free.", options.port);
  }
  if (error == asio::error::access_denied) {
    return Fail(ErrorCode::kResource, "port {} may not be used by this user ({})\nPorts from 1024 on may: --port 8080.",
                options.port, error.message());
  }
  if (error) return Fail(ErrorCode::kIo, "{}:{}: cannot listen ({})", options.host, options.port, error.message());
  return {};
}

class ServerImpl final : public Server {
 public:
  ServerImpl(Service& service, const ServerOptions& options) : core_(service, options), acceptor_(core_.io) {}

  ~ServerImpl() override { Stop(0); }

  Status Listen() {
    RaiseFileLimit(core_.options.max_connections);
    FATHOM_CHECK_OK(Open(core_.io, acceptor_, core_.options));
    error_code error;
    acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error) return Fail(ErrorCode::kIo, "{}: cannot listen ({})", core_.options.host, error.message());
    endpoint_ = acceptor_.local_endpoint(error);
    asio::co_spawn(core_.io, Accept(), asio::detached);
    FATHOM_CHECK_OK(core_.workers.Start(core_.options.worker_threads));
    FATHOM_TRY(thread_, StartThread([this] { Run(); }));
    return {};
  }

  uint16_t port() const override { return endpoint_.port(); }
  std::string url() const override {
    const auto address = endpoint_.address();
    return address.is_v6() ? fmt::format("http://[{}]:{}", address.to_string(), endpoint_.port())
                           : fmt::format("http://{}:{}", address.to_string(), endpoint_.port());
  }

  void BeginDrain() override {
    core_.app.BeginDrain();
    asio::post(core_.io, [this] {
      error_code ignored;
      acceptor_.close(ignored);
      for (HttpConnection* connection : core_.connections) connection->CloseIfIdle();
    });
  }

  void Stop(double seconds) override {
    if (!thread_.joinable()) return;
    BeginDrain();
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (std::chrono::steady_clock::now() < end && Answering() > 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    core_.workers.Finish();
    core_.io.stop();
    thread_.join();
    // Frames of connections that are still there go with the context; they cancel their requests.
  }

  const ServerMetrics& metrics() const override { return core_.metrics; }

 private:
  // An exception that reaches this far (memory) costs one handler, not the server.
  void Run() {
    const auto work = asio::make_work_guard(core_.io);
    for (;;) {
      try {
        core_.io.run();
        return;
      } catch (const std::exception& error) {
        spdlog::error("server: {}", error.what());
      }
    }
  }

  int32_t Answering() {
    std::promise<int32_t> promise;
    auto future = promise.get_future();
    asio::post(core_.io, [&] { promise.set_value(core_.answering); });
    return future.get();
  }

  asio::awaitable<void> Accept() {
    asio::steady_timer pause(core_.io);
    while (acceptor_.is_open()) {
      auto [error, socket] = co_await acceptor_.async_accept(kToken);
      if (error == asio::error::operation_aborted) co_return;
      if (error) {
        // Out of files, or a client that left at once: later may be better.
        spdlog::warn("server: a connection could not be accepted ({})", error.message());
        pause.expires_after(std::chrono::milliseconds(50));
        co_await pause.async_wait(kToken);
        continue;
      }
      const auto open = static_cast<int32_t>(core_.connections.size());
      if (open >= core_.options.max_connections) core_.metrics.refused_connections.Add();
      if (open >= core_.options.max_connections + kReserveConnections) continue;  // closes it
      error_code ignored;
      socket.set_option(tcp::no_delay(true), ignored);
      ServeConnection(std::move(socket), core_, open >= core_.options.max_connections);
    }
  }

  HttpCore core_;
  tcp::acceptor acceptor_;
  tcp::endpoint endpoint_;
  std::thread thread_;
};

}  // namespace

Status Server::Check(const ServerOptions& options) {
  asio::io_context io{1};
  tcp::acceptor acceptor(io);
  return Open(io, acceptor, options);
}

Result<std::unique_ptr<Server>> Server::Start(Service& service, const ServerOptions& options) {
  auto server = std::make_unique<ServerImpl>(service, options);
  FATHOM_CHECK_OK(server->Listen());
  return server;
}

}  // namespace fathom
