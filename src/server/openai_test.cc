// OpenAI's and DeepSeek's dialect without sockets: requests in, answers and chunks out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "server/fake_service_for_test.h"
#include "server/json_reader.h"
#include "server/openai_reply.h"
#include "server/openai_request.h"
#include "server/prompt_builder.h"

namespace fathom {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

ApiResult<ApiRequest> Chat(const std::string& text) {
  const auto body = ParseBody(text, 64);
  if (!body) return std::unexpected(body.error());
  return ParseChatRequest(*body);
}
ApiResult<ApiRequest> Completion(const std::string& text) {
  const auto body = ParseBody(text, 64);
  if (!body) return std::unexpected(body.error());
  return ParseCompletionRequest(*body);
}
std::string With(const std::string& fields) {
  return R"({"model":"m","messages":[{"role":"user","content":"Hi"}],)" + fields + "}";
}

TEST(ChatRequest, DefaultsAreTheApis) {
  const auto request = Chat(R"({"messages":[{"role":"user","content":"Hi"}]})");
  ASSERT_TRUE(request.has_value()) << request.error().message;
  EXPECT_EQ(request->sampling.temperature, 1);
  EXPECT_EQ(request->sampling.top_p, 1);
  EXPECT_EQ(request->sampling.top_k, 0);
  EXPECT_EQ(request->sampling.min_p, 0);
  EXPECT_EQ(request->max_tokens, -1);
  EXPECT_EQ(request->n, 1);
  EXPECT_FALSE(request->stream);
  EXPECT_EQ(request->thinking, ThinkingMode::kModelDefault);
}

TEST(ChatRequest, ReadsEveryField) {
  const auto parsed = Chat(With(
      R"("temperature":0.5,"top_p":0.9,"top_k":7,"min_p":0.1,"presence_penalty":1,"frequency_penalty":-1,)"
      R"("repetition_penalty":1.1,"seed":-3,"logit_bias":{"5":-100,"6":2.5},"stop":["a","b"],"n":2,"max_tokens":5,)"
      R"("max_completion_tokens":9,"logprobs":true,"top_logprobs":3,"stream":true,)"
      R"("stream_options":{"include_usage":true},"return_progress":true,"user":"u","metadata":{"a":1},"store":false,)"
      R"("unknown_field":[1,2],"tools":[],"response_format":{"type":"text"},"priority":2,"cache_prompt":false)"));
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  EXPECT_FLOAT_EQ(parsed->sampling.temperature, 0.5f);
  EXPECT_FLOAT_EQ(parsed->sampling.top_p, 0.9f);
  EXPECT_EQ(parsed->sampling.top_k, 7);
  EXPECT_FLOAT_EQ(parsed->sampling.repetition_penalty, 1.1f);
  EXPECT_EQ(parsed->sampling.seed, static_cast<uint64_t>(-3));
  ASSERT_EQ(parsed->sampling.logit_bias.size(), 2u);
  EXPECT_TRUE(std::isinf(parsed->sampling.logit_bias[0].second));
  EXPECT_THAT(parsed->stop, testing::ElementsAre("a", "b"));
  EXPECT_EQ(parsed->n, 2);
  EXPECT_EQ(parsed->max_tokens, 9);
  EXPECT_EQ(parsed->logprobs, 3);
  EXPECT_TRUE(parsed->stream && parsed->include_usage && parsed->return_progress);
  EXPECT_EQ(parsed->priority, 2);
  EXPECT_FALSE(parsed->use_cache);
}

TEST(ChatRequest, ErrorsNameTheField) {
  const std::pair<const char*, const char*> kCases[] = {
      {R"("temperature":"hot")", "temperature"},
      {R"("temperature":2.5)", "temperature"},
      {R"("temperature":-0.1)", "temperature"},
      {R"("top_p":1.5)", "top_p"},
      {R"("n":0)", "n"},
      {R"("n":1.5)", "n"},
      {R"("n":1000)", "n"},
      {R"("max_tokens":0)", "max_tokens"},
      {R"("max_tokens":-5)", "max_tokens"},
      {R"("max_tokens":99999999999999999999)", "max_tokens"},
      {R"("seed":"x")", "seed"},
      {R"("stop":[1])", "stop"},
      {R"("stop":[""])", "stop"},
      {R"("stop":["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"])", "stop"},
      {R"("stream":1)", "stream"},
      {R"("stream_options":{"include_usage":true})", "stream_options"},
      {R"("stream":true,"stream_options":{"include_usage":"yes"})", "stream_options.include_usage"},
      {R"("logit_bias":{"x":1})", "logit_bias"},
      {R"("logit_bias":{"1":101})", "logit_bias"},
      {R"("logit_bias":[1])", "logit_bias"},
      {R"("top_logprobs":3)", "top_logprobs"},
      {R"("logprobs":true,"top_logprobs":21)", "top_logprobs"},
      {R"("presence_penalty":3)", "presence_penalty"},
      {R"("tools":[{"type":"function"}])", "tools"},
      {R"("tool_choice":"required")", "tool_choice"},
      {R"("functions":[{}])", "functions"},
      {R"("response_format":{"type":"json_object"})", "response_format"},
      {R"("response_format":{"type":"json_schema","json_schema":{}})", "response_format"},
      {R"("response_format":{"type":"xml"})", "response_format.type"},
      {R"("modalities":["text","audio"])", "modalities"},
      {R"("thinking":{"type":"sometimes"})", "thinking.type"},
      {R"("thinking":{"type":"enabled","budget_tokens":-1})", "thinking.budget_tokens"},
      {R"("thinking":"on")", "thinking"},
      {R"("reasoning_effort":"huge")", "reasoning_effort"},
      {R"("chat_template_kwargs":{"thinking":1})", "chat_template_kwargs.thinking"},
      {R"("messages":[])", "messages"},
      {R"("messages":"Hi")", "messages"},
      {R"("messages":[1])", "messages[0]"},
      {R"("messages":[{"content":"x"}])", "messages[0].role"},
      {R"("messages":[{"role":"king","content":"x"}])", "messages[0].role"},
      {R"("messages":[{"role":"user"}])", "messages[0].content"},
      {R"("messages":[{"role":"user","content":5}])", "messages[0].content"},
      {R"("messages":[{"role":"user","content":[{"type":"image_url"}]}])", "messages[0].content[0].type"},
      {R"("messages":[{"role":"user","content":[{"type":"text"}]}])", "messages[0].content[0].text"},
      {R"("messages":[{"role":"tool","content":"x"}])", "messages[0].role"},
      {R"("messages":[{"role":"assistant","content":"x","tool_calls":[{}]}])", "messages[0].tool_calls"},
      {R"("messages":[{"role":"assistant","content":"x","prefix":true},{"role":"user","content":"y"}])",
       "messages[0].prefix"},
  };
  for (const auto& [fields, param] : kCases) {
    // The last of equal names counts.
    const auto request = Chat(With(fields));
    ASSERT_FALSE(request.has_value()) << fields;
    EXPECT_EQ(request.error().status, 400) << fields;
    EXPECT_EQ(request.error().param, param) << fields << ": " << request.error().message;
  }
}

TEST(ChatRequest, BodiesThatAreNoRequests) {
  for (const char* text : {"", "  ", "{", "[]", "5", "{\"a\":\xff}", "{}"}) {
    EXPECT_FALSE(Chat(text).has_value()) << text;
  }
  const std::string deep = std::string(100, '[') + std::string(100, ']');
  const auto body = ParseBody("{\"messages\":" + deep + "}", 64);
  ASSERT_FALSE(body.has_value());
  EXPECT_THAT(body.error().message, HasSubstr("deeper than 64"));
  // Brackets in strings do not nest.
  EXPECT_TRUE(ParseBody("{\"a\":\"" + std::string(100, '[') + "\\\"[\"}", 64).has_value());
  // Nor does a million of them bring the parser down.
  EXPECT_FALSE(ParseBody("{\"a\":" + std::string(1'000'000, '['), 64).has_value());
}

TEST(ChatRequest, ContentPartsAndRoles) {
  const auto request = Chat(R"({"messages":[{"role":"developer","content":"Be brief"},
      {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
      {"role":"assistant","content":"c","reasoning_content":"r","prefix":true}]})");
  ASSERT_TRUE(request.has_value()) << request.error().message;
  EXPECT_EQ(request->messages[0].role, Role::kSystem);
  EXPECT_EQ(request->messages[1].content, "ab");
  EXPECT_EQ(request->messages[2].reasoning_content, "r");
  EXPECT_TRUE(request->continue_last);
}

