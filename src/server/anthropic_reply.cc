#include "server/anthropic_reply.h"

#include "server/answer_text.h"
#include "server/sse.h"

namespace fathom {
namespace {

class MessagesWriter final : public ReplyWriter {
 public:
  MessagesWriter(const ApiRequest& request, ReplyContext context, int64_t prompt_tokens)
      : stream_(request.stream), stops_(request.stop), context_(std::move(context)), usage_(1) {
    start_.prompt = prompt_tokens;
  }

  std::string OnProgress(int32_t, const ServiceProgress& progress) override {
    if (!stream_) return {};
    start_.cached = progress.cached_tokens;
    return Begin() + SseComment("progress " + Dump({{"prompt_tokens", progress.prompt_tokens},
                                                    {"cached_tokens", progress.cached_tokens},
                                                    {"done_tokens", progress.done_tokens}}));
  }

  std::string OnToken(int32_t, const ServiceToken& token) override {
    if (!stream_) return {};
    std::string out = Begin();
    const Emission& emission = token.emission;
    if (!emission.reasoning.empty()) {
      trim_.SawReasoning();
      out += Open(Block::kThinking);
      out += Delta({{"type", "thinking_delta"}, {"thinking", emission.reasoning}});
    }
    if (const std::string_view content = trim_.Trim(emission.content); !content.empty()) {
      out += Open(Block::kText);
      out += Delta({{"type", "text_delta"}, {"text", content}});
    }
    return out;
  }

  std::string OnDone(int32_t choice, const ServiceResult& result) override {
    usage_.Add(choice, result);
    reason_ = StopReason(result.generation, stops_, context_.tokenizer, sequence_);
    timings_ = TimingsJson(result);
    if (stream_) return Begin();
    const GenerationResult& said = result.generation;
    if (!said.reasoning.empty()) {
      content_.push_back({{"type", "thinking"}, {"thinking", said.reasoning}, {"signature", ""}});
    }
    if (const std::string text = TrimmedAnswer(said.reasoning, said.content); !text.empty() || said.reasoning.empty()) {
      content_.push_back({{"type", "text"}, {"text", text}});
    }
    return {};
  }

  std::string OnEnd() override {
    if (!stream_) return {};
    std::string out = Close();
    out += Event("message_delta", {{"delta", {{"stop_reason", reason_}, {"stop_sequence", Sequence()}}},
                                   {"usage", Usage(usage_.total())},
                                   {"timings", timings_}});
    return out + Event("message_stop", ordered_json::object());
  }

  std::string OnError(const ApiError& error) override {
    return SseEvent("error", Dump(ErrorBody(Dialect::kAnthropic, error, context_.id)));
  }

  std::string KeepAlive() override {
    if (!stream_) return {};
    // Before message_start some clients take no event at all.
    return begun_ ? SseEvent("ping", R"({"type":"ping"})") : SseComment("keep-alive");
  }

  std::string Whole() override {
    ordered_json body = Message();
    body["content"] = content_;
    body["stop_reason"] = reason_;
    body["stop_sequence"] = Sequence();
    body["usage"] = Usage(usage_.total());
    body["timings"] = timings_;
    return Dump(body);
  }

 private:
  enum class Block { kNone, kThinking, kText };

  ordered_json Sequence() const { return sequence_.empty() ? ordered_json(nullptr) : ordered_json(sequence_); }
  /// Anthropic's input_tokens are those that neither came from the cache nor went into it by a mark of the client's.
  ordered_json Usage(const TokenUsage& usage) const {
    ordered_json json = {{"input_tokens", usage.miss()},
                         {"cache_creation_input_tokens", 0},
                         {"cache_read_input_tokens", usage.cached},
                         {"output_tokens", usage.completion}};
    if (context_.prices.any()) json["cost"] = Cost(usage, context_.prices);
    return json;
  }
  ordered_json Message() const {
    return {{"id", context_.id},         {"type", "message"},       {"role", "assistant"},
            {"model", context_.model},   {"content", ordered_json::array()},
            {"stop_reason", nullptr},    {"stop_sequence", nullptr}};
  }
  static std::string Event(std::string_view type, ordered_json fields) {
    ordered_json event = {{"type", type}};
    event.update(fields);
    return SseEvent(type, Dump(event));
  }
  std::string Begin() {
    if (begun_) return {};
    begun_ = true;
    ordered_json message = Message();
    message["usage"] = Usage(start_);
    return Event("message_start", {{"message", std::move(message)}}) + SseEvent("ping", R"({"type":"ping"})");
  }
  std::string Open(Block block) {
    if (open_ == block) return {};
    std::string out = open_ == Block::kNone ? std::string() : CloseBlock();
    open_ = block;
    const ordered_json empty = block == Block::kThinking
                                   ? ordered_json{{"type", "thinking"}, {"thinking", ""}, {"signature", ""}}
                                   : ordered_json{{"type", "text"}, {"text", ""}};
    return out + Event("content_block_start", {{"index", index_}, {"content_block", empty}});
  }
  std::string Delta(ordered_json delta) const {
    return Event("content_block_delta", {{"index", index_}, {"delta", std::move(delta)}});
  }
  std::string CloseBlock() {
    std::string out;
    if (open_ == Block::kThinking) out = Delta({{"type", "signature_delta"}, {"signature", ""}});
    open_ = Block::kNone;
    return out + Event("content_block_stop", {{"index", index_++}});
  }
  /// An answer has at least one block, be it empty.
  std::string Close() {
    std::string out;
    if (open_ == Block::kNone && index_ == 0) out = Open(Block::kText);
    return open_ == Block::kNone ? out : out + CloseBlock();
  }

  const bool stream_;
  const std::vector<std::string> stops_;
  const ReplyContext context_;
  TokenUsage start_;
  UsageSum usage_;
  AnswerTrim trim_;
  bool begun_ = false;
  Block open_ = Block::kNone;
  int index_ = 0;
  std::string reason_ = "end_turn", sequence_;
  ordered_json timings_, content_ = ordered_json::array();
};

}  // namespace

std::string_view StopReason(const GenerationResult& result, const std::vector<std::string>& stops,
                            const Tokenizer* tokenizer, std::string& sequence) {
  switch (result.finish_reason) {
    case FinishReason::kLength:
    case FinishReason::kContext: return "max_tokens";
    case FinishReason::kCancelled: return "pause_turn";
    case FinishReason::kStop: break;
  }
  const bool by_model = tokenizer == nullptr || stops.empty() || result.tokens.empty() ||
                        tokenizer->IsEndOfGeneration(result.tokens.back());
  if (by_model) return "end_turn";
  // Which one it was is not told: the first to stand in the raw text.
  const std::string text = tokenizer->Decode(result.tokens);
  size_t earliest = std::string::npos;
  for (const std::string& stop : stops) {
    if (const size_t at = text.find(stop); at < earliest) {
      earliest = at;
      sequence = stop;
    }
  }
  return earliest == std::string::npos ? "end_turn" : "stop_sequence";
}

std::unique_ptr<ReplyWriter> NewMessagesWriter(const ApiRequest& request, ReplyContext context, int64_t prompt_tokens) {
  return std::make_unique<MessagesWriter>(request, std::move(context), prompt_tokens);
}

}  // namespace fathom
