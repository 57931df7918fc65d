#include "server/openai_request.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "server/json_reader.h"

namespace fathom {

using nlohmann::json;

namespace {

constexpr int64_t kMaxTokens = std::numeric_limits<int32_t>::max();
constexpr size_t kMaxStops = 16;  // DeepSeek's limit; OpenAI's is 4
constexpr int64_t kLowEffortBudget = 1024;

/// A message's content: a string, or parts of text. The parts' own `type`s that are not text are refused by name.
ApiResult<std::string> ParseContent(const RequestFields& message, bool required) {
  const json* content = message.Find("content");
  if (content == nullptr) {
    if (!required) return std::string();
    return BadField(message.Name("content"), fmt::format("Missing required parameter: '{}'.", message.Name("content")),
                    "missing_required_parameter");
  }
  if (content->is_string()) return content->get<std::string>();
  if (!content->is_array()) return message.WrongType("content", "a string or an array of content parts");
  std::string text;
  for (size_t i = 0; i < content->size(); ++i) {
    const json& part = (*content)[i];
    const std::string where = fmt::format("{}[{}]", message.Name("content"), i);
    if (!part.is_object()) {
      return BadField(where, fmt::format("Invalid type for '{}': expected an object, but got {} instead.", where,
                                         JsonTypeName(part)), "invalid_type");
    }
    const RequestFields fields(part, where + ".");
    FATHOM_TRY(const auto type, fields.String("type"));
    if (type == "text" || type == "refusal") {
      FATHOM_TRY(const auto piece, fields.String(*type));
      if (!piece) {
        return BadField(fields.Name(*type), fmt::format("Missing required parameter: '{}'.", fields.Name(*type)),
                        "missing_required_parameter");
      }
      text += *piece;
    } else if (type == "image_url" || type == "input_audio" || type == "file" || type == "image") {
      return NotSupported(where + ".type", fmt::format("content of type '{}' is not supported yet: this server reads "
                                                       "text only", *type));
    } else {
      return BadField(where + ".type", fmt::format("Invalid value for '{}.type': only 'text' is known here.", where));
    }
  }
  return text;
}

ApiResult<ChatMessage> ParseMessage(const json& value, const std::string& where, bool& prefix) {
  if (!value.is_object()) {
    return BadField(where, fmt::format("Invalid type for '{}': expected an object, but got {} instead.", where,
                                       JsonTypeName(value)), "invalid_type");
  }
  const RequestFields fields(value, where + ".");
  FATHOM_TRY(const auto role, fields.String("role"));
  if (!role) {
    return BadField(fields.Name("role"), fmt::format("Missing required parameter: '{}'.", fields.Name("role")),
                    "missing_required_parameter");
  }
  ChatMessage message;
  if (role == "system" || role == "developer") {
    message.role = Role::kSystem;
  } else if (role == "user") {
    message.role = Role::kUser;
  } else if (role == "assistant") {
    message.role = Role::kAssistant;
    const json* calls = fields.Find("tool_calls");
    if ((calls != nullptr && !(calls->is_array() && calls->empty())) || fields.Find("function_call") != nullptr) {
      return NotSupported(fields.Name("tool_calls"), "tool calls are not supported yet");
    }
    FATHOM_TRY(auto reasoning, fields.String("reasoning_content"));
    if (reasoning) message.reasoning_content = std::move(*reasoning);
    FATHOM_TRY(const auto is_prefix, fields.Bool("prefix"));
    prefix = is_prefix.value_or(false);
  } else if (role == "tool" || role == "function") {
    return NotSupported(fields.Name("role"), fmt::format("messages of role '{}' are not supported yet", *role));
  } else {
    return BadField(fields.Name("role"),
                    fmt::format("Invalid value: '{}'. Supported values are: 'system', 'developer', 'user' and "
                                "'assistant'.", role->substr(0, 40)));
  }
  const bool required = message.role != Role::kAssistant || message.reasoning_content.empty();
  FATHOM_TRY(message.content, ParseContent(fields, required));
  return message;
}

ApiResult<void> ParseLogitBias(const RequestFields& fields, SamplingParams& sampling) {
  FATHOM_TRY(const json* biases, fields.Object("logit_bias"));
  if (biases == nullptr) return {};
  for (const auto& [key, value] : biases->items()) {
    TokenId id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0) {
      return BadField("logit_bias", fmt::format("Invalid key in 'logit_bias': {}. You should only be submitting token "
                                                "ids.", key.substr(0, 40)));
    }
    if (!value.is_number() || !(std::fabs(value.get<double>()) <= 100)) {
      return BadField("logit_bias", fmt::format("Invalid value of token {} in 'logit_bias': a number from -100 to 100 "
                                                "is expected.", id));
    }
    // OpenAI: -100 should ban a token, 100 should select nothing else.
    const auto bias = value.get<float>();
    sampling.logit_bias.emplace_back(id, bias == -100 ? -std::numeric_limits<float>::infinity() : bias);
  }
  return {};
}

/// What chat and text completions have in common.
ApiResult<void> ParseCommon(const json& body, ApiRequest& request) {
  const RequestFields fields(body);
  SamplingParams& sampling = request.sampling;
  FATHOM_TRY(const auto model, fields.String("model"));
  request.model = model.value_or("");
  FATHOM_TRY(const auto temperature, fields.Number("temperature", 0, 2));
  sampling.temperature = static_cast<float>(temperature.value_or(1));
  FATHOM_TRY(const auto top_p, fields.Number("top_p", 0, 1));
  // 0 means the likeliest token alone, which the sampler has under another name.
  if (top_p && *top_p <= 0) sampling.top_k = 1;
  else sampling.top_p = static_cast<float>(std::max(top_p.value_or(1), 1e-6));
  FATHOM_TRY(const auto presence, fields.Number("presence_penalty", -2, 2));
  sampling.presence_penalty = static_cast<float>(presence.value_or(0));
  FATHOM_TRY(const auto frequency, fields.Number("frequency_penalty", -2, 2));
  sampling.frequency_penalty = static_cast<float>(frequency.value_or(0));
  // Widely spoken extensions.
  FATHOM_TRY(const auto top_k, fields.Int("top_k", -1, 1 << 30));
  if (top_k && sampling.top_k == 0) sampling.top_k = static_cast<int32_t>(std::max<int64_t>(*top_k, 0));
  FATHOM_TRY(const auto min_p, fields.Number("min_p", 0, 1));
  sampling.min_p = static_cast<float>(min_p.value_or(0));
  for (const char* name : {"repetition_penalty", "repeat_penalty"}) {
    FATHOM_TRY(const auto penalty, fields.Number(name, 0.01, 100));
    if (penalty) sampling.repetition_penalty = static_cast<float>(*penalty);
  }
  FATHOM_TRY(const auto seed, fields.Int("seed", std::numeric_limits<int64_t>::min(),
                                         std::numeric_limits<int64_t>::max()));
  // The sampler's 0 asks for a seed of the system's; a client's 0 is a seed like any other.
  if (seed) sampling.seed = *seed == 0 ? 0x9E3779B97F4A7C15ull : static_cast<uint64_t>(*seed);
  FATHOM_CHECK_OK(ParseLogitBias(fields, sampling));
  FATHOM_TRY(request.stop, fields.Strings("stop", kMaxStops));
  FATHOM_TRY(const auto n, fields.Int("n", 1, kMaxChoices));
  request.n = static_cast<int32_t>(n.value_or(1));
  FATHOM_TRY(const auto ignore_eos, fields.Bool("ignore_eos"));
  request.ignore_eos = ignore_eos.value_or(false);
  FATHOM_TRY(const auto priority, fields.Int("priority", -8, 8));
  request.priority = static_cast<int32_t>(priority.value_or(0));
  FATHOM_TRY(const auto cache_prompt, fields.Bool("cache_prompt"));
  request.use_cache = cache_prompt.value_or(true);
  FATHOM_TRY(const auto stream, fields.Bool("stream"));
  request.stream = stream.value_or(false);
  FATHOM_TRY(const json* stream_options, fields.Object("stream_options"));
  if (stream_options != nullptr) {
    if (!request.stream) {
      return BadField("stream_options", "The 'stream_options' parameter is only allowed when 'stream' is enabled.");
    }
    const RequestFields options(*stream_options, "stream_options.");
    FATHOM_TRY(const auto include_usage, options.Bool("include_usage"));
    request.include_usage = include_usage.value_or(false);
  }
  FATHOM_TRY(const auto return_progress, fields.Bool("return_progress"));
  request.return_progress = return_progress.value_or(false);
  return {};
}

ApiResult<void> ParseEffort(const RequestFields& fields, ApiRequest& request) {
  FATHOM_TRY(const auto effort, fields.String("reasoning_effort"));
  if (!effort) return {};
  if (*effort == "none") {
    request.thinking = ThinkingMode::kOff;
  } else if (*effort == "minimal" || *effort == "low") {
    if (request.thinking == ThinkingMode::kModelDefault) request.thinking = ThinkingMode::kOn;
    if (request.max_thinking_tokens < 0) request.max_thinking_tokens = kLowEffortBudget;
  } else if (*effort == "medium" || *effort == "high" || *effort == "xhigh" || *effort == "max" || *effort == "ultra") {
    if (request.thinking == ThinkingMode::kModelDefault) request.thinking = ThinkingMode::kOn;
  } else {
    return BadField("reasoning_effort", "Invalid value for 'reasoning_effort'. Supported values are: 'none', 'minimal', "
                                        "'low', 'medium', 'high', 'xhigh' and 'max'.");
  }
  return {};
}

ApiResult<void> ParseThinking(const RequestFields& fields, const json& body, ApiRequest& request) {
  // DeepSeek's retired model names, which clients still send.
  if (request.model == "deepseek-reasoner") request.thinking = ThinkingMode::kOn;
  if (request.model == "deepseek-chat") request.thinking = ThinkingMode::kAvoid;
  FATHOM_TRY(const json* arguments, fields.Object("chat_template_kwargs"));
  if (arguments != nullptr) {
    const RequestFields kwargs(*arguments, "chat_template_kwargs.");
    for (const char* name : {"enable_thinking", "thinking"}) {
      FATHOM_TRY(const auto on, kwargs.Bool(name));
      if (on) request.thinking = *on ? ThinkingMode::kOn : ThinkingMode::kOff;
    }
  }
  FATHOM_TRY(const auto enable, fields.Bool("enable_thinking"));
  if (enable) request.thinking = *enable ? ThinkingMode::kOn : ThinkingMode::kOff;
  FATHOM_CHECK_OK(ParseThinkingObject(body, request));
  FATHOM_TRY(const auto budget, fields.Int("thinking_budget", 0, kMaxTokens));
  if (budget) request.max_thinking_tokens = *budget;
  return ParseEffort(fields, request);
}

ApiResult<void> RefuseResponseFormat(const RequestFields& fields) {
  FATHOM_TRY(const json* format, fields.Object("response_format"));
  if (format == nullptr) return {};
  const RequestFields inside(*format, "response_format.");
  FATHOM_TRY(const auto type, inside.String("type"));
  if (type == "text") return {};
  if (type == "json_object" || type == "json_schema") {
    return NotSupported("response_format", fmt::format("response_format of type '{}' is not supported yet", *type));
  }
  return BadField("response_format.type", "Invalid value for 'response_format.type'. Supported values are: 'text'.");
}

}  // namespace