TEST(ChatRequest, ThinkingSwitches) {
  const auto mode = [](const std::string& fields) { return Chat(With(fields))->thinking; };
  EXPECT_EQ(mode(R"("thinking":{"type":"enabled"})"), ThinkingMode::kOn);
  EXPECT_EQ(mode(R"("thinking":{"type":"disabled"})"), ThinkingMode::kOff);
  EXPECT_EQ(mode(R"("chat_template_kwargs":{"enable_thinking":true})"), ThinkingMode::kOn);
  EXPECT_EQ(mode(R"("chat_template_kwargs":{"thinking":false})"), ThinkingMode::kOff);
  EXPECT_EQ(mode(R"("reasoning_effort":"none")"), ThinkingMode::kOff);
  EXPECT_EQ(mode(R"("reasoning_effort":"high")"), ThinkingMode::kOn);
  EXPECT_EQ(mode(R"("model":"deepseek-reasoner")"), ThinkingMode::kOn);
  EXPECT_EQ(mode(R"("model":"deepseek-chat")"), ThinkingMode::kAvoid);
  EXPECT_EQ(mode(R"("thinking":{"type":"disabled"},"reasoning_effort":"high")"), ThinkingMode::kOff);
  EXPECT_EQ(Chat(With(R"("thinking":{"type":"enabled","budget_tokens":77})"))->max_thinking_tokens, 77);
  EXPECT_EQ(Chat(With(R"("reasoning_effort":"low")"))->max_thinking_tokens, 1024);
}

