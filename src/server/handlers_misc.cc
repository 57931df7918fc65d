// Routes about the model and the server: models, tokens, health, metrics.
#include <ctime>

#include "server/app.h"
#include "server/json_reader.h"
#include "server/openai_request.h"
#include "server/prompt_builder.h"

namespace fathom {
namespace {

Answer Failed(const ApiError& error) { return {ErrorResponse(Dialect::kOpenAi, error), nullptr}; }

/// One object in OpenAI's and Anthropic's words at once.
ordered_json ModelJson(App& app) {
  const Engine& engine = app.engine();
  const auto when = static_cast<time_t>(app.started());
  std::tm parts{};
  gmtime_r(&when, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return {{"id", app.options().model_name},
          {"object", "model"},
          {"created", app.started()},
          {"owned_by", "fathom"},
          {"type", "model"},
          {"display_name", app.options().model_name},
          {"created_at", text},
          {"context_length", engine.context_length()},
          {"vocab_size", engine.config().vocab_size},
          {"chat_format", ChatFormatName(engine.chat_format())},
          {"kv_bytes_per_token", engine.memory().kv_bytes_per_token},
          {"default_thinking", engine.default_thinking()}};
}

Answer HandleModels(App& app, const Call&) {
  const std::string& id = app.options().model_name;
  return {JsonResponse(200, {{"object", "list"},
                             {"data", ordered_json::array({ModelJson(app)})},
                             {"has_more", false},
                             {"first_id", id},
                             {"last_id", id}}),
          nullptr};
}

Answer HandleModel(App& app, const Call& call) {
  if (call.argument == app.options().model_name) return {JsonResponse(200, ModelJson(app)), nullptr};
  return Failed({404, fmt::format("The model '{}' does not exist; '{}' is served here.", call.argument.substr(0, 100),
                                  app.options().model_name),
                 "model", "model_not_found"});
}

/// Nothing that could wait for the engine: this answers under any load.
Answer HandleHealth(App& app, const Call&) {
  const bool draining = app.draining();
  return {JsonResponse(draining ? 503 : 200, {{"status", draining ? "draining" : "ok"},
                                              {"model", app.options().model_name},
                                              {"version", FATHOM_VERSION}}),
          nullptr};
}

Answer HandleMetrics(App& app, const Call&) {
  HttpResponse response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  const auto plan = app.service().engine().memory_plan();
  response.body = app.metrics().Text(app.service().stats(), plan ? plan->budget : 0);
  return {std::move(response), nullptr};
}

ApiResult<ordered_json> Tokenize(App& app, const Call& call) {
  FATHOM_TRY(const auto body, ParseBody(call.body, app.options().max_json_depth));
  const RequestFields fields(body);
  const Tokenizer* tokenizer = app.engine().tokenizer();
  if (tokenizer == nullptr) {
    return ApiFail(501, "this model's tokenizer cannot be used: " + app.engine().tokenizer_error(), "unsupported_feature");
  }
  std::vector<TokenId> ids;
  if (fields.Find("messages") != nullptr) {
    FATHOM_TRY(const ApiRequest request, ParseChatRequest(body));
    FATHOM_TRY(auto prompts, PreparePrompts(app.engine(), request));
    ids = std::move(prompts.front().ids);
  } else {
    std::optional<std::string> text;
    for (const char* name : {"content", "text", "prompt"}) {
      FATHOM_TRY(auto found, fields.String(name));
      if (found && !text) text = std::move(found);
    }
    if (!text) return BadField("content", "Missing required parameter: 'content'.", "missing_required_parameter");
    FATHOM_TRY(const auto add_special, fields.Bool("add_special"));
    // Special tokens in a text are its author's words; only who asks by name gets them as tokens.
    FATHOM_TRY(const auto parse_special, fields.Bool("parse_special"));
    if (add_special.value_or(false) && tokenizer->add_bos() && tokenizer->bos_id() >= 0) ids.push_back(tokenizer->bos_id());
    tokenizer->Encode(*text, parse_special.value_or(false) ? TextTrust::kTrusted : TextTrust::kUser, ids);
  }
  FATHOM_TRY(const auto with_pieces, fields.Bool("with_pieces"));
  ordered_json out = {{"tokens", ordered_json::array()}, {"count", ids.size()},
                      {"max_model_len", app.engine().context_length()}};
  for (const TokenId id : ids) {
    if (with_pieces.value_or(false)) out["tokens"].push_back({{"id", id}, {"piece", tokenizer->TokenBytes(id)}});
    else out["tokens"].push_back(id);
  }
  return out;
}

ApiResult<ordered_json> Detokenize(App& app, const Call& call) {
  FATHOM_TRY(const auto body, ParseBody(call.body, app.options().max_json_depth));
  const RequestFields fields(body);
  const Tokenizer* tokenizer = app.engine().tokenizer();
  if (tokenizer == nullptr) {
    return ApiFail(501, "this model's tokenizer cannot be used: " + app.engine().tokenizer_error(), "unsupported_feature");
  }
  FATHOM_TRY(const nlohmann::json* tokens, fields.Array("tokens"));
  if (tokens == nullptr) return BadField("tokens", "Missing required parameter: 'tokens'.", "missing_required_parameter");
  std::vector<TokenId> ids;
  for (const auto& token : *tokens) {
    if (!token.is_number_unsigned() || token.get<uint64_t>() >= static_cast<uint64_t>(tokenizer->vocab_size())) {
      return BadField("tokens", fmt::format("Invalid 'tokens': integers from 0 to {} are expected.",
                                            tokenizer->vocab_size() - 1));
    }
    ids.push_back(static_cast<TokenId>(token.get<uint64_t>()));
  }
  FATHOM_TRY(const auto special, fields.Bool("special"));
  const std::string text = tokenizer->Decode(ids, special.value_or(false));
  return ordered_json{{"content", text}, {"prompt", text}};
}

Answer HandleTokenize(App& app, const Call& call) {
  const auto done = Tokenize(app, call);
  return done ? Answer{JsonResponse(200, *done), nullptr} : Failed(done.error());
}

Answer HandleDetokenize(App& app, const Call& call) {
  const auto done = Detokenize(app, call);
  return done ? Answer{JsonResponse(200, *done), nullptr} : Failed(done.error());
}

}  // namespace

void AddModelRoutes(std::vector<Route>& routes) {
  routes.push_back({.method = "GET", .pattern = "/v1/models", .handle = HandleModels});
  routes.push_back({.method = "GET", .pattern = "/v1/models/{id}", .handle = HandleModel});
  routes.push_back({.method = "POST", .pattern = "/tokenize", .handle = HandleTokenize});
  routes.push_back({.method = "POST", .pattern = "/detokenize", .handle = HandleDetokenize});
  routes.push_back({.method = "GET", .pattern = "/health", .open = true, .handle = HandleHealth});
  routes.push_back({.method = "GET", .pattern = "/metrics", .slow = true, .admin = true, .handle = HandleMetrics});
}

}  // namespace fathom
