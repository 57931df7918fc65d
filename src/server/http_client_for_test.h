// A client as bare as it gets, so that tests can send what no proper client would: bytes in, bytes out, with a limit on
// how long. One thread at a time.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

namespace fathom {

struct HttpReply {
  int status = 0;  // 0: no whole answer came
  std::string head, body;  // chunks put together
  std::string Header(std::string_view name) const {
    const std::string lower = Lower(head), wanted = "\r\n" + Lower(name) + ": ";
    const size_t at = lower.find(wanted);
    if (at == std::string::npos) return {};
    const size_t begin = at + wanted.size();
    return head.substr(begin, head.find("\r\n", begin) - begin);
  }
  nlohmann::json Json() const { return nlohmann::json::parse(body, nullptr, false); }

  static std::string Lower(std::string_view text) {
    std::string out(text);
    for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    return out;
  }
};

class ClientForTest {
 public:
  explicit ClientForTest(uint16_t port) {
    socket_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) Close();
  }
  ~ClientForTest() { Close(); }
  ClientForTest(ClientForTest&& other) noexcept : socket_(std::exchange(other.socket_, -1)) {}

  bool connected() const { return socket_ >= 0; }
  int fd() const { return socket_; }
  void Close() {
    if (socket_ >= 0) close(socket_);
    socket_ = -1;
  }
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  /// More bytes into `buffer`; false at the end of the stream or when nothing came for `seconds`.
  bool Read(double seconds = 10) {
    pollfd waiting{socket_, POLLIN, 0};
    if (poll(&waiting, 1, static_cast<int>(seconds * 1000)) <= 0) return false;
    char piece[16384];
    const ssize_t got = recv(socket_, piece, sizeof piece, 0);
    if (got <= 0) {
      ended = true;
      return false;
    }
    buffer.append(piece, static_cast<size_t>(got));
    return true;
  }
  bool ReadUntil(std::string_view text, double seconds = 10) {
    while (buffer.find(text) == std::string::npos) {
      if (!Read(seconds)) return false;
    }
    return true;
  }
  /// The next whole answer. head_only: of a HEAD request.
  HttpReply Receive(bool head_only = false) {
    HttpReply reply;
    if (!ReadUntil("\r\n\r\n")) return reply;
    const size_t end = buffer.find("\r\n\r\n");
    reply.head = buffer.substr(0, end + 2);
    buffer.erase(0, end + 4);
    const int status = std::stoi(reply.head.substr(9, 3));
    if (status == 100) return Receive(head_only);
    if (head_only || status == 204) {
      reply.status = status;
      return reply;
    }
    if (const std::string length = reply.Header("content-length"); !length.empty()) {
      const size_t bytes = std::stoul(length);
      while (buffer.size() < bytes) {
        if (!Read()) return reply;
      }
      reply.body = buffer.substr(0, bytes);
      buffer.erase(0, bytes);
    } else if (reply.Header("transfer-encoding") == "chunked") {
      for (;;) {
        if (!ReadUntil("\r\n")) return reply;
        const size_t line = buffer.find("\r\n");
        const size_t bytes = std::stoul(buffer.substr(0, line), nullptr, 16);
        while (buffer.size() < line + 2 + bytes + 2) {
          if (!Read()) return reply;
        }
        reply.body += buffer.substr(line + 2, bytes);
        buffer.erase(0, line + 2 + bytes + 2);
        if (bytes == 0) break;
      }
    } else {
      while (Read()) {
      }
      reply.body = std::exchange(buffer, {});
    }
    reply.status = status;
    return reply;
  }
  HttpReply Get(const std::string& path, const std::string& more = "") {
    Send("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n" + more + "\r\n");
    return Receive();
  }
  void SendPost(const std::string& path, const std::string& body, const std::string& more = "") {
    Send("POST " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n" + more + "\r\n" + body);
  }
  HttpReply Post(const std::string& path, const std::string& body, const std::string& more = "") {
    SendPost(path, body, more);
    return Receive();
  }

  std::string buffer;  // received and not taken yet
  bool ended = false;

 private:
  int socket_ = -1;
};

}  // namespace fathom
