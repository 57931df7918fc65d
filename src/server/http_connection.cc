// One socket's life: requests one after the other, each read within its limits, answered whole or as a stream.
//
// While an answer is in work the socket is also read, for two reasons: a client that leaves cancels its request at once,
// and requests that it sends ahead (pipelining) are not lost. Everything here runs on the I/O thread.
//
// House rule for this file: nothing that needs a destructor is made inside an expression with co_await, for g++ 12
// destroys some such temporaries twice. Arguments are named first and passed by reference.
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <optional>

#include "base/log.h"
#include "server/generation_run.h"
#include "server/http_core.h"
#include "server/http_head.h"

namespace fathom {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;
using Parser = http::request_parser<http::string_body>;

constexpr auto kToken = asio::as_tuple(asio::use_awaitable);
constexpr size_t kMaxPipelined = 64 << 10;   // bytes read ahead of an answer
constexpr size_t kInlineBody = 16 << 10;     // longer ones are parsed and encoded on a worker
constexpr size_t kReadPiece = 4096;

Clock::duration ToDuration(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

class Connection final : public HttpConnection, public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, HttpCore& core, bool reserve)
      : core_(core), stream_(std::move(socket)), wake_(stream_.get_executor()), reserve_(reserve) {
    core_.connections.insert(this);
    ++core_.metrics.connections;
  }
  ~Connection() override {
    core_.body_bytes -= counted_bytes_;
    if (answering_) --core_.answering;
    core_.connections.erase(this);
    --core_.metrics.connections;
  }

  void CloseIfIdle() override {
    if (!idle_) return;
    error_code ignored;
    stream_.socket().shutdown(tcp::socket::shutdown_both, ignored);
    stream_.cancel();
  }

  asio::awaitable<void> Run() {
    bool more = true;
    while (more) {
      more = co_await ServeOne();
      SetAnswering(false);
      CountBody(0);
    }
    co_await Linger();
  }

 private:
  struct RequestState {
    HttpHead head;
    Admitted admission;
    Clock::time_point arrived;
    bool keep = false;      // the connection goes on afterwards
    bool http_1_0 = false;
  };

  void SetAnswering(bool answering) {
    if (answering_ != answering) core_.answering += answering ? 1 : -1;
    answering_ = answering;
  }
  void CountBody(int64_t bytes) {
    core_.body_bytes += bytes - counted_bytes_;
    counted_bytes_ = bytes;
  }

  /// False: the connection ends.
  asio::awaitable<bool> ServeOne() {
    if (core_.app.draining()) co_return false;
    if (buffer_.size() == 0) {
      if (buffer_.capacity() > 4 * kReadPiece) buffer_ = beast::flat_buffer();
      idle_ = true;
      stream_.expires_after(ToDuration(core_.options.idle_seconds));
      const auto [error, bytes] = co_await stream_.async_read_some(buffer_.prepare(kReadPiece), kToken);
      idle_ = false;
      if (error) co_return false;
      buffer_.commit(bytes);
    }
    RequestState state;
    state.arrived = Clock::now();
    Parser parser;
    parser.header_limit(core_.options.max_header_bytes);
    parser.body_limit(static_cast<uint64_t>(core_.options.max_body_bytes));
    stream_.expires_after(ToDuration(core_.options.header_seconds));
    const auto [error, bytes] = co_await http::async_read_header(stream_, buffer_, parser, kToken);
    if (error) {
      co_await RefuseHead(state, error);
      co_return false;
    }
    SetAnswering(true);
    const bool understood = ToHead(parser.get(), state.head);
    state.http_1_0 = parser.get().version() < 11;
    state.keep = parser.get().keep_alive();
    if (!understood) {
      const ApiError error_body{400, "The request's target is not a valid path.", "", "invalid_request"};
      co_return co_await RespondError(state, error_body, false);
    }
    state.admission = core_.app.Admit(state.head);
    if (reserve_ && state.admission.name != "/health") {
      const ApiError full{503, "Too many connections.", "", "overloaded", 1};
      co_return co_await RespondError(state, full, false);
    }
    if (state.admission.route == nullptr) {
      const bool keep = state.keep && parser.is_done();  // a body that nobody reads cannot be skipped
      co_return co_await Respond(state, state.admission.refusal, keep, {});
    }
    if (!parser.is_done()) {
      ApiError refused;
      const bool whole = co_await ReadBody(parser, state, refused);
      if (!whole && refused.status > 0) co_await RespondError(state, refused, false);
      if (!whole) co_return false;
    }
    co_return co_await AnswerRequest(state, parser.get().body());
  }

