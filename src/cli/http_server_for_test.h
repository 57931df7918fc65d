// A small HTTP/1.1 server on the loopback for tests of downloads: serves what a handler says, in ways a real server
// only does on a bad day (cut connections, wrong lengths, no ranges, changed ETags).
//
// One thread; one request a connection.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

namespace fathom {

struct HttpRequest {
  std::string path;
  std::map<std::string, std::string> headers;  // lowercase names
  /// First byte of "Range: bytes=N-"; 0 without one.
  size_t range_begin() const {
    const auto it = headers.find("range");
    return it == headers.end() ? 0 : std::stoul(it->second.substr(6));
  }
  bool has(const std::string& name) const { return headers.count(name) > 0; }
};

struct CannedResponse {
  int status = 200;
  std::vector<std::string> headers;
  std::string body;
  long long declared_length = -1;  // Content-Length; -1: the body's
  size_t cut_after = std::string::npos;  // bytes of the body that are sent before the connection breaks
};

class HttpServerForTest {
 public:
  using Handler = std::function<CannedResponse(const HttpRequest&, int number)>;  // number counts requests from 0

  explicit HttpServerForTest(Handler handler) : handler_(std::move(handler)) {
    listener_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address);
    listen(listener_, 16);
    socklen_t length = sizeof address;
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Loop(); });
  }
  ~HttpServerForTest() {
    stop_ = true;
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }

  std::string url(const std::string& path = "") const { return fmt::format("http://127.0.0.1:{}{}", port_, path); }
  std::vector<HttpRequest> requests() const {
    std::lock_guard lock(mutex_);
    return requests_;
  }

  /// A well-behaved answer for `content`, ranges and If-Range included.
  static CannedResponse Serve(const HttpRequest& request, const std::string& content, const std::string& etag) {
    CannedResponse response;
    if (!etag.empty()) response.headers.push_back("ETag: " + etag);
    const auto condition = request.headers.find("if-range");
    const bool same = condition == request.headers.end() || condition->second == etag;
    if (request.has("range") && same) {
      const size_t begin = request.range_begin();
      if (begin >= content.size()) {
        response.status = 416;
        response.headers.push_back(fmt::format("Content-Range: bytes */{}", content.size()));
        return response;
      }
      response.status = 206;
      response.headers.push_back(
          fmt::format("Content-Range: bytes {}-{}/{}", begin, content.size() - 1, content.size()));
      response.body = content.substr(begin);
    } else {
      response.body = content;
    }
    return response;
  }

 private:
  void Loop() {
    for (int number = 0; !stop_; ++number) {
      const int client = accept(listener_, nullptr, nullptr);
      if (client < 0) return;
      std::string text;
      char buffer[4096];
      while (text.find("\r\n\r\n") == std::string::npos) {
        const ssize_t got = recv(client, buffer, sizeof buffer, 0);
        if (got <= 0) break;
        text.append(buffer, static_cast<size_t>(got));
      }
      const HttpRequest request = Parse(text);
      {
        std::lock_guard lock(mutex_);
        requests_.push_back(request);
      }
      Answer(client, handler_(request, number));
      close(client);
    }
  }

  static HttpRequest Parse(const std::string& text) {
    HttpRequest request;
    const size_t first = text.find(' '), second = text.find(' ', first + 1);
    if (second != std::string::npos) request.path = text.substr(first + 1, second - first - 1);
    for (size_t at = text.find("\r\n"); at != std::string::npos;) {
      const size_t end = text.find("\r\n", at + 2);
      if (end == std::string::npos || end == at + 2) break;
      const std::string line = text.substr(at + 2, end - at - 2);
      const size_t colon = line.find(':');
      if (colon != std::string::npos) {
        std::string name = line.substr(0, colon);
        for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        request.headers[name] = line.substr(line.find_first_not_of(' ', colon + 1));
      }
      at = end;
    }
    return request;
  }

  static void Answer(int client, const CannedResponse& response) {
    std::string head = fmt::format("HTTP/1.1 {} X\r\nConnection: close\r\n", response.status);
    for (const std::string& header : response.headers) head += header + "\r\n";
    head += fmt::format("Content-Length: {}\r\n\r\n", response.declared_length >= 0
                                                          ? response.declared_length
                                                          : static_cast<long long>(response.body.size()));
    const std::string all = head + response.body.substr(0, response.cut_after);
    for (size_t sent = 0; sent < all.size();) {
      const ssize_t put = send(client, all.data() + sent, all.size() - sent, MSG_NOSIGNAL);
      if (put <= 0) return;
      sent += static_cast<size_t>(put);
    }
  }

  Handler handler_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> stop_{false};
  mutable std::mutex mutex_;
  std::vector<HttpRequest> requests_;
  std::thread thread_;
};

}  // namespace fathom
