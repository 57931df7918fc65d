#include "server/prompt_builder.h"

namespace fathom {
namespace {

constexpr std::string_view kEndThink = "</think>";

ApiResult<void> NeedTokenizer(const Engine& engine) {
  if (engine.tokenizer() != nullptr) return {};
  return ApiFail(501, "this model's tokenizer cannot be used, so only token ids are understood: " +
                          engine.tokenizer_error(), "unsupported_feature");
}

void AppendMark(const Tokenizer& tokenizer, std::string_view mark, std::vector<TokenId>& ids) {
  if (const TokenId id = tokenizer.FindToken(mark); id >= 0) ids.push_back(id);
  else tokenizer.Encode(mark, TextTrust::kUser, ids);
}

bool WantsThinking(const Engine& engine, ThinkingMode mode) {
  switch (mode) {
    case ThinkingMode::kModelDefault: return engine.default_thinking();
    case ThinkingMode::kAvoid:
    case ThinkingMode::kOff: return false;
    case ThinkingMode::kOn: return true;
  }
  return false;
}

/// The prompt up to where the assistant begins, then what it has said already: its reasoning, and its answer, which the
/// model goes on with. Without a word of the answer it goes on with the reasoning.
ApiResult<PreparedPrompt> PrepareContinuation(const Engine& engine, const ApiRequest& request, ChatOptions options) {
  const Tokenizer& tokenizer = *engine.tokenizer();
  const ChatFormat format = engine.chat_format();
  std::vector<ChatMessage> before = request.messages;
  const ChatMessage said = std::move(before.back());
  before.pop_back();
  if (before.empty()) return BadField("messages", "The assistant's message to continue must follow another message.");
  // An answer that has begun without reasoning is one that is not reasoned about.
  if (!said.content.empty() && said.reasoning_content.empty()) options.thinking = false;
  auto ids = EncodeChat(format, tokenizer, before, options);
  if (!ids) return std::unexpected(FromServiceError(ids.error()));
  PreparedPrompt prompt{.ids = std::move(*ids)};
  bool inside = PromptEndsInThinking(format, options);
  if (inside) {
    tokenizer.Encode(said.reasoning_content, TextTrust::kUser, prompt.ids);
    if (!said.content.empty()) {
      AppendMark(tokenizer, kEndThink, prompt.ids);
      inside = false;
    }
  }
  std::string content = said.content;
  // "Assistant:" and the answer are one text in V2's format, where a space stands between them.
  if (format == ChatFormat::kDeepseekV2 && !content.empty() && content.front() != ' ') content.insert(0, 1, ' ');
  tokenizer.Encode(content, TextTrust::kUser, prompt.ids);
  prompt.starts_in_thinking = inside;
  prompt.parse_reasoning = inside || said.content.empty();
  return prompt;
}

ApiResult<PreparedPrompt> PrepareChat(const Engine& engine, const ApiRequest& request) {
  FATHOM_CHECK_OK(NeedTokenizer(engine));
  ChatOptions options;
  options.thinking = WantsThinking(engine, request.thinking);
  options.default_system = engine.default_system();
  if (request.continue_last) return PrepareContinuation(engine, request, options);
  PreparedPrompt prompt;
  auto ids = EncodeChat(engine.chat_format(), *engine.tokenizer(), request.messages, options);
  if (!ids) return std::unexpected(FromServiceError(ids.error()));
  prompt.ids = std::move(*ids);
  prompt.starts_in_thinking = PromptEndsInThinking(engine.chat_format(), options);
  return prompt;
}

}  // namespace

ApiResult<std::vector<PreparedPrompt>> PreparePrompts(const Engine& engine, const ApiRequest& request) {
  std::vector<PreparedPrompt> prompts;
  if (!request.messages.empty()) {
    FATHOM_TRY(auto prompt, PrepareChat(engine, request));
    prompts.push_back(std::move(prompt));
    return prompts;
  }
  for (const PromptInput& input : request.prompts) {
    // A raw prompt's answer is raw as well.
    PreparedPrompt prompt{.ids = input.ids, .starts_in_thinking = false, .parse_reasoning = false};
    if (!input.is_ids) {
      FATHOM_CHECK_OK(NeedTokenizer(engine));
      prompt.ids = EncodePrompt(*engine.tokenizer(), input.text);
      // An empty prompt is the beginning of a text.
      if (prompt.ids.empty() && engine.tokenizer()->bos_id() >= 0) prompt.ids.push_back(engine.tokenizer()->bos_id());
    }
    const int32_t vocab = engine.config().vocab_size;
    for (const TokenId id : prompt.ids) {
      if (id < 0 || id >= vocab) {
        return BadField("prompt", fmt::format("Invalid 'prompt': {} is not a token; the vocabulary has {}.", id, vocab));
      }
    }
    if (prompt.ids.empty()) return BadField("prompt", "Invalid 'prompt': it is empty.");
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

ApiResult<std::vector<ServiceRequest>> BuildServiceRequests(const Engine& engine, const ApiRequest& request,
                                                            std::string_view tenant) {
  if (const Status valid = ValidateSampling(request.sampling, engine.config().vocab_size); !valid) {
    return std::unexpected(FromServiceError(valid.error()));
  }
  FATHOM_TRY(const auto prompts, PreparePrompts(engine, request));
  std::vector<ServiceRequest> requests;
  for (const PreparedPrompt& prompt : prompts) {
    if (prompt.ids.size() >= static_cast<size_t>(engine.context_length())) {
      return std::unexpected(ApiError{
          400,
          fmt::format("This model's maximum context length is {} tokens. However, your prompt has {} tokens. Please "
                      "shorten it, or start the server with a larger --ctx.",
                      engine.context_length(), prompt.ids.size()),
          request.messages.empty() ? "prompt" : "messages", "context_length_exceeded"});
    }
    for (int32_t i = 0; i < request.n; ++i) {
      ServiceRequest one;
      one.prompt = prompt.ids;
      one.params.sampling = request.sampling;
      if (one.params.sampling.seed != 0) one.params.sampling.seed += static_cast<uint64_t>(i);
      one.params.max_tokens = static_cast<int32_t>(request.max_tokens);
      one.params.stop = request.stop;
      one.params.ignore_eos = request.ignore_eos;
      one.params.starts_in_thinking = prompt.starts_in_thinking;
      one.params.parse_reasoning = prompt.parse_reasoning;
      one.tenant = tenant;
      one.priority = request.priority;
      one.logprobs = request.logprobs;
      one.max_thinking_tokens = request.thinking == ThinkingMode::kOff ? 0 : request.max_thinking_tokens;
      one.use_cache = request.use_cache;
      requests.push_back(std::move(one));
    }
  }
  return requests;
}

}  // namespace fathom