  asio::awaitable<void> RefuseHead(RequestState& state, error_code error) {
    ApiError refusal;
    if (error == http::error::header_limit) {
      refusal = {431, "The request's head is too long.", "", "headers_too_large"};
    } else if (error == http::error::body_limit) {
      refusal = TooLarge();
    } else if (IsHttpError(error)) {
      refusal = {400, "The request is not valid HTTP/1.1.", "", "invalid_request"};
    } else {
      co_return;  // gone, or too slow
    }
    co_await RespondError(state, refusal, false);
  }

  static bool IsHttpError(error_code error) {
    return error.category() == http::make_error_code(http::error::bad_target).category() &&
           error != http::error::end_of_stream && error != http::error::partial_message;
  }

  ApiError TooLarge() const {
    return {413, fmt::format("The request is larger than {} bytes.", core_.options.max_body_bytes), "",
            "request_too_large"};
  }

  /// False: `refusal` is the answer; with status 0 the client has gone.
  asio::awaitable<bool> ReadBody(Parser& parser, const RequestState& state, ApiError& refusal) {
    refusal.status = 0;
    if (beast::iequals(parser.get()[http::field::expect], "100-continue") && !state.http_1_0) {
      const bool sent = co_await Send("HTTP/1.1 100 Continue\r\n\r\n");
      if (!sent) co_return false;
    }
    const auto end = Clock::now() + ToDuration(core_.options.body_seconds);
    while (!parser.is_done()) {
      if (Clock::now() > end) {
        refusal = {408, "The request's body took too long.", "", "timeout"};
        co_return false;
      }
      stream_.expires_after(ToDuration(core_.options.body_stall_seconds));
      const auto [error, bytes] = co_await http::async_read_some(stream_, buffer_, parser, kToken);
      if (error) {
        if (error == http::error::body_limit) refusal = TooLarge();
        else if (IsHttpError(error)) refusal = {400, "The request's body is not valid HTTP/1.1.", "", "invalid_request"};
        co_return false;
      }
      CountBody(static_cast<int64_t>(parser.get().body().size()));
      if (core_.body_bytes > core_.options.max_bodies_bytes) {
        refusal = {503, "Too much is being sent to this server at once.", "", "overloaded", 2};
        co_return false;
      }
    }
    co_return true;
  }

  asio::awaitable<bool> AnswerRequest(RequestState& state, std::string& body) {
    const Route& route = *state.admission.route;
    Answer answer;
    if (route.slow || body.size() > kInlineBody) {
      auto work = std::make_shared<Offloaded>();
      work->head = state.head;
      work->body = std::move(body);
      work->caller = state.admission.caller;
      work->argument = state.admission.argument;
      core_.workers.Post([self = shared_from_this(), work, &route]() mutable {
        work->Do(self->core_.app, route);
        auto executor = self->stream_.get_executor();
        asio::post(executor, [self = std::move(self), work = std::move(work)] {
          work->done = true;
          self->wake_.cancel();
        });
      });
      while (!work->done) {
        wake_.expires_at(Clock::time_point::max());
        co_await wake_.async_wait(kToken);
      }
      answer = std::move(work->answer);
    } else {
      answer = core_.app.Handle(Call{&route, &state.head, body, state.admission.argument, state.admission.caller});
    }
    std::string().swap(body);
    CountBody(0);
    if (answer.generation == nullptr) co_return co_await Respond(state, answer.response, state.keep, {});
    co_return co_await Generate(state, answer.generation);
  }