ApiResult<void> ParseThinkingObject(const json& body, ApiRequest& request) {
  const RequestFields fields(body);
  // Older clients of other servers send a plain boolean.
  if (const json* plain = fields.Find("thinking"); plain != nullptr && plain->is_boolean()) {
    request.thinking = plain->get<bool>() ? ThinkingMode::kOn : ThinkingMode::kOff;
    return {};
  }
  FATHOM_TRY(const json* thinking, fields.Object("thinking"));
  if (thinking == nullptr) return {};
  const RequestFields inside(*thinking, "thinking.");
  FATHOM_TRY(const auto type, inside.String("type"));
  if (type == "enabled" || type == "adaptive") {
    request.thinking = ThinkingMode::kOn;
    FATHOM_TRY(const auto budget, inside.Int("budget_tokens", 0, kMaxTokens));
    if (budget) request.max_thinking_tokens = *budget;
  } else if (type == "disabled") {
    request.thinking = ThinkingMode::kOff;
  } else {
    return BadField("thinking.type", "Invalid value for 'thinking.type'. Supported values are: 'enabled', 'disabled' "
                                     "and 'adaptive'.");
  }
  return {};
}

ApiResult<void> RefuseTools(const json& body) {
  const RequestFields fields(body);
  FATHOM_TRY(const json* tools, fields.Array("tools"));
  FATHOM_TRY(const json* functions, fields.Array("functions"));
  const json* choice = fields.Find("tool_choice");
  const bool none = choice != nullptr && (*choice == "none" || (choice->is_object() && choice->contains("type") &&
                                                                (*choice)["type"] == "none"));
  if (none) return {};
  if (tools != nullptr && !tools->empty()) {
    return NotSupported("tools", "tools are not supported yet; send none, or tool_choice \"none\"");
  }
  if (functions != nullptr && !functions->empty()) return NotSupported("functions", "functions are not supported yet");
  const bool automatic = choice != nullptr && (*choice == "auto" || (choice->is_object() && choice->contains("type") &&
                                                                     (*choice)["type"] == "auto"));
  if (choice != nullptr && !automatic) return NotSupported("tool_choice", "tools are not supported yet");
  return {};
}