TEST(CompletionRequest, PromptsOfAllKinds) {
  EXPECT_EQ(Completion(R"({"prompt":"a"})")->prompts.size(), 1u);
  EXPECT_EQ(Completion(R"({"prompt":["a","b"]})")->prompts[1].text, "b");
  EXPECT_THAT(Completion(R"({"prompt":[1,2]})")->prompts[0].ids, testing::ElementsAre(1, 2));
  EXPECT_EQ(Completion(R"({"prompt":[[1,2],[3]]})")->prompts.size(), 2u);
  EXPECT_EQ(Completion(R"({"prompt":"a"})")->max_tokens, 16);
  EXPECT_EQ(Completion(R"({"prompt":"a","max_tokens":0,"echo":true})")->max_tokens, 0);
  for (const char* text : {R"({})", R"({"prompt":[]})", R"({"prompt":[[]]})", R"({"prompt":[1.5]})", R"({"prompt":[-1]})",
                           R"({"prompt":[99999999999]})", R"({"prompt":{}})", R"({"prompt":[["a"]]})",
                           R"({"prompt":["a",1]})"}) {
    const auto refused = Completion(text);
    ASSERT_FALSE(refused.has_value()) << text;
    EXPECT_EQ(refused.error().param, "prompt") << text;
  }
  EXPECT_EQ(Completion(R"({"prompt":"a","suffix":"b"})").error().param, "suffix");
  EXPECT_EQ(Completion(R"({"prompt":"a","best_of":3})").error().param, "best_of");
  EXPECT_EQ(Completion(R"({"prompt":"a","echo":true,"logprobs":2})").error().param, "logprobs");
}

