#include "server/logprobs.h"

#include <algorithm>

namespace fathom {
namespace {

std::string TextOf(const Tokenizer* tokenizer, TokenId id) {
  return tokenizer == nullptr ? std::string() : std::string(tokenizer->TokenBytes(id));
}

// JSON has no infinity: a token that cannot be drawn is told as OpenAI tells very unlikely ones.
double Finite(float logprob) { return std::max(static_cast<double>(logprob), -9999.0); }

ordered_json One(const Tokenizer* tokenizer, const TokenLogprob& token) {
  const std::string text = TextOf(tokenizer, token.token);
  ordered_json bytes = ordered_json::array();
  for (const char c : text) bytes.push_back(static_cast<unsigned char>(c));
  return {{"token", text}, {"logprob", Finite(token.logprob)}, {"bytes", std::move(bytes)}};
}

}  // namespace

ordered_json ChatLogprob(const Tokenizer* tokenizer, const ServiceToken& token) {
  ordered_json json = One(tokenizer, token.drawn.value_or(TokenLogprob{token.emission.token, 0}));
  ordered_json top = ordered_json::array();
  for (const TokenLogprob& one : token.top) top.push_back(One(tokenizer, one));
  json["top_logprobs"] = std::move(top);
  return json;
}

void CompletionLogprobs::Clear() {
  tokens_ = logprobs_ = top_ = offsets_ = ordered_json::array();
}

void CompletionLogprobs::Add(const Tokenizer* tokenizer, const ServiceToken& token) {
  const std::string text = TextOf(tokenizer, token.emission.token);
  tokens_.push_back(text);
  logprobs_.push_back(token.drawn ? ordered_json(Finite(token.drawn->logprob)) : ordered_json(nullptr));
  ordered_json top = ordered_json::object();
  for (const TokenLogprob& one : token.top) top[TextOf(tokenizer, one.token)] = Finite(one.logprob);
  top_.push_back(std::move(top));
  offsets_.push_back(offset_);
  offset_ += static_cast<int64_t>(text.size());
}

ordered_json CompletionLogprobs::Take() {
  ordered_json json = {{"tokens", std::move(tokens_)},
                       {"token_logprobs", std::move(logprobs_)},
                       {"top_logprobs", std::move(top_)},
                       {"text_offset", std::move(offsets_)}};
  Clear();
  return json;
}

}  // namespace fathom