ApiResult<void> ParseMessages(const json& body, ApiRequest& request) {
  const RequestFields fields(body);
  FATHOM_TRY(const json* messages, fields.Array("messages"));
  if (messages == nullptr) {
    return BadField("messages", "Missing required parameter: 'messages'.", "missing_required_parameter");
  }
  if (messages->empty()) {
    return BadField("messages", "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an "
                                "empty array instead.", "empty_array");
  }
  for (size_t i = 0; i < messages->size(); ++i) {
    bool prefix = false;
    const std::string where = fmt::format("messages[{}]", i);
    FATHOM_TRY(ChatMessage message, ParseMessage((*messages)[i], where, prefix));
    if (prefix && i + 1 != messages->size()) {
      return BadField(where + ".prefix", "'prefix' is only allowed in the last message.");
    }
    request.continue_last = prefix;
    request.messages.push_back(std::move(message));
  }
  return {};
}

ApiResult<void> ParsePrompts(const json& body, ApiRequest& request) {
  const RequestFields fields(body);
  const json* prompt = fields.Find("prompt");
  if (prompt == nullptr) {
    return BadField("prompt", "Missing required parameter: 'prompt'.", "missing_required_parameter");
  }
  constexpr std::string_view kWanted = "a string, an array of token ids, or an array of strings or of arrays of ids";
  const auto ids_of = [&](const json& value) -> ApiResult<PromptInput> {
    PromptInput input{.text = {}, .ids = {}, .is_ids = true};
    input.ids.reserve(value.size());
    for (const json& id : value) {
      if (!id.is_number_integer()) return fields.WrongType("prompt", kWanted);
      const bool fits = id.is_number_unsigned() && id.get<uint64_t>() <= std::numeric_limits<int32_t>::max();
      if (!fits) return BadField("prompt", "Invalid 'prompt': a token id is out of range.");
      input.ids.push_back(static_cast<TokenId>(id.get<uint64_t>()));
    }
    if (input.ids.empty()) return BadField("prompt", "Invalid 'prompt': an empty array of token ids.");
    return input;
  };
  if (prompt->is_string()) {
    request.prompts.push_back({.text = prompt->get<std::string>(), .ids = {}, .is_ids = false});
    return {};
  }
  if (!prompt->is_array()) return fields.WrongType("prompt", kWanted);
  if (prompt->empty()) return BadField("prompt", "Invalid 'prompt': empty array.", "empty_array");
  if (prompt->front().is_number()) {
    FATHOM_TRY(auto input, ids_of(*prompt));
    request.prompts.push_back(std::move(input));
    return {};
  }
  if (prompt->size() > static_cast<size_t>(kMaxChoices)) {
    return BadField("prompt", fmt::format("Invalid 'prompt': at most {} prompts at once.", kMaxChoices),
                    "array_above_max_length");
  }
  for (const json& item : *prompt) {
    if (item.is_string()) {
      request.prompts.push_back({.text = item.get<std::string>(), .ids = {}, .is_ids = false});
    } else if (item.is_array()) {
      FATHOM_TRY(auto input, ids_of(item));
      request.prompts.push_back(std::move(input));
    } else {
      return fields.WrongType("prompt", kWanted);
    }
  }
  return {};
}