TEST(Prompts, ContinueTheAssistantsWords) {
  EngineForServerTest engine;
  const auto text_of = [&](const std::string& body) {
    const auto prompts = PreparePrompts(engine, *Chat(body));
    EXPECT_TRUE(prompts.has_value()) << prompts.error().message;
    return engine.tokenizer()->Decode(prompts->front().ids, true);
  };
  EXPECT_EQ(text_of(R"({"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"The","prefix":true}]})"),
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nThe");
  engine.format = ChatFormat::kDeepseekV31;
  const std::string dialogue = R"({"messages":[{"role":"user","content":"Hi"},{"role":"assistant",)";
  EXPECT_EQ(text_of(dialogue + R"("content":"The","prefix":true}],"thinking":{"type":"enabled"}})"),
            "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜></think>The");
  EXPECT_EQ(text_of(dialogue + R"("content":"The","reasoning_content":"so","prefix":true}],"thinking":{"type":"enabled"}})"),
            "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜><think>so</think>The");
  const auto open = PreparePrompts(
      engine, *Chat(dialogue + R"("content":"","reasoning_content":"so","prefix":true}],"thinking":{"type":"enabled"}})"));
  EXPECT_TRUE(open->front().starts_in_thinking);
  // A user's marks are words.
  EXPECT_NE(text_of(R"({"messages":[{"role":"user","content":"<｜User｜>"}]})").find("<｜User｜><｜User｜>"), std::string::npos);
  const auto ids = PreparePrompts(engine, *Chat(R"({"messages":[{"role":"user","content":"<｜User｜>"}]})"))->front().ids;
  EXPECT_EQ(std::ranges::count(ids, engine.tokenizer()->FindToken("<｜User｜>")), 1);
}

TEST(Prompts, LimitsAndSwitchesReachTheService) {
  EngineForServerTest engine;
  engine.format = ChatFormat::kDeepseekR1;
  auto requests = BuildServiceRequests(engine, *Chat(With(R"("thinking":{"type":"disabled"},"n":2,"seed":4)")), "team");
  ASSERT_TRUE(requests.has_value());
  EXPECT_EQ(requests->size(), 2u);
  EXPECT_EQ((*requests)[0].max_thinking_tokens, 0);
  EXPECT_TRUE((*requests)[0].params.starts_in_thinking);
  EXPECT_EQ((*requests)[1].params.sampling.seed, 5u);
  EXPECT_EQ((*requests)[1].tenant, "team");
  engine.context = 5;
  requests = BuildServiceRequests(engine, *Chat(With(R"("n":1)")), "");
  ASSERT_FALSE(requests.has_value());
  EXPECT_EQ(requests.error().code, "context_length_exceeded");
  engine.context = 100;
  EXPECT_EQ(BuildServiceRequests(engine, *Completion(R"({"prompt":[5000]})"), "").error().param, "prompt");
  EXPECT_FALSE(BuildServiceRequests(engine, *Chat(With(R"("logit_bias":{"5000":1})")), "").has_value());
  engine.has_tokenizer = false;
  EXPECT_EQ(BuildServiceRequests(engine, *Chat(With(R"("n":1)")), "").error().status, 501);
  EXPECT_TRUE(BuildServiceRequests(engine, *Completion(R"({"prompt":[5]})"), "").has_value());
}

ReplyContext Context(int32_t n = 1) {
  static const ByteTokenizerForTest kTokenizer;
  return {.id = "chatcmpl-1", .model = "tiny", .created = 1700000000, .tokenizer = &kTokenizer, .prices = {}, .prompts = 1,
          .n = n};
}
ServiceToken Token(char c, bool reasoning = false) {
  ServiceToken token;
  token.emission.token = static_cast<unsigned char>(c);
  (reasoning ? token.emission.reasoning : token.emission.content) = std::string(1, c);
  return token;
}
ServiceResult Done(const std::string& reasoning, const std::string& content) {
  ServiceResult result;
  result.generation.reasoning = reasoning;
  result.generation.content = content;
  result.generation.timings.prompt_tokens = 6;
  result.generation.timings.cached_tokens = 4;
  result.generation.timings.generated_tokens = static_cast<int64_t>(reasoning.size() + content.size());
  result.reasoning_tokens = static_cast<int64_t>(reasoning.size());
  return result;
}
std::vector<json> Events(const std::string& stream) {
  std::vector<json> events;
  for (size_t at = 0; at < stream.size();) {
    const size_t end = stream.find("\n\n", at);
    const std::string line = stream.substr(at, end - at);
    if (line.starts_with("data: {")) events.push_back(json::parse(line.substr(6)));
    at = end + 2;
  }
  return events;
}