  /// A handler's call on a worker thread, with everything it needs.
  struct Offloaded {
    HttpHead head;
    std::string body, argument;
    Caller caller;
    Answer answer;
    bool done = false;  // of the I/O thread
    void Do(App& app, const Route& route) {
      try {
        answer = app.Handle(Call{&route, &head, body, argument, caller});
      } catch (const std::exception&) {  // memory; its words could hold a client's
        answer = {ErrorResponse(route.dialect, ApiError{500, "The request could not be worked on.", "",
                                                        "internal_error"}), nullptr};
      }
    }
  };

  /// Takes `generation`.
  asio::awaitable<bool> Generate(RequestState& state, std::unique_ptr<GenerationOrder>& generation) {
    const bool stream = generation->stream;
    auto wake = [weak = weak_from_this(), executor = stream_.get_executor()] {
      asio::post(executor, [weak] {
        if (const auto self = weak.lock()) self->wake_.cancel();
      });
    };
    GenerationRun run(core_.app, std::move(generation), state.arrived, std::move(wake));
    const auto refused = run.Start();
    if (refused) co_return co_await RespondError(state, *refused, state.keep);
    gone_ = false;
    Watch();
    bool alive = true;
    auto last_sent = Clock::now();
    const std::string stream_head = StreamHead(state, run.generation().id);
    if (stream) alive = co_await Send(stream_head);
    const auto silence = ToDuration(core_.options.keep_alive_seconds);
    while (alive && !gone_) {
      std::string piece = run.Pump();
      const auto now = Clock::now();
      if (piece.empty() && stream && !run.done() && now - last_sent >= silence) piece = run.writer().KeepAlive();
      if (!piece.empty() && stream) {
        if (!state.http_1_0) piece = Chunked(piece);
        alive = co_await Send(piece);
        last_sent = Clock::now();
        if (!run.done()) continue;
      }
      if (run.done()) break;
      wake_.expires_at(stream ? last_sent + silence : Clock::time_point::max());
      co_await wake_.async_wait(kToken);
    }
    co_await StopWatching();
    if (!alive || gone_) {
      core_.metrics.disconnected.Add();
      Log(state, 499, run.Summary());
      co_return false;
    }
    if (stream) {
      if (!state.http_1_0) alive = co_await Send("0\r\n\r\n");
      Log(state, run.error() ? run.error()->status : 200, run.Summary());
      co_return alive && state.keep && !state.http_1_0;
    }
    const std::string summary = run.Summary();
    if (run.error()) co_return co_await RespondError(state, *run.error(), state.keep);
    HttpResponse response;
    response.headers.emplace_back("x-request-id", run.generation().id);
    response.body = run.writer().Whole();
    co_return co_await Respond(state, response, state.keep, summary);
  }

  static std::string Chunked(std::string_view piece) { return fmt::format("{:x}\r\n{}\r\n", piece.size(), piece); }

