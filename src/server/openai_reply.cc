#include "server/openai_reply.h"

#include <chrono>

#include "server/answer_text.h"
#include "server/logprobs.h"
#include "server/sse.h"

namespace fathom {
namespace {

using Clock = std::chrono::steady_clock;

/// What chat and text completions share: envelopes, progress, usage, the end of the stream.
class OpenAiWriter : public ReplyWriter {
 public:
  OpenAiWriter(const ApiRequest& request, ReplyContext context, std::string_view object)
      : stream_(request.stream), include_usage_(request.include_usage), return_progress_(request.return_progress),
        logprobs_(request.logprobs >= 0), context_(std::move(context)), object_(object), usage_(context_.n) {}

  std::string OnProgress(int32_t choice, const ServiceProgress& progress) override {
    if (!stream_ || choice != 0) return {};
    if (!return_progress_) {
      return SseComment("progress " + Dump({{"prompt_tokens", progress.prompt_tokens},
                                            {"cached_tokens", progress.cached_tokens},
                                            {"done_tokens", progress.done_tokens}}));
    }
    ordered_json chunk = Envelope(stream_object());
    chunk["choices"] = ordered_json::array({EmptyChoice(choice)});
    const auto elapsed = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - started_);
    chunk["prompt_progress"] = {{"total", progress.prompt_tokens},
                                {"cache", progress.cached_tokens},
                                {"processed", progress.done_tokens},
                                {"time_ms", elapsed.count()}};
    return SseData(Dump(chunk));
  }

  std::string OnEnd() override {
    if (!stream_) return {};
    std::string out;
    if (include_usage_) {
      ordered_json chunk = Envelope(stream_object());
      chunk["choices"] = ordered_json::array();
      chunk["usage"] = UsageJson(usage_.total(), context_.prices);
      out = SseData(Dump(chunk));
    }
    return out + SseData("[DONE]");
  }

  std::string OnError(const ApiError& error) override { return SseData(Dump(ErrorBody(Dialect::kOpenAi, error, ""))); }
  std::string KeepAlive() override { return stream_ ? SseComment("keep-alive") : std::string(); }

  std::string Whole() override {
    ordered_json body = Envelope(whole_object());
    body["choices"] = ordered_json::array();
    for (ordered_json& choice : whole_) body["choices"].push_back(std::move(choice));
    body["usage"] = UsageJson(usage_.total(), context_.prices);
    if (!timings_.is_null()) body["timings"] = timings_;
    return Dump(body);
  }

 protected:
  virtual std::string_view stream_object() const { return object_; }
  std::string_view whole_object() const { return object_; }
  virtual ordered_json EmptyChoice(int32_t choice) const = 0;

  ordered_json Envelope(std::string_view object) const {
    return {{"id", context_.id},
            {"object", object},
            {"created", context_.created},
            {"model", context_.model},
            {"system_fingerprint", "fathom-" FATHOM_VERSION}};
  }
  std::string Chunk(ordered_json choice) const {
    ordered_json chunk = Envelope(stream_object());
    chunk["choices"] = ordered_json::array({std::move(choice)});
    // OpenAI: with include_usage every chunk has the field, null but in the last one.
    if (include_usage_) chunk["usage"] = nullptr;
    return SseData(Dump(chunk));
  }
  std::string FinishChunk(ordered_json choice, const ServiceResult& result) const {
    ordered_json chunk = Envelope(stream_object());
    chunk["choices"] = ordered_json::array({std::move(choice)});
    if (include_usage_) chunk["usage"] = nullptr;
    // The last chunk before [DONE] says what it took, where no chunk with usage does.
    if (!include_usage_ && static_cast<int32_t>(done_) == context_.prompts * context_.n) {
      chunk["usage"] = UsageJson(usage_.total(), context_.prices);
    }
    chunk["timings"] = TimingsJson(result);
    return SseData(Dump(chunk));
  }
  void Account(int32_t choice, const ServiceResult& result) {
    usage_.Add(choice, result);
    ++done_;
    if (choice == 0) timings_ = TimingsJson(result);
  }
  void KeepWhole(int32_t choice, ordered_json json) {
    if (whole_.size() <= static_cast<size_t>(choice)) whole_.resize(static_cast<size_t>(choice) + 1);
    whole_[static_cast<size_t>(choice)] = std::move(json);
  }

