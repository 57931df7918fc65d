// Any bytes as a request's body, in every dialect: a request, or an error that says something. The first byte chooses the
// dialect. What parses is built into prompts and answered by a writer, so that hostile words also pass the other way.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "server/anthropic_request.h"
#include "server/http_types.h"
#include "server/json_reader.h"
#include "server/openai_reply.h"
#include "server/openai_request.h"
#include "server/origin_guard.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fathom;
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 4 == 3) {  // what stands in a head
    std::string decoded;
    PercentDecode(input, decoded);
    QueryValue(input, "limit");
    HttpHead head;
    const size_t cut = std::min(input.find('\n'), input.size());
    head.headers = {{"host", std::string(input.substr(0, cut))},
                    {"origin", std::string(input.substr(std::min(cut + 1, input.size())))}};
    CheckOrigin(head, {.allowed_hosts = {"example.org"}, .cors_origins = {"https://example.org"}});
    return 0;
  }
  const auto body = ParseBody(input, 64);
  if (!body) {
    if (body.error().message.empty() || body.error().status != 400) std::abort();
    return 0;
  }
  constexpr ApiResult<ApiRequest> (*kParsers[])(const nlohmann::json&) = {ParseChatRequest, ParseCompletionRequest,
                                                                          ParseMessagesRequest};
  const auto request = kParsers[data[0] % 3](*body);
  if (!request) {
    if (request.error().message.empty() || request.error().status != 400) std::abort();
    Dump(ErrorBody(Dialect::kOpenAi, request.error(), ""));
    return 0;
  }
  if (request->n < 1 || request->n > kMaxChoices || request->logprobs < -1 || request->logprobs > 20) std::abort();
  if (request->messages.empty() == request->prompts.empty()) std::abort();
  if (!ValidateSampling(request->sampling, std::numeric_limits<int32_t>::max())) std::abort();
  if (request->messages.empty()) return 0;
  // Its words as if a model had said them.
  ReplyContext context;
  context.n = request->n;
  const auto writer = NewChatWriter(*request, context);
  ServiceToken token;
  token.emission = {.token = 0, .reasoning = "", .content = request->messages.back().content};
  writer->OnToken(0, token);
  for (int32_t i = 0; i < request->n; ++i) {
    ServiceResult result;
    result.generation.content = token.emission.content;
    writer->OnDone(i, result);
  }
  writer->OnEnd();
  if (!request->stream && nlohmann::json::parse(writer->Whole(), nullptr, false).is_discarded()) std::abort();
  return 0;
}