  std::string StreamHead(const RequestState& state, const std::string& id) const {
    HttpResponse response;
    response.content_type = "text/event-stream; charset=utf-8";
    response.headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}, {"x-request-id", id}};
    if (!state.http_1_0) response.headers.emplace_back("Transfer-Encoding", "chunked");
    return FormatHead(response, state.admission.headers, state.keep && !state.http_1_0, std::nullopt);
  }

  asio::awaitable<bool> RespondError(const RequestState& state, const ApiError& error, bool keep) {
    const Dialect dialect = state.admission.route != nullptr ? state.admission.route->dialect : Dialect::kOpenAi;
    const HttpResponse response = ErrorResponse(dialect, error);
    co_return co_await Respond(state, response, keep, {});
  }

  asio::awaitable<bool> Respond(const RequestState& state, const HttpResponse& response, bool keep,
                                std::string_view summary) {
    keep = keep && !core_.app.draining();
    std::optional<size_t> length;
    if (response.status != 204) length = response.body.size();
    std::string bytes = FormatHead(response, state.admission.headers, keep, length);
    if (state.head.method != "HEAD") bytes += response.body;
    const bool sent = co_await Send(bytes);
    Log(state, response.status, summary);
    co_return sent && keep;
  }

  /// False: the client has gone or takes nothing. The bytes must stay until then.
  asio::awaitable<bool> Send(std::string_view bytes) {
    while (!bytes.empty()) {
      stream_.expires_after(ToDuration(core_.options.send_stall_seconds));
      const auto [error, count] = co_await stream_.async_write_some(asio::buffer(bytes.data(), bytes.size()), kToken);
      if (error) co_return false;
      bytes.remove_prefix(count);
      core_.metrics.bytes_sent.Add(static_cast<int64_t>(count));
    }
    co_return true;
  }

  /// Reads ahead until the answer is there; the end of the stream means that nobody waits for it.
  void Watch() {
    if (buffer_.size() >= kMaxPipelined) return;
    watching_ = true;
    stream_.socket().async_read_some(
        buffer_.prepare(kReadPiece),
        asio::bind_cancellation_slot(stop_watching_.slot(), [self = shared_from_this()](error_code error, size_t bytes) {
          self->watching_ = false;
          if (!error) {
            self->buffer_.commit(bytes);
            if (!self->watch_stopped_) self->Watch();
          } else if (error != asio::error::operation_aborted) {
            self->gone_ = true;
          }
          if (!self->watching_) self->wake_.cancel();
          if (self->gone_) self->wake_.cancel();
        }));
  }

  asio::awaitable<void> StopWatching() {
    watch_stopped_ = true;
    stop_watching_.emit(asio::cancellation_type::all);
    while (watching_) {
      wake_.expires_at(Clock::time_point::max());
      co_await wake_.async_wait(kToken);
    }
    watch_stopped_ = false;
  }

  /// Ends so that what was sent last arrives: closing with unread bytes would make the system throw it away.
  asio::awaitable<void> Linger() {
    error_code ignored;
    stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    char rest[kReadPiece];
    for (size_t total = 0; total < (256 << 10);) {
      stream_.expires_after(std::chrono::seconds(1));
      const auto [error, bytes] = co_await stream_.async_read_some(asio::buffer(rest), kToken);
      if (error) break;
      total += bytes;
    }
    stream_.socket().close(ignored);
  }

  /// The route's own pattern and numbers; nothing that a client wrote.
  void Log(const RequestState& state, int status, std::string_view summary) {
    core_.metrics.CountRequest(state.admission.name, status);
    const double seconds = std::chrono::duration<double>(Clock::now() - state.arrived).count();
    const Caller& caller = state.admission.caller;
    spdlog::info("{} {} {} {:.3f}s{}{}", caller.key_name.empty() ? "-" : caller.key_name, state.admission.name, status,
                 seconds, summary.empty() ? "" : " ", summary);
  }

  HttpCore& core_;
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  asio::steady_timer wake_;
  asio::cancellation_signal stop_watching_;
  const bool reserve_;
  bool idle_ = false, gone_ = false, watching_ = false, watch_stopped_ = false, answering_ = false;
  int64_t counted_bytes_ = 0;
};

}  // namespace

void ServeConnection(tcp::socket socket, HttpCore& core, bool reserve) {
  auto connection = std::make_shared<Connection>(std::move(socket), core, reserve);
  asio::co_spawn(core.io, [connection]() -> asio::awaitable<void> { co_await connection->Run(); },
                 [connection](std::exception_ptr error) {
                   if (!error) return;
                   try {
                     std::rethrow_exception(error);
                   } catch (const std::exception&) {
                     spdlog::error("server: a connection ended with an internal error");
                   }
                 });
}

}  // namespace fathom