TEST(ChatReply, ChunksInOrder) {
  const auto writer = NewChatWriter(*Chat(With(R"("stream":true,"stream_options":{"include_usage":true})")), Context());
  std::string stream = writer->OnProgress(0, {.prompt_tokens = 10, .cached_tokens = 4, .done_tokens = 8});
  EXPECT_EQ(stream, ": progress {\"prompt_tokens\":10,\"cached_tokens\":4,\"done_tokens\":8}\n\n");
  stream = writer->OnToken(0, Token('r', true));
  stream += writer->OnToken(0, Token('\n'));
  stream += writer->OnToken(0, Token('a'));
  stream += writer->OnDone(0, Done("r", "\na"));
  stream += writer->OnEnd();
  EXPECT_TRUE(stream.ends_with("data: [DONE]\n\n"));
  const auto events = Events(stream);
  ASSERT_EQ(events.size(), 5u);
  for (const json& event : events) {
    EXPECT_EQ(event["object"], "chat.completion.chunk");
    EXPECT_EQ(event["id"], "chatcmpl-1");
    EXPECT_EQ(event["model"], "tiny");
    EXPECT_TRUE(event.contains("usage"));
  }
  EXPECT_EQ(events[0]["choices"][0]["delta"], (json{{"role", "assistant"}, {"content", ""}}));
  EXPECT_EQ(events[1]["choices"][0]["delta"], (json{{"reasoning_content", "r"}}));
  EXPECT_EQ(events[2]["choices"][0]["delta"], (json{{"content", "a"}}));  // the line break between belongs to neither
  EXPECT_EQ(events[3]["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(events[3]["usage"], nullptr);
  EXPECT_EQ(events[4]["choices"], json::array());
  EXPECT_EQ(events[4]["usage"], json::parse(R"({"prompt_tokens":10,"completion_tokens":3,"total_tokens":13,
      "prompt_cache_hit_tokens":4,"prompt_cache_miss_tokens":6,"prompt_tokens_details":{"cached_tokens":4},
      "completion_tokens_details":{"reasoning_tokens":1}})"));
}

TEST(ChatReply, ProgressAsAChunkWhenAsked) {
  const auto writer = NewChatWriter(*Chat(With(R"("stream":true,"return_progress":true)")), Context());
  const auto events = Events(writer->OnProgress(0, {.prompt_tokens = 10, .cached_tokens = 4, .done_tokens = 8}));
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0]["prompt_progress"]["total"], 10);
  EXPECT_EQ(events[0]["prompt_progress"]["cache"], 4);
  EXPECT_EQ(events[0]["prompt_progress"]["processed"], 8);
}

TEST(ChatReply, LogprobsAreNeitherLostNorTwice) {
  const auto request = Chat(With(R"("logprobs":true,"top_logprobs":2,"stream":true)"));
  const auto writer = NewChatWriter(*request, Context());
  ServiceToken silent;  // half a character
  silent.emission.token = 0xC3;
  silent.drawn = TokenLogprob{0xC3, -1.5f};
  silent.top = {{0xC3, -1.5f}, {'b', -std::numeric_limits<float>::infinity()}};
  ServiceToken whole = Token('x');
  whole.emission.content = "Ã";
  whole.drawn = TokenLogprob{0x83, -0.25f};
  std::string said = writer->OnToken(0, silent);
  said += writer->OnToken(0, whole);
  said += writer->OnDone(0, Done("", "Ã"));
  const auto events = Events(said);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0]["choices"][0]["logprobs"], nullptr);
  const json& logprobs = events[1]["choices"][0]["logprobs"]["content"];
  ASSERT_EQ(logprobs.size(), 2u);
  EXPECT_EQ(logprobs[0]["bytes"], json::array({0xC3}));
  EXPECT_EQ(logprobs[0]["logprob"], -1.5);
  EXPECT_EQ(logprobs[0]["top_logprobs"][1]["logprob"], -9999.0);
  EXPECT_EQ(logprobs[1]["logprob"], -0.25);
  EXPECT_EQ(events[2]["choices"][0]["logprobs"], nullptr);
}

