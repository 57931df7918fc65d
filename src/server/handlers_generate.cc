// Routes that the model answers: chat and text completions in OpenAI's dialect, messages in Anthropic's.
#include <chrono>

#include "server/anthropic_reply.h"
#include "server/anthropic_request.h"
#include "server/app.h"
#include "server/json_reader.h"
#include "server/openai_reply.h"
#include "server/openai_request.h"
#include "server/prompt_builder.h"

namespace fathom {
namespace {

using ParseFn = ApiResult<ApiRequest> (*)(const nlohmann::json& body);

enum class Shape { kChat, kCompletion, kMessages };

ApiResult<std::unique_ptr<GenerationOrder>> Prepare(App& app, const Call& call, Shape shape, ParseFn parse) {
  FATHOM_TRY(auto place, app.gate().Enter(call.caller.tenant));
  FATHOM_TRY(const auto body, ParseBody(call.body, app.options().max_json_depth));
  FATHOM_TRY(const ApiRequest request, parse(body));
  auto generation = std::make_unique<GenerationOrder>();
  generation->place = std::move(place);
  FATHOM_TRY(generation->requests, BuildServiceRequests(app.engine(), request, call.caller.tenant));
  if (request.max_tokens == 0) {
    for (const ServiceRequest& one : generation->requests) {
      ServiceResult& result = generation->ready.emplace_back();
      result.generation.finish_reason = FinishReason::kLength;
      result.generation.timings.prompt_tokens = static_cast<int64_t>(one.prompt.size());
    }
  }
  generation->n = request.n;
  generation->dialect = call.route->dialect;
  generation->stream = request.stream;
  generation->prompt_field = request.messages.empty() ? "prompt" : "messages";
  ReplyContext context;
  context.model = app.options().model_name;
  context.created = std::chrono::duration_cast<std::chrono::seconds>(
                        std::chrono::system_clock::now().time_since_epoch()).count();
  context.tokenizer = app.engine().tokenizer();
  context.prices = app.options().prices;
  context.prompts = static_cast<int32_t>(generation->requests.size()) / request.n;
  context.n = request.n;
  switch (shape) {
    case Shape::kChat:
      context.id = generation->id = NewId("chatcmpl-");
      generation->writer = NewChatWriter(request, std::move(context));
      break;
    case Shape::kCompletion:
      context.id = generation->id = NewId("cmpl-");
      generation->writer = NewCompletionWriter(request, std::move(context), generation->requests);
      break;
    case Shape::kMessages:
      context.id = generation->id = NewId("msg_");
      generation->writer = NewMessagesWriter(request, std::move(context),
                                             static_cast<int64_t>(generation->requests.front().prompt.size()));
      break;
  }
  return generation;
}

Answer Generate(App& app, const Call& call, Shape shape, ParseFn parse) {
  auto generation = Prepare(app, call, shape, parse);
  if (!generation) {
    return {ErrorResponse(call.route->dialect, generation.error(), NewId("req_")), nullptr};
  }
  return {{}, std::move(*generation)};
}

Answer HandleChat(App& app, const Call& call) { return Generate(app, call, Shape::kChat, ParseChatRequest); }
Answer HandleCompletion(App& app, const Call& call) {
  return Generate(app, call, Shape::kCompletion, ParseCompletionRequest);
}
Answer HandleMessages(App& app, const Call& call) {
  return Generate(app, call, Shape::kMessages, ParseMessagesRequest);
}

ApiResult<ordered_json> CountTokens(App& app, const Call& call) {
  FATHOM_TRY(const auto body, ParseBody(call.body, app.options().max_json_depth));
  FATHOM_TRY(const ApiRequest request, ParseCountRequest(body));
  FATHOM_TRY(const auto prompts, PreparePrompts(app.engine(), request));
  return ordered_json{{"input_tokens", prompts.front().ids.size()}};
}

Answer HandleCountTokens(App& app, const Call& call) {
  const auto counted = CountTokens(app, call);
  if (!counted) return {ErrorResponse(Dialect::kAnthropic, counted.error(), NewId("req_")), nullptr};
  return {JsonResponse(200, *counted), nullptr};
}

Answer HandleResponses(App&, const Call&) {
  return {ErrorResponse(Dialect::kOpenAi, ApiError{400, "/v1/responses is not supported yet; /v1/chat/completions is.",
                                                   "", "unsupported_feature"}),
          nullptr};
}

// Hidden states of a model that was trained to generate are poor embeddings: better none than those.
Answer HandleEmbeddings(App&, const Call&) {
  return {ErrorResponse(Dialect::kOpenAi,
                        ApiError{501, "This model was trained to generate text, not to embed it: embeddings are not "
                                      "supported.", "model", "unsupported_feature"}),
          nullptr};
}

}  // namespace

void AddGenerationRoutes(std::vector<Route>& routes) {
  routes.push_back({.method = "POST", .pattern = "/v1/chat/completions", .generates = true, .handle = HandleChat});
  routes.push_back({.method = "POST", .pattern = "/v1/completions", .generates = true, .handle = HandleCompletion});
  routes.push_back({.method = "POST", .pattern = "/v1/messages", .dialect = Dialect::kAnthropic, .generates = true,
                    .handle = HandleMessages});
  routes.push_back({.method = "POST", .pattern = "/v1/messages/count_tokens", .dialect = Dialect::kAnthropic,
                    .handle = HandleCountTokens});
  routes.push_back({.method = "POST", .pattern = "/v1/responses", .handle = HandleResponses});
  routes.push_back({.method = "POST", .pattern = "/v1/embeddings", .handle = HandleEmbeddings});
}

}  // namespace fathom
