// How one request is answered in its dialect: it is told what happens and gives what goes to the client. Knows nothing of
// sockets. One per request, used by one thread at a time.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "engine/service.h"
#include "server/api_error.h"
#include "server/usage.h"

namespace fathom {

/// What every writer knows of its request.
struct ReplyContext {
  std::string id;            // "chatcmpl-…", "msg_…"
  std::string model;         // as served
  int64_t created = 0;       // seconds since 1970
  const Tokenizer* tokenizer = nullptr;  // may be nullptr; outlives the writer
  Prices prices;
  int32_t prompts = 1;       // choices are prompts × n
  int32_t n = 1;
};

class ReplyWriter {
 public:
  virtual ~ReplyWriter() = default;

  // What these give is the next piece of the stream, empty when there is nothing to say; without streaming it is always
  // empty and Whole() has everything. OnDone() comes once for each choice, OnEnd() after all of them.
  virtual std::string OnStart() { return {}; }
  virtual std::string OnProgress(int32_t choice, const ServiceProgress& progress) = 0;
  virtual std::string OnToken(int32_t choice, const ServiceToken& token) = 0;
  virtual std::string OnDone(int32_t choice, const ServiceResult& result) = 0;
  virtual std::string OnEnd() = 0;
  /// An error after the stream has begun; nothing follows.
  virtual std::string OnError(const ApiError& error) = 0;
  /// Something to send while nothing happens.
  virtual std::string KeepAlive() = 0;
  /// The answer's body, after OnEnd().
  virtual std::string Whole() = 0;
};

/// Sums usage over choices: the prompt counts for the first of its answers only, what was reused with it.
class UsageSum {
 public:
  explicit UsageSum(int32_t n) : n_(n) {}
  void Add(int32_t choice, const ServiceResult& result);
  const TokenUsage& total() const { return total_; }

 private:
  int32_t n_;
  TokenUsage total_;
};

}  // namespace fathom