TEST(ChatReply, WholeWithCost) {
  ReplyContext context = Context();
  context.prices = {.hit = 1, .miss = 10, .output = 100};
  const auto writer = NewChatWriter(*Chat(With(R"("logprobs":true)")), context);
  ServiceToken token = Token('a');
  token.drawn = TokenLogprob{'a', -0.5f};
  EXPECT_EQ(writer->OnToken(0, token), "");
  EXPECT_EQ(writer->OnDone(0, Done("", "a")), "");
  EXPECT_EQ(writer->OnEnd(), "");
  const json body = json::parse(writer->Whole());
  EXPECT_EQ(body["choices"][0]["message"], (json{{"role", "assistant"}, {"content", "a"}}));
  EXPECT_EQ(body["choices"][0]["logprobs"]["content"][0]["token"], "a");
  EXPECT_DOUBLE_EQ(body["usage"]["cost"].get<double>(), (4 * 1 + 6 * 10 + 1 * 100) / 1e6);
  EXPECT_EQ(body["timings"]["cache_n"], 4);
  EXPECT_EQ(body["timings"]["prompt_n"], 6);
}

TEST(ChatReply, FinishReasons) {
  EXPECT_EQ(OpenAiFinishReason(FinishReason::kStop), "stop");
  EXPECT_EQ(OpenAiFinishReason(FinishReason::kLength), "length");
  EXPECT_EQ(OpenAiFinishReason(FinishReason::kContext), "length");
  EXPECT_EQ(OpenAiFinishReason(FinishReason::kCancelled), "insufficient_system_resource");
}

TEST(CompletionReply, EchoAndLogprobs) {
  EngineForServerTest engine;
  const auto request = Completion(R"({"prompt":["ab","cd"],"n":2,"echo":true})");
  const auto built = BuildServiceRequests(engine, *request, "");
  ReplyContext context = Context(2);
  context.prompts = 2;
  const auto writer = NewCompletionWriter(*request, context, *built);
  for (const int32_t choice : {3, 0, 1, 2}) writer->OnDone(choice, Done("", "!"));
  const json body = json::parse(writer->Whole());
  EXPECT_EQ(body["object"], "text_completion");
  ASSERT_EQ(body["choices"].size(), 4u);
  EXPECT_EQ(body["choices"][1]["text"], "ab!");
  EXPECT_EQ(body["choices"][3]["text"], "cd!");
  EXPECT_EQ(body["choices"][3]["index"], 3);
  EXPECT_EQ(body["usage"]["prompt_tokens"], 20);  // two prompts, whatever n is
  EXPECT_EQ(body["usage"]["completion_tokens"], 4);

  const auto with = Completion(R"({"prompt":"ab","logprobs":1,"stream":true})");
  const auto stream = NewCompletionWriter(*with, Context(), *built);
  ServiceToken token = Token('x');
  token.drawn = TokenLogprob{'x', -0.5f};
  token.top = {{'x', -0.5f}};
  std::string said = stream->OnToken(0, token);
  said += stream->OnToken(0, token);
  const auto events = Events(said);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[1]["choices"][0]["logprobs"],
            json::parse(R"({"tokens":["x"],"token_logprobs":[-0.5],"top_logprobs":[{"x":-0.5}],"text_offset":[1]})"));
}

}  // namespace
}  // namespace fathom