  const bool stream_, include_usage_, return_progress_, logprobs_;
  const ReplyContext context_;
  const std::string object_;
  const Clock::time_point started_ = Clock::now();
  UsageSum usage_;
  int64_t done_ = 0;
  std::vector<ordered_json> whole_;
  ordered_json timings_;
};

class ChatWriter final : public OpenAiWriter {
 public:
  ChatWriter(const ApiRequest& request, ReplyContext context)
      : OpenAiWriter(request, std::move(context), "chat.completion"),
        choices_(static_cast<size_t>(context_.prompts * context_.n)) {}

  std::string OnToken(int32_t choice, const ServiceToken& token) override {
    Choice& state = choices_[static_cast<size_t>(choice)];
    const Emission& emission = token.emission;
    if (!emission.reasoning.empty()) state.in_reasoning = true;
    if (!emission.content.empty()) state.in_reasoning = false;
    if (logprobs_ && emission.token >= 0) {
      (state.in_reasoning ? state.reasoning_logprobs : state.logprobs)
          .push_back(ChatLogprob(context_.tokenizer, token));
    }
    if (!stream_) return {};
    std::string out = Begin(choice);
    if (!emission.reasoning.empty()) {
      state.trim.SawReasoning();
      out += Chunk(Delta(choice, {{"reasoning_content", emission.reasoning}}));
    }
    if (const std::string_view content = state.trim.Trim(emission.content); !content.empty()) {
      out += Chunk(Delta(choice, {{"content", content}}));
    }
    return out;
  }

  std::string OnDone(int32_t choice, const ServiceResult& result) override {
    Account(choice, result);
    const std::string_view reason = OpenAiFinishReason(result.generation.finish_reason);
    if (stream_) {
      ordered_json last = Delta(choice, ordered_json::object());
      last["finish_reason"] = reason;
      return Begin(choice) + FinishChunk(std::move(last), result);
    }
    const GenerationResult& said = result.generation;
    ordered_json message = {{"role", "assistant"}, {"content", TrimmedAnswer(said.reasoning, said.content)}};
    if (!said.reasoning.empty()) message["reasoning_content"] = said.reasoning;
    KeepWhole(choice, {{"index", choice},
                       {"message", std::move(message)},
                       {"logprobs", logprobs_ ? TakeLogprobs(choices_[static_cast<size_t>(choice)]) : ordered_json()},
                       {"finish_reason", reason}});
    return {};
  }

 private:
  struct Choice {
    bool begun = false, in_reasoning = false;
    AnswerTrim trim;
    ordered_json logprobs = ordered_json::array(), reasoning_logprobs = ordered_json::array();
  };

  std::string_view stream_object() const override { return "chat.completion.chunk"; }
  ordered_json EmptyChoice(int32_t choice) const override {
    return {{"index", choice}, {"delta", ordered_json::object()}, {"logprobs", nullptr}, {"finish_reason", nullptr}};
  }
  std::string Begin(int32_t choice) {
    Choice& state = choices_[static_cast<size_t>(choice)];
    if (state.begun) return {};
    state.begun = true;
    ordered_json first = EmptyChoice(choice);
    first["delta"] = {{"role", "assistant"}, {"content", ""}};
    return Chunk(std::move(first));
  }
  /// With the log-probabilities of all tokens since the last piece of text: a token may bring none by itself.
  ordered_json Delta(int32_t choice, ordered_json delta) {
    ordered_json json = EmptyChoice(choice);
    json["delta"] = std::move(delta);
    Choice& state = choices_[static_cast<size_t>(choice)];
    if (logprobs_ && !(state.logprobs.empty() && state.reasoning_logprobs.empty())) {
      json["logprobs"] = TakeLogprobs(state);
    }
    return json;
  }
  static ordered_json TakeLogprobs(Choice& state) {
    ordered_json json = {{"content", std::move(state.logprobs)}};
    if (!state.reasoning_logprobs.empty()) json["reasoning_content"] = std::move(state.reasoning_logprobs);
    state.logprobs = state.reasoning_logprobs = ordered_json::array();
    return json;
  }

