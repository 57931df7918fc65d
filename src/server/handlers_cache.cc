// Routes about the KV cache: what it holds, why a prompt is known or not, and letting go of it.
//
// With API keys, explain, pin and forget act on the caller's own tenant; what shows or touches everybody's blocks needs
// a key marked admin. All of them may wait for a disk and run on a worker thread.
#include "server/app.h"
#include "server/json_reader.h"
#include "server/openai_request.h"
#include "server/prompt_builder.h"

namespace fathom {
namespace {

using nlohmann::json;

Answer Reply(const ApiResult<ordered_json>& done) {
  if (!done) return {ErrorResponse(Dialect::kOpenAi, done.error()), nullptr};
  return {JsonResponse(200, *done), nullptr};
}

ApiResult<KvCache*> NeedCache(App& app) {
  if (KvCache* cache = app.service().cache(); cache != nullptr) return cache;
  return ApiFail(404, "This server runs without a cache.", "no_cache");
}

/// The prompt that a body means: messages in the model's format, a text, or ids.
ApiResult<std::vector<TokenId>> PromptOf(App& app, const json& body) {
  ApiRequest request;
  const RequestFields fields(body);
  if (fields.Find("messages") != nullptr) {
    FATHOM_TRY(request, ParseChatRequest(body));
  } else if (const json* tokens = fields.Find("tokens"); tokens != nullptr) {
    FATHOM_CHECK_OK(ParsePrompts(json{{"prompt", *tokens}}, request));
  } else {
    FATHOM_CHECK_OK(ParsePrompts(body, request));
  }
  FATHOM_TRY(auto prompts, PreparePrompts(app.engine(), request));
  if (prompts.size() != 1) return BadField("prompt", "Invalid 'prompt': one prompt at a time.");
  return std::move(prompts.front().ids);
}

ordered_json StatJson(const CacheStats& stats) {
  const TierStats& disk = stats.disk;
  return {{"lookups", stats.lookups},
          {"lookup_tokens", stats.lookup_tokens},
          {"hit_tokens", stats.hit_tokens},
          {"pinned_blocks", stats.pinned_blocks},
          {"expired", stats.expired},
          {"corrupt", stats.corrupt},
          {"not_admitted", stats.not_admitted},
          {"load_wait_seconds", stats.load_wait_seconds},
          {"memory",
           {{"blocks", stats.memory_blocks},
            {"bytes", stats.memory_bytes},
            {"limit_bytes", stats.memory_limit},
            {"hit_tokens", stats.memory_hit_tokens},
            {"evicted", stats.evicted_memory}}},
          {"disk",
           {{"blocks", disk.blocks},
            {"bytes", disk.used_bytes},
            {"limit_bytes", disk.capacity_bytes},
            {"hit_tokens", stats.disk_hit_tokens},
            {"evicted", stats.evicted_disk},
            {"reads", disk.reads},
            {"read_bytes", disk.read_bytes},
            {"read_errors", disk.read_errors},
            {"writes", disk.writes},
            {"written_bytes", disk.written_bytes},
            {"write_errors", disk.write_errors},
            {"dropped_writes", disk.dropped_writes},
            {"queued_writes", disk.queued_writes},
            {"written_today_bytes", stats.written_today},
            {"daily_write_bytes", stats.daily_write_bytes},
            {"read_bytes_per_second", disk.read_bytes_per_second},
            {"write_bytes_per_second", disk.write_bytes_per_second}}}};
}

ordered_json ServiceJson(const ServiceStats& stats) {
  return {{"running", stats.running},
          {"waiting", stats.waiting},
          {"prefilling", stats.prefilling},
          {"requests", stats.requests},
          {"finished", stats.finished},
          {"cancelled", stats.cancelled},
          {"failed", stats.failed},
          {"preempted", stats.preempted},
          {"steps", stats.steps},
          {"step_rows", stats.step_rows},
          {"prompt_tokens", stats.prompt_tokens},
          {"cached_tokens", stats.cached_tokens},
          {"generated_tokens", stats.generated_tokens},
          {"prefill_tokens_per_second", stats.prefill_rate},
          {"decode_tokens_per_second", stats.decode_rate}};
}

Answer HandleStat(App& app, const Call&) {
  const ServiceStats stats = app.service().stats();
  ordered_json body = {{"enabled", app.service().cache() != nullptr}};
  body.update(StatJson(stats.cache));
  body["service"] = ServiceJson(stats);
  return {JsonResponse(200, body), nullptr};
}

constexpr size_t kMaxListed = 10000;

Answer HandleList(App& app, const Call& call) {
  return Reply([&]() -> ApiResult<ordered_json> {
    FATHOM_TRY(KvCache* cache, NeedCache(app));
    const std::string asked = QueryValue(call.head->query, "limit");
    size_t limit = 0;
    for (const char c : asked) {
      if (c < '0' || c > '9' || limit > kMaxListed) return BadField("limit", "Invalid 'limit': a number is expected.");
      limit = limit * 10 + static_cast<size_t>(c - '0');
    }
    if (asked.empty()) limit = 1000;
    limit = std::min(limit, kMaxListed);
    const auto entries = cache->List();
    ordered_json data = ordered_json::array();
    for (const CacheEntryInfo& entry : entries) {
      if (data.size() >= limit) break;
      data.push_back({{"key", ToHex(entry.key)},
                      {"root", ToHex(entry.root)},
                      {"first_position", entry.first_position},
                      {"count", entry.count},
                      {"memory", entry.in_memory},
                      {"disk", entry.on_disk},
                      {"pinned", entry.pinned},
                      {"age_seconds", entry.age_seconds},
                      {"idle_seconds", entry.idle_seconds},
                      {"hits", entry.hits}});
    }
    return ordered_json{{"object", "list"}, {"total", entries.size()}, {"data", std::move(data)}};
  }());
}

Answer HandleExplain(App& app, const Call& call) {
  return Reply([&]() -> ApiResult<ordered_json> {
    FATHOM_TRY(KvCache* cache, NeedCache(app));
    FATHOM_TRY(const json body, ParseBody(call.body, app.options().max_json_depth));
    FATHOM_TRY(const auto ids, PromptOf(app, body));
    const KvPrefix prefix = cache->Explain(call.caller.tenant, ids);
    return ordered_json{{"prompt_tokens", ids.size()},
                        {"known_tokens", prefix.tokens},
                        {"memory_tokens", prefix.memory_tokens},
                        {"disk_tokens", prefix.disk_tokens},
                        {"reason", prefix.reason}};
  }());
}

Answer Pin(App& app, const Call& call, bool pinned) {
  return Reply([&]() -> ApiResult<ordered_json> {
    FATHOM_TRY(KvCache* cache, NeedCache(app));
    FATHOM_TRY(const json body, ParseBody(call.body, app.options().max_json_depth));
    FATHOM_TRY(const auto ids, PromptOf(app, body));
    FATHOM_TRY(const auto said, RequestFields(body).Bool("pinned"));
    const bool wanted = pinned && said.value_or(true);
    const auto blocks = cache->Pin(call.caller.tenant, ids, wanted);
    if (!blocks && blocks.error().code == ErrorCode::kResource) {
      return ApiFail(403, blocks.error().message, "pin_limit_exceeded");
    }
    if (!blocks) return std::unexpected(FromServiceError(blocks.error()));
    return ordered_json{{"pinned", wanted}, {"blocks", *blocks}};
  }());
}
Answer HandlePin(App& app, const Call& call) { return Pin(app, call, true); }
Answer HandleUnpin(App& app, const Call& call) { return Pin(app, call, false); }

Answer HandleForget(App& app, const Call& call) {
  return Reply([&]() -> ApiResult<ordered_json> {
    FATHOM_TRY(KvCache* cache, NeedCache(app));
    FATHOM_TRY(const json body, ParseBody(call.body, app.options().max_json_depth));
    const RequestFields fields(body);
    FATHOM_TRY(const auto all, fields.Bool("all"));
    FATHOM_TRY(const auto everything, fields.Bool("everything"));
    Result<int64_t> erased = 0;
    if (all.value_or(false)) {
      erased = cache->ForgetTenant(call.caller.tenant);
    } else {
      FATHOM_TRY(const auto ids, PromptOf(app, body));
      erased = cache->Forget(call.caller.tenant, ids, everything.value_or(false));
    }
    if (!erased) return std::unexpected(FromServiceError(erased.error()));
    return ordered_json{{"erased_blocks", *erased}};
  }());
}

Answer HandleVerify(App& app, const Call&) {
  return Reply([&]() -> ApiResult<ordered_json> {
    FATHOM_TRY(KvCache* cache, NeedCache(app));
    // A shutdown does not wait for the whole disk to be read.
    const auto done = cache->Verify([&](int64_t, int64_t) { return !app.draining(); });
    if (!done) return std::unexpected(FromServiceError(done.error()));
    return ordered_json{{"read_blocks", done->first}, {"dropped_blocks", done->second}};
  }());
}

Answer HandleCollect(App& app, const Call&) {
  return Reply([&]() -> ApiResult<ordered_json> {
    FATHOM_TRY(KvCache* cache, NeedCache(app));
    const auto dropped = cache->CollectGarbage();
    if (!dropped) return std::unexpected(FromServiceError(dropped.error()));
    return ordered_json{{"dropped_blocks", *dropped}};
  }());
}

}  // namespace

void AddCacheRoutes(std::vector<Route>& routes) {
  const auto add = [&](std::string_view method, std::string_view pattern, bool admin,
                       Answer (*handle)(App&, const Call&)) {
    routes.push_back({.method = method, .pattern = pattern, .slow = true, .admin = admin, .handle = handle});
  };
  add("GET", "/v1/cache", true, HandleStat);
  add("GET", "/v1/cache/stat", true, HandleStat);
  add("GET", "/v1/cache/ls", true, HandleList);
  add("POST", "/v1/cache/explain", false, HandleExplain);
  add("POST", "/v1/cache/pin", false, HandlePin);
  add("POST", "/v1/cache/unpin", false, HandleUnpin);
  add("POST", "/v1/cache/forget", false, HandleForget);
  add("POST", "/v1/cache/verify", true, HandleVerify);
  add("POST", "/v1/cache/gc", true, HandleCollect);
}

}  // namespace fathom
