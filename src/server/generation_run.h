// One request on the service, from its first Submit() to its last token: hands events to the dialect's writer, measures,
// and takes everything back when its client leaves. Knows nothing of sockets.
//
// n > 1: the answers of a prompt beyond the first are submitted when the first has its first token, so that they find
// the prompt in the cache instead of computing it side by side.
//
// Used by one thread at a time; `wake` may be called on any.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "server/app.h"
#include "server/mailbox.h"

namespace fathom {

class GenerationRun {
 public:
  using Clock = std::chrono::steady_clock;

  /// arrived: when the request's head was there.
  GenerationRun(App& app, std::unique_ptr<GenerationOrder> generation, Clock::time_point arrived, std::function<void()> wake);
  ~GenerationRun();  // cancels what is not done
  GenerationRun(const GenerationRun&) = delete;
  GenerationRun& operator=(const GenerationRun&) = delete;

  /// Submits. An error is the whole answer; nothing is running then.
  std::optional<ApiError> Start();
  /// Works off what has happened; gives what goes into the stream. Afterwards done() may be true.
  std::string Pump();
  bool done() const { return done_; }
  /// Set when it ended with an error: of a stream, the writer has said it already.
  const std::optional<ApiError>& error() const { return error_; }

  GenerationOrder& generation() { return *generation_; }
  ReplyWriter& writer() { return *generation_->writer; }
  /// For the access log: counts and times, no words.
  std::string Summary() const;

 private:
  struct Choice {
    std::optional<RequestId> id;
    bool submitted = false, done = false, any_token = false;
    Clock::time_point last_token;
  };

  std::expected<void, SubmitError> Submit(int32_t choice);
  /// The other answers of this choice's prompt.
  void SubmitSiblings(int32_t choice, std::string& out);
  void Fail(ApiError error, std::string& out);
  void OnToken(int32_t choice, const ServiceToken& token, std::string& out);
  void OnDone(int32_t choice, Result<ServiceResult> result, std::string& out);
  void CancelAll();

  App& app_;
  const std::unique_ptr<GenerationOrder> generation_;
  const Clock::time_point arrived_;
  const std::shared_ptr<Mailbox> mailbox_;
  std::vector<Choice> choices_;
  size_t remaining_ = 0;
  bool done_ = false;
  std::optional<ApiError> error_;
  int64_t prompt_tokens_ = 0, cached_tokens_ = 0, output_tokens_ = 0;
  double first_token_seconds_ = -1;
};

}  // namespace fathom
