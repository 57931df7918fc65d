// Anthropic's dialect without sockets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/anthropic_reply.h"
#include "server/anthropic_request.h"
#include "server/fake_service_for_test.h"
#include "server/json_reader.h"
#include "server/sse.h"

namespace fathom {
namespace {

using nlohmann::json;

ApiResult<ApiRequest> Messages(const std::string& text) {
  const auto body = ParseBody(text, 64);
  if (!body) return std::unexpected(body.error());
  return ParseMessagesRequest(*body);
}
std::string With(const std::string& fields) {
  return R"({"model":"m","max_tokens":50,"messages":[{"role":"user","content":"Hi"}])" +
         (fields.empty() ? std::string() : "," + fields) + "}";
}

TEST(MessagesRequest, SystemBlocksAndPrefill) {
  const auto request = Messages(R"({"model":"m","max_tokens":50,"system":[{"type":"text","text":"Be","cache_control":
      {"type":"ephemeral"}},{"type":"text","text":" brief"}],"messages":[
      {"role":"user","content":[{"type":"text","text":"a"}]},
      {"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"s"},{"type":"text","text":"b"}]}],
      "stop_sequences":["END"],"metadata":{"user_id":"x"},"temperature":0.3,"top_k":5,"betas":["x"]})");
  ASSERT_TRUE(request.has_value()) << request.error().message;
  EXPECT_EQ(request->messages[0].role, Role::kSystem);
  EXPECT_EQ(request->messages[0].content, "Be brief");
  EXPECT_EQ(request->messages[2].reasoning_content, "t");
  EXPECT_TRUE(request->continue_last);
  EXPECT_EQ(request->sampling.top_k, 5);
  EXPECT_THAT(request->stop, testing::ElementsAre("END"));
  EXPECT_EQ(request->thinking, ThinkingMode::kAvoid);
  EXPECT_EQ(Messages(With(R"("thinking":{"type":"enabled","budget_tokens":20})"))->max_thinking_tokens, 20);
  EXPECT_EQ(Messages(With(R"("thinking":{"type":"disabled"})"))->thinking, ThinkingMode::kOff);
}

TEST(MessagesRequest, ErrorsNameTheField) {
  const std::pair<std::string, const char*> kCases[] = {
      {R"({"messages":[{"role":"user","content":"Hi"}]})", "max_tokens"},
      {R"({"max_tokens":5})", "messages"},
      {R"({"max_tokens":5,"messages":[]})", "messages"},
      {R"({"max_tokens":5,"messages":[{"role":"user"}]})", "messages.0.content"},
      {R"({"max_tokens":5,"messages":[{"role":"tool","content":"x"}]})", "messages.0.role"},
      {R"({"max_tokens":5,"messages":[{"role":"user","content":[{"type":"image"}]}]})", "messages.0.content.0"},
      {R"({"max_tokens":5,"messages":[{"role":"user","content":[{"type":"tool_result"}]}]})", "messages.0.content.0"},
      {R"({"max_tokens":5,"messages":[{"role":"user","content":[{"type":"thinking","thinking":"x"}]}]})",
       "messages.0.content.0"},
      {With(R"("tools":[{"name":"x"}])"), "tools"},
      {With(R"("max_tokens":0)"), "max_tokens"},
      {With(R"("temperature":"x")"), "temperature"},
      {With(R"("thinking":{"type":"enabled","budget_tokens":50})"), "thinking.budget_tokens"},
      {With(R"("system":5)"), "system"},
  };
  for (const auto& [text, param] : kCases) {
    const auto refused = Messages(text);
    ASSERT_FALSE(refused.has_value()) << text;
    EXPECT_EQ(refused.error().param, param) << refused.error().message;
  }
  EXPECT_TRUE(ParseCountRequest(json::parse(R"({"messages":[{"role":"user","content":"Hi"}]})")).has_value());
}

TEST(MessagesRequest, ErrorsHaveTheApisShape) {
  const json body = ErrorBody(Dialect::kAnthropic, ApiError{429, "slow down", "", ""}, "req_1");
  EXPECT_EQ(body, json::parse(R"({"type":"error","error":{"type":"rate_limit_error","message":"slow down"},
                                  "request_id":"req_1"})"));
  EXPECT_EQ(ErrorType(Dialect::kAnthropic, 413), "request_too_large");
  EXPECT_EQ(ErrorType(Dialect::kAnthropic, 503), "overloaded_error");
  EXPECT_EQ(ErrorType(Dialect::kAnthropic, 500), "api_error");
}

ReplyContext Context() {
  static const ByteTokenizerForTest kTokenizer;
  return {.id = "msg_1", .model = "tiny", .created = 1, .tokenizer = &kTokenizer, .prices = {}, .prompts = 1, .n = 1};
}
ServiceToken Token(const std::string& reasoning, const std::string& content) {
  ServiceToken token;
  token.emission = {.token = 'x', .reasoning = reasoning, .content = content};
  return token;
}
ServiceResult Done(const std::string& reasoning, const std::string& content) {
  ServiceResult result;
  result.generation.reasoning = reasoning;
  result.generation.content = content;
  for (const char c : reasoning + content) result.generation.tokens.push_back(static_cast<unsigned char>(c));
  result.generation.tokens.push_back(ByteTokenizerForTest::kEnd);
  result.generation.timings.prompt_tokens = 6;
  result.generation.timings.cached_tokens = 4;
  result.generation.timings.generated_tokens = 3;
  return result;
}
std::vector<std::pair<std::string, json>> Events(const std::string& stream) {
  std::vector<std::pair<std::string, json>> events;
  for (size_t at = 0; at < stream.size();) {
    const size_t end = stream.find("\n\n", at), line = stream.find('\n', at);
    if (stream.substr(at, 7) == "event: ") {
      events.emplace_back(stream.substr(at + 7, line - at - 7), json::parse(stream.substr(line + 7, end - line - 7)));
    }
    at = end + 2;
  }
  return events;
}

TEST(MessagesReply, EventsInOrder) {
  const auto writer = NewMessagesWriter(*Messages(With(R"("stream":true)")), Context(), 10);
  EXPECT_EQ(writer->KeepAlive(), ": keep-alive\n\n");
  std::string stream = writer->OnProgress(0, {.prompt_tokens = 10, .cached_tokens = 4, .done_tokens = 8});
  stream += writer->OnToken(0, Token("a", ""));
  stream += writer->KeepAlive();
  stream += writer->OnToken(0, Token("b", "\n\nc"));
  stream += writer->OnToken(0, Token("", "d"));
  stream += writer->OnDone(0, Done("ab", "\n\ncd"));
  stream += writer->OnEnd();
  std::vector<std::string> names;
  const auto events = Events(stream);
  for (const auto& [name, data] : events) {
    names.push_back(name);
    EXPECT_EQ(data["type"], name);
  }
  EXPECT_THAT(names, testing::ElementsAre("message_start", "ping", "content_block_start", "content_block_delta", "ping",
                                          "content_block_delta", "content_block_delta", "content_block_stop",
                                          "content_block_start", "content_block_delta", "content_block_delta",
                                          "content_block_stop", "message_delta", "message_stop"));
  EXPECT_EQ(events[0].second["message"]["usage"]["input_tokens"], 6);
  EXPECT_EQ(events[0].second["message"]["usage"]["cache_read_input_tokens"], 4);
  EXPECT_EQ(events[2].second["content_block"]["type"], "thinking");
  EXPECT_EQ(events[3].second["delta"], (json{{"type", "thinking_delta"}, {"thinking", "a"}}));
  EXPECT_EQ(events[6].second["delta"]["type"], "signature_delta");
  EXPECT_EQ(events[8].second["index"], 1);
  EXPECT_EQ(events[9].second["delta"], (json{{"type", "text_delta"}, {"text", "c"}}));
  EXPECT_EQ(events[12].second["delta"]["stop_reason"], "end_turn");
  EXPECT_EQ(events[12].second["usage"]["output_tokens"], 3);
}

TEST(MessagesReply, AnEmptyAnswerHasABlock) {
  const auto writer = NewMessagesWriter(*Messages(With(R"("stream":true)")), Context(), 10);
  std::string stream = writer->OnDone(0, Done("", ""));
  stream += writer->OnEnd();
  const auto events = Events(stream);
  ASSERT_EQ(events.size(), 6u);
  EXPECT_EQ(events[2].first, "content_block_start");
  EXPECT_EQ(events[3].first, "content_block_stop");
}

TEST(MessagesReply, Whole) {
  const auto writer = NewMessagesWriter(*Messages(With("")), Context(), 10);
  writer->OnDone(0, Done("r", "\nx"));
  writer->OnEnd();
  const json body = json::parse(writer->Whole());
  EXPECT_EQ(body["type"], "message");
  EXPECT_EQ(body["content"][0]["thinking"], "r");
  EXPECT_EQ(body["content"][1], (json{{"type", "text"}, {"text", "x"}}));
  EXPECT_EQ(body["stop_reason"], "end_turn");
  EXPECT_EQ(body["usage"]["cache_read_input_tokens"], 4);
}

TEST(MessagesReply, StopReasons) {
  const ByteTokenizerForTest tokenizer;
  std::string sequence;
  GenerationResult result;
  for (const char c : std::string("one END two")) result.tokens.push_back(c);
  EXPECT_EQ(StopReason(result, {"two", "END"}, &tokenizer, sequence), "stop_sequence");
  EXPECT_EQ(sequence, "END");
  result.tokens.push_back(ByteTokenizerForTest::kEnd);
  sequence.clear();
  EXPECT_EQ(StopReason(result, {"END"}, &tokenizer, sequence), "end_turn");
  result.finish_reason = FinishReason::kLength;
  EXPECT_EQ(StopReason(result, {}, &tokenizer, sequence), "max_tokens");
  result.finish_reason = FinishReason::kCancelled;
  EXPECT_EQ(StopReason(result, {}, &tokenizer, sequence), "pause_turn");
}

}  // namespace
}  // namespace fathom
