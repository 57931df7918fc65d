#include "server/generation_run.h"

namespace fathom {
namespace {

double Seconds(GenerationRun::Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

GenerationRun::GenerationRun(App& app, std::unique_ptr<GenerationOrder> generation, Clock::time_point arrived,
                             std::function<void()> wake)
    : app_(app), generation_(std::move(generation)), arrived_(arrived),
      mailbox_(std::make_shared<Mailbox>(std::move(wake))), choices_(generation_->requests.size()),
      remaining_(choices_.size()) {
  ++app_.metrics().streams;
}

GenerationRun::~GenerationRun() {
  CancelAll();
  --app_.metrics().streams;
}

void GenerationRun::CancelAll() {
  mailbox_->Close();
  for (Choice& choice : choices_) {
    if (choice.id && !choice.done) app_.service().Cancel(*choice.id);
    choice.done = true;
  }
}

std::expected<void, SubmitError> GenerationRun::Submit(int32_t index) {
  Choice& choice = choices_[static_cast<size_t>(index)];
  choice.submitted = true;
  ServiceCallbacks callbacks;
  if (generation_->stream) {
    callbacks.on_progress = [box = mailbox_, index](const ServiceProgress& progress) { box->Put({index, progress}); };
  }
  callbacks.on_token = [box = mailbox_, index](const ServiceToken& token) { box->Put({index, token}); };
  callbacks.on_done = [box = mailbox_, index](Result<ServiceResult> result) { box->Put({index, std::move(result)}); };
  ServiceRequest& request = generation_->requests[static_cast<size_t>(index)];
  auto id = app_.service().Submit(std::move(request), std::move(callbacks));
  if (!id) return std::unexpected(std::move(id).error());
  choice.id = *id;
  return {};
}

std::optional<ApiError> GenerationRun::Start() {
  if (!generation_->ready.empty()) return std::nullopt;
  for (size_t i = 0; i < choices_.size(); i += static_cast<size_t>(generation_->n)) {
    if (const auto submitted = Submit(static_cast<int32_t>(i)); !submitted) {
      CancelAll();
      return FromSubmitError(submitted.error(), generation_->prompt_field);
    }
  }
  return std::nullopt;
}

void GenerationRun::Fail(ApiError error, std::string& out) {
  CancelAll();
  out += generation_->stream ? writer().OnError(error) : std::string();
  error_ = std::move(error);
  done_ = true;
}

void GenerationRun::SubmitSiblings(int32_t choice, std::string& out) {
  const int32_t first = choice / generation_->n * generation_->n;
  for (int32_t i = first; i < first + generation_->n && !done_; ++i) {
    if (choices_[static_cast<size_t>(i)].submitted) continue;
    if (const auto submitted = Submit(i); !submitted) Fail(FromSubmitError(submitted.error(), generation_->prompt_field), out);
  }
}

void GenerationRun::OnToken(int32_t index, const ServiceToken& token, std::string& out) {
  Choice& choice = choices_[static_cast<size_t>(index)];
  const Clock::time_point now = Clock::now();
  if (token.emission.token >= 0) {
    if (choice.any_token) {
      app_.metrics().inter_token.Observe(Seconds(now - choice.last_token));
    } else if (first_token_seconds_ < 0) {
      first_token_seconds_ = Seconds(now - arrived_);
      app_.metrics().time_to_first_token.Observe(first_token_seconds_);
    }
    if (!choice.any_token) SubmitSiblings(index, out);
    choice.any_token = true;
    choice.last_token = now;
  }
  if (!done_) out += writer().OnToken(index, token);
}

void GenerationRun::OnDone(int32_t index, Result<ServiceResult> result, std::string& out) {
  Choice& choice = choices_[static_cast<size_t>(index)];
  choice.done = true;
  if (!result) {
    Fail(FromServiceError(result.error()), out);
    return;
  }
  if (generation_->ready.empty()) {
    app_.metrics().CountResult(*result);
    SubmitSiblings(index, out);
    if (done_) return;
  }
  const Timings& tokens = result->generation.timings;
  prompt_tokens_ += tokens.prompt_tokens + tokens.cached_tokens;
  cached_tokens_ += tokens.cached_tokens;
  output_tokens_ += tokens.generated_tokens;
  out += writer().OnDone(index, *result);
  if (--remaining_ > 0) return;
  out += writer().OnEnd();
  app_.metrics().end_to_end.Observe(Seconds(Clock::now() - arrived_));
  done_ = true;
}

std::string GenerationRun::Pump() {
  std::string out;
  if (!generation_->ready.empty()) {
    for (size_t i = 0; i < generation_->ready.size() && !done_; ++i) {
      OnDone(static_cast<int32_t>(i), std::move(generation_->ready[i]), out);
    }
    return out;
  }
  for (ServiceEvent& event : mailbox_->Take()) {
    if (done_) break;
    if (auto* progress = std::get_if<ServiceProgress>(&event.what)) {
      out += writer().OnProgress(event.choice, *progress);
    } else if (auto* token = std::get_if<ServiceToken>(&event.what)) {
      OnToken(event.choice, *token, out);
    } else {
      OnDone(event.choice, std::move(std::get<Result<ServiceResult>>(event.what)), out);
    }
  }
  return out;
}

std::string GenerationRun::Summary() const {
  std::string text = fmt::format("prompt={} cached={} output={}", prompt_tokens_, cached_tokens_, output_tokens_);
  if (first_token_seconds_ >= 0) text += fmt::format(" ttft={:.3f}s", first_token_seconds_);
  return text;
}

}  // namespace fathom