  std::vector<Choice> choices_;
};

class CompletionWriter final : public OpenAiWriter {
 public:
  CompletionWriter(const ApiRequest& request, ReplyContext context, std::vector<std::string> echoes)
      : OpenAiWriter(request, std::move(context), "text_completion"), echoes_(std::move(echoes)),
        choices_(static_cast<size_t>(context_.prompts * context_.n)) {}

  std::string OnToken(int32_t choice, const ServiceToken& token) override {
    Choice& state = choices_[static_cast<size_t>(choice)];
    if (logprobs_ && token.emission.token >= 0) state.logprobs.Add(context_.tokenizer, token);
    if (!stream_) return {};
    const std::string text = token.emission.reasoning + token.emission.content;
    std::string out = Begin(choice);
    if (!text.empty()) out += Chunk(Piece(choice, text));
    return out;
  }

  std::string OnDone(int32_t choice, const ServiceResult& result) override {
    Account(choice, result);
    const std::string_view reason = OpenAiFinishReason(result.generation.finish_reason);
    if (stream_) {
      ordered_json last = Piece(choice, "");
      last["finish_reason"] = reason;
      return Begin(choice) + FinishChunk(std::move(last), result);
    }
    ordered_json json = Piece(choice, Echo(choice) + result.generation.reasoning + result.generation.content);
    json["finish_reason"] = reason;
    KeepWhole(choice, std::move(json));
    return {};
  }

 private:
  struct Choice {
    bool begun = false;
    CompletionLogprobs logprobs;
  };

  ordered_json EmptyChoice(int32_t choice) const override {
    return {{"text", ""}, {"index", choice}, {"logprobs", nullptr}, {"finish_reason", nullptr}};
  }
  std::string Echo(int32_t choice) const {
    const auto prompt = static_cast<size_t>(choice / context_.n);
    return prompt < echoes_.size() ? echoes_[prompt] : std::string();
  }
  std::string Begin(int32_t choice) {
    Choice& state = choices_[static_cast<size_t>(choice)];
    if (state.begun) return {};
    state.begun = true;
    const std::string echo = Echo(choice);
    if (echo.empty()) return {};
    ordered_json json = EmptyChoice(choice);
    json["text"] = echo;
    return Chunk(std::move(json));
  }
  ordered_json Piece(int32_t choice, std::string_view text) {
    ordered_json json = EmptyChoice(choice);
    json["text"] = text;
    Choice& state = choices_[static_cast<size_t>(choice)];
    if (logprobs_ && !(stream_ && state.logprobs.empty())) json["logprobs"] = state.logprobs.Take();
    return json;
  }

  std::vector<std::string> echoes_;  // of each prompt; empty: none
  std::vector<Choice> choices_;
};

}  // namespace

std::string_view OpenAiFinishReason(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop: return "stop";
    case FinishReason::kLength:
    case FinishReason::kContext: return "length";
    case FinishReason::kCancelled: return "insufficient_system_resource";
  }
  return "stop";
}

std::unique_ptr<ReplyWriter> NewChatWriter(const ApiRequest& request, ReplyContext context) {
  return std::make_unique<ChatWriter>(request, std::move(context));
}

std::unique_ptr<ReplyWriter> NewCompletionWriter(const ApiRequest& request, ReplyContext context,
                                                 std::span<const ServiceRequest> requests) {
  std::vector<std::string> echoes;
  for (size_t i = 0; request.echo && i < request.prompts.size(); ++i) {
    const PromptInput& input = request.prompts[i];
    if (!input.is_ids) {
      echoes.push_back(input.text);
    } else {
      const auto& ids = requests[i * static_cast<size_t>(request.n)].prompt;
      echoes.push_back(context.tokenizer == nullptr ? std::string() : context.tokenizer->Decode(ids));
    }
  }
  return std::make_unique<CompletionWriter>(request, std::move(context), std::move(echoes));
}

}  // namespace fathom
