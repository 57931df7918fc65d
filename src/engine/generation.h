// One answer as it grows: draws the next token from logits, turns tokens into text, and knows when to end. What a lone
// Session and a batch have in common, so that both give the same answer. Internal to engine/.
//
// One per answer; not thread-safe. The tokenizer outlives it; nullptr: ids only, no text, no end tokens.
#pragma once

#include <algorithm>
#include <deque>
#include <limits>
#include <optional>
#include <span>

#include "engine/engine.h"
#include "engine/sampler.h"

namespace fathom {

// Tokens to what is shown: detokeniser, then stop strings, then the split into reasoning and answer.
class OutputPipeline {
 public:
  OutputPipeline(const Tokenizer& tokenizer, const GenerationParams& params)
      : detokenizer_(tokenizer),
        stop_(params.stop),
        reasoning_(params.starts_in_thinking),
        parse_(params.parse_reasoning) {}

  /// Fills the emission's texts from one more token; true when a stop string was completed.
  bool Push(TokenId token, Emission& out);
  void Flush(Emission& out);
  /// Inside the reasoning, also where it is not split off.
  bool thinking() const { return reasoning_.inside(); }

 private:
  void Show(const std::string& text, Emission& out);

  StreamingDetokenizer detokenizer_;
  StopMatcher stop_;
  ReasoningParser reasoning_;
  bool parse_;
};

class Generation {
 public:
  /// REQUIRES: ValidateSampling passed. context_length: tokens that prompt and answer may have together.
  Generation(const Tokenizer* tokenizer, const GenerationParams& params, int32_t context_length);

  /// Draws one token from `logits` (changed in place) and emits it. `held`: the tokens evaluated so far, prompt first.
  /// Returns the token to evaluate next, or nothing when the answer has ended; then only Finish() may be called.
  std::optional<TokenId> Next(std::span<float> logits, std::span<const TokenId> held, const EmitFn& emit);
  /// After `tokens` tokens of reasoning (>= 0) the marks that close it are the next ones, whatever the logits say; once in
  /// an answer. Called before the first Next(). Without a tokenizer nothing is known of reasoning.
  void LimitThinking(int64_t tokens);
  /// Tokens drawn inside the reasoning, those that closed it by force not counted.
  int64_t reasoning_tokens() const { return reasoning_tokens_; }
  /// Ends the answer before its time: only Finish() may be called now.
  void Cancel() { result_.finish_reason = FinishReason::kCancelled; }
  /// Tokens drawn so far.
  int64_t drawn() const { return static_cast<int64_t>(result_.tokens.size()); }
  /// Tokens that may still be drawn, as far as max_tokens goes.
  int64_t remaining() const {
    return max_tokens_ < 0 ? std::numeric_limits<int64_t>::max() : std::max<int64_t>(0, max_tokens_ - drawn());
  }
  /// True when max_tokens leaves nothing to draw; asked before the first Next().
  bool AtLimit();
  /// The answer, without timings but for generated_tokens. What was held back of the text is emitted.
  GenerationResult Finish(const EmitFn& emit);

 private:
  void Collect(const Emission& emission);
  std::optional<TokenId> End(FinishReason reason);
  void WatchThinking(bool forced);

  const Tokenizer* tokenizer_;
  int32_t max_tokens_;
  bool ignore_eos_;
  int32_t context_length_;
  Sampler sampler_;
  std::optional<OutputPipeline> output_;
  GenerationResult result_;
  std::optional<int64_t> thinking_limit_;  // none, or reached
  int64_t reasoning_tokens_ = 0;
  std::deque<TokenId> forced_;             // to come next
  std::vector<TokenId> replay_;            // backwards
};

/// A prompt that can be answered: not empty, ids in range, shorter than the context. Errors: kInvalidArgument,
/// kResource (how long it is and what fits).
Status CheckPrompt(std::span<const TokenId> prompt, int32_t vocab_size, int32_t context_length);

}  // namespace fathom