ApiResult<ApiRequest> ParseChatRequest(const json& body) {
  ApiRequest request;
  const RequestFields fields(body);
  FATHOM_CHECK_OK(ParseMessages(body, request));
  FATHOM_CHECK_OK(ParseCommon(body, request));
  FATHOM_CHECK_OK(RefuseTools(body));
  FATHOM_CHECK_OK(RefuseResponseFormat(fields));
  FATHOM_TRY(const json* modalities, fields.Array("modalities"));
  if (modalities != nullptr && std::ranges::any_of(*modalities, [](const json& one) { return one != "text"; })) {
    return NotSupported("modalities", "this server answers in text only");
  }
  FATHOM_CHECK_OK(ParseThinking(fields, body, request));
  FATHOM_TRY(const auto max_tokens, fields.Int("max_tokens", 1, kMaxTokens));
  FATHOM_TRY(const auto max_completion, fields.Int("max_completion_tokens", 1, kMaxTokens));
  request.max_tokens = max_completion.value_or(max_tokens.value_or(-1));
  FATHOM_TRY(const auto logprobs, fields.Bool("logprobs"));
  FATHOM_TRY(const auto top_logprobs, fields.Int("top_logprobs", 0, 20));
  if (top_logprobs && !logprobs.value_or(false)) {
    return BadField("top_logprobs", "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.");
  }
  if (logprobs.value_or(false)) request.logprobs = static_cast<int32_t>(top_logprobs.value_or(0));
  return request;
}

