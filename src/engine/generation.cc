#include "engine/generation.h"

namespace fathom {

bool OutputPipeline::Push(TokenId token, Emission& out) {
  Show(stop_.Push(detokenizer_.Push(token)), out);
  return stop_.stopped();
}

void OutputPipeline::Flush(Emission& out) {
  if (!stop_.stopped()) {
    Show(stop_.Push(detokenizer_.Flush()), out);
    Show(stop_.Flush(), out);
  }
  if (!parse_) return;
  ReasoningParser::Piece piece = reasoning_.Flush();
  out.reasoning += piece.reasoning;
  out.content += piece.content;
}

void OutputPipeline::Show(const std::string& text, Emission& out) {
  ReasoningParser::Piece piece = reasoning_.Push(text);  // also to know where we are
  if (!parse_) {
    out.content += text;
    return;
  }
  out.reasoning += piece.reasoning;
  out.content += piece.content;
}

Generation::Generation(const Tokenizer* tokenizer, const GenerationParams& params, int32_t context_length)
    : tokenizer_(tokenizer),
      max_tokens_(params.max_tokens),
      ignore_eos_(params.ignore_eos),
      context_length_(context_length),
      sampler_(params.sampling),
      replay_(params.replay.rbegin(), params.replay.rend()) {
  result_.seed = sampler_.seed();
  if (tokenizer != nullptr) output_.emplace(*tokenizer, params);
}

void Generation::Collect(const Emission& emission) {
  result_.reasoning += emission.reasoning;
  result_.content += emission.content;
}

std::optional<TokenId> Generation::End(FinishReason reason) {
  result_.finish_reason = reason;
  return std::nullopt;
}

bool Generation::AtLimit() {
  if (max_tokens_ < 0 || static_cast<int64_t>(result_.tokens.size()) < max_tokens_) return false;
  result_.finish_reason = FinishReason::kLength;
  return true;
}

void Generation::LimitThinking(int64_t tokens) {
  thinking_limit_ = tokens;
  WatchThinking(true);  // a budget of nothing closes at once
}

// After each token, and before the first.
void Generation::WatchThinking(bool forced) {
  if (!output_) return;
  if (!output_->thinking()) {
    forced_.clear();  // closed by itself meanwhile
    return;
  }
  if (!forced) ++reasoning_tokens_;
  if (!thinking_limit_ || reasoning_tokens_ < *thinking_limit_) return;
  thinking_limit_.reset();
  const TokenId mark = tokenizer_->FindToken("</think>");
  if (mark >= 0) {
    forced_ = {mark};
  } else {
    const auto ids = tokenizer_->Encode("</think>", TextTrust::kTrusted);
    forced_.assign(ids.begin(), ids.end());
  }
}

std::optional<TokenId> Generation::Next(std::span<float> logits, std::span<const TokenId> held, const EmitFn& emit) {
  const bool forced = !forced_.empty();
  TokenId token;
  if (forced) {
    token = forced_.front();
    forced_.pop_front();
  } else if (!replay_.empty()) {
    token = replay_.back();
    replay_.pop_back();
  } else {
    token = sampler_.Sample(logits, held);
  }
  result_.tokens.push_back(token);
  if (tokenizer_ != nullptr && tokenizer_->IsEndOfGeneration(token) && !ignore_eos_) return End(FinishReason::kStop);
  Emission emission{.token = token, .reasoning = {}, .content = {}};
  const bool stopped = output_ && output_->Push(token, emission);
  Collect(emission);
  WatchThinking(forced);
  if (emit && !emit(emission)) return End(FinishReason::kCancelled);
  if (stopped) return End(FinishReason::kStop);
  if (held.size() + 1 > static_cast<size_t>(context_length_)) return End(FinishReason::kContext);
  if (AtLimit()) return std::nullopt;
  return token;
}

GenerationResult Generation::Finish(const EmitFn& emit) {
  result_.timings.generated_tokens = static_cast<int64_t>(result_.tokens.size());
  if (output_) {
    Emission rest;
    output_->Flush(rest);
    Collect(rest);
    if (emit && (!rest.content.empty() || !rest.reasoning.empty())) emit(rest);
  }
  return std::move(result_);
}

Status CheckPrompt(std::span<const TokenId> prompt, int32_t vocab_size, int32_t context_length) {
  if (prompt.empty()) return Fail(ErrorCode::kInvalidArgument, "the prompt is empty");
  for (const TokenId token : prompt) {
    if (token < 0 || token >= vocab_size) {
      return Fail(ErrorCode::kInvalidArgument, "token id {} is outside the vocabulary of {}", token, vocab_size);
    }
  }
  if (prompt.size() < static_cast<size_t>(context_length)) return {};
  return Fail(ErrorCode::kResource,
              "the prompt has {} tokens and the context holds {}: shorten the prompt or ask for a longer context",
              prompt.size(), context_length);
}

}  // namespace fathom
