#include "server/anthropic_request.h"

#include <limits>

#include "server/json_reader.h"
#include "server/openai_request.h"

namespace fathom {

using nlohmann::json;

namespace {

constexpr size_t kMaxStops = 64;

std::unexpected<ApiError> Required(const std::string& field) {
  return BadField(field, fmt::format("{}: Field required", field));
}

/// Text of a string or of blocks; thinking blocks go to `reasoning` (nullptr: refused).
ApiResult<std::string> ParseBlocks(const json& content, const std::string& where, std::string* reasoning) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) return BadField(where, where + ": Input should be a valid string or list of blocks");
  std::string text;
  for (size_t i = 0; i < content.size(); ++i) {
    const std::string at = fmt::format("{}.{}", where, i);
    if (!content[i].is_object()) return BadField(at, at + ": Input should be an object");
    const RequestFields block(content[i], at + ".");
    FATHOM_TRY(const auto type, block.String("type"));
    if (!type) return Required(at + ".type");
    if (*type == "text") {
      FATHOM_TRY(const auto piece, block.String("text"));
      if (!piece) return Required(at + ".text");
      text += *piece;
    } else if (*type == "thinking" && reasoning != nullptr) {
      FATHOM_TRY(const auto piece, block.String("thinking"));
      if (!piece) return Required(at + ".thinking");
      *reasoning += *piece;
    } else if (*type == "redacted_thinking" && reasoning != nullptr) {
      // Nobody here could have written it; there is nothing to read.
    } else if (*type == "tool_use" || *type == "tool_result" || *type == "server_tool_use") {
      return NotSupported(at, fmt::format("{}: tools are not supported yet", at));
    } else if (*type == "image" || *type == "document" || *type == "search_result") {
      return NotSupported(at, fmt::format("{}: content of type '{}' is not supported yet: this server reads text only",
                                          at, *type));
    } else {
      return BadField(at, fmt::format("{}: Input tag '{}' is not known here", at, type->substr(0, 40)));
    }
  }
  return text;
}

ApiResult<void> ParseConversation(const RequestFields& fields, ApiRequest& request) {
  if (const json* system = fields.Find("system"); system != nullptr) {
    FATHOM_TRY(std::string text, ParseBlocks(*system, "system", nullptr));
    if (!text.empty()) request.messages.push_back({.role = Role::kSystem, .content = std::move(text), .reasoning_content = {}});
  }
  FATHOM_TRY(const json* messages, fields.Array("messages"));
  if (messages == nullptr) return Required("messages");
  if (messages->empty()) return BadField("messages", "messages: at least one message is required");
  for (size_t i = 0; i < messages->size(); ++i) {
    const std::string where = fmt::format("messages.{}", i);
    if (!(*messages)[i].is_object()) return BadField(where, where + ": Input should be an object");
    const RequestFields inside((*messages)[i], where + ".");
    FATHOM_TRY(const auto role, inside.String("role"));
    if (!role) return Required(where + ".role");
    ChatMessage message;
    if (*role == "assistant") message.role = Role::kAssistant;
    else if (*role == "system") message.role = Role::kSystem;
    else if (*role != "user") {
      return BadField(where + ".role", where + ".role: Input should be 'user' or 'assistant'");
    }
    const json* content = inside.Find("content");
    if (content == nullptr) return Required(where + ".content");
    std::string* reasoning = message.role == Role::kAssistant ? &message.reasoning_content : nullptr;
    FATHOM_TRY(message.content, ParseBlocks(*content, where + ".content", reasoning));
    request.messages.push_back(std::move(message));
  }
  // The answer begins with what stands there (prefill).
  request.continue_last = request.messages.back().role == Role::kAssistant;
  return {};
}

ApiResult<ApiRequest> Parse(const json& body, bool needs_max_tokens) {
  ApiRequest request;
  const RequestFields fields(body);
  FATHOM_TRY(const auto model, fields.String("model"));
  request.model = model.value_or("");
  FATHOM_CHECK_OK(ParseConversation(fields, request));
  FATHOM_CHECK_OK(RefuseTools(body));
  FATHOM_TRY(const auto max_tokens, fields.Int("max_tokens", 1, std::numeric_limits<int32_t>::max()));
  if (needs_max_tokens && !max_tokens) return Required("max_tokens");
  request.max_tokens = max_tokens.value_or(-1);
  FATHOM_TRY(const auto temperature, fields.Number("temperature", 0, 2));
  request.sampling.temperature = static_cast<float>(temperature.value_or(1));
  FATHOM_TRY(const auto top_k, fields.Int("top_k", 0, 1 << 30));
  request.sampling.top_k = static_cast<int32_t>(top_k.value_or(0));
  FATHOM_TRY(const auto top_p, fields.Number("top_p", 0, 1));
  if (top_p && *top_p <= 0) request.sampling.top_k = 1;
  else request.sampling.top_p = static_cast<float>(std::max(top_p.value_or(1), 1e-6));
  FATHOM_TRY(request.stop, fields.Strings("stop_sequences", kMaxStops));
  FATHOM_TRY(const auto stream, fields.Bool("stream"));
  request.stream = stream.value_or(false);
  request.thinking = ThinkingMode::kAvoid;
  FATHOM_CHECK_OK(ParseThinkingObject(body, request));
  if (needs_max_tokens && request.max_thinking_tokens >= request.max_tokens) {
    return BadField("thinking.budget_tokens", "max_tokens: must be greater than thinking.budget_tokens");
  }
  return request;
}

}  // namespace

ApiResult<ApiRequest> ParseMessagesRequest(const json& body) { return Parse(body, true); }
ApiResult<ApiRequest> ParseCountRequest(const json& body) { return Parse(body, false); }

}  // namespace fathom