ApiResult<ApiRequest> ParseCompletionRequest(const json& body) {
  ApiRequest request;
  const RequestFields fields(body);
  FATHOM_CHECK_OK(ParsePrompts(body, request));
  FATHOM_CHECK_OK(ParseCommon(body, request));
  FATHOM_TRY(const auto suffix, fields.String("suffix"));
  if (suffix && !suffix->empty()) {
    return NotSupported("suffix", "'suffix' (filling in the middle) is not supported");
  }
  FATHOM_TRY(const auto best_of, fields.Int("best_of", 1, kMaxChoices));
  if (best_of && *best_of != request.n) return NotSupported("best_of", "'best_of' other than 'n' is not supported");
  // 16 is the API's own default.
  FATHOM_TRY(const auto max_tokens, fields.Int("max_tokens", 0, kMaxTokens));
  request.max_tokens = max_tokens.value_or(16);
  FATHOM_TRY(const auto echo, fields.Bool("echo"));
  request.echo = echo.value_or(false);
  // Some clients send chat's boolean.
  if (const json* logprobs = fields.Find("logprobs"); logprobs != nullptr && logprobs->is_boolean()) {
    request.logprobs = logprobs->get<bool>() ? 0 : -1;
  } else {
    FATHOM_TRY(const auto count, fields.Int("logprobs", 0, 20));
    request.logprobs = static_cast<int32_t>(count.value_or(-1));
  }
  if (request.echo && request.logprobs >= 0) {
    return NotSupported("logprobs", "'logprobs' of an echoed prompt are not supported; send echo without logprobs");
  }
  if (request.prompts.size() * static_cast<size_t>(request.n) > static_cast<size_t>(kMaxChoices)) {
    return BadField("n", fmt::format("Invalid 'n': at most {} answers over all prompts.", kMaxChoices));
  }
  return request;
}

}  // namespace fathom
