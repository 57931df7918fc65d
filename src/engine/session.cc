#include "engine/session.h"

#include <algorithm>
#include <chrono>

namespace fathom {
namespace {

using Clock = std::chrono::steady_clock;
double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Tokens to what is shown: detokeniser, then stop strings, then the split into reasoning and answer.
class OutputPipeline {
 public:
  OutputPipeline(const Tokenizer& tokenizer, const GenerationParams& params)
      : detokenizer_(tokenizer), stop_(params.stop), reasoning_(params.starts_in_thinking),
        parse_(params.parse_reasoning) {}

  /// Fills the emission's texts from one more token; true when a stop string was completed.
  bool Push(TokenId token, Emission& out) {
    Show(stop_.Push(detokenizer_.Push(token)), out);
    return stop_.stopped();
  }
  void Flush(Emission& out) {
    if (!stop_.stopped()) {
      Show(stop_.Push(detokenizer_.Flush()), out);
      Show(stop_.Flush(), out);
    }
    if (!parse_) return;
    ReasoningParser::Piece piece = reasoning_.Flush();
    out.reasoning += piece.reasoning;
    out.content += piece.content;
  }

 private:
  void Show(const std::string& text, Emission& out) {
    if (!parse_) {
      out.content += text;
      return;
    }
    ReasoningParser::Piece piece = reasoning_.Push(text);
    out.reasoning += piece.reasoning;
    out.content += piece.content;
  }

  StreamingDetokenizer detokenizer_;
  StopMatcher stop_;
  ReasoningParser reasoning_;
  bool parse_;
};

}  // namespace

void SessionImpl::Truncate(int64_t count) {
  if (count < 0 || count >= static_cast<int64_t>(tokens_.size())) return;
  tokens_.resize(count);
  kv_.Truncate(count);
  logits_.clear();
}

Status SessionImpl::CheckFits(size_t more) const {
  if (tokens_.size() + more <= static_cast<size_t>(context_length_)) return {};
  return Fail(ErrorCode::kResource, "the context holds {} tokens: {} are in use and {} more were to come",
              context_length_, tokens_.size(), more);
}

Status SessionImpl::Step(std::span<const TokenId> tokens, int64_t logit_rows, float* logits, const LayerFn& on_layer) {
  std::lock_guard lock(compute_);
  const Segment segment{.kv = &kv_, .tokens = tokens, .logits = logit_rows};
  Status status = model_.Forward({&segment, 1}, logits, on_layer);
  if (!status) {
    kv_.Truncate(static_cast<int64_t>(tokens_.size()));  // gives back rows reserved in vain
    return status;
  }
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  return {};
}

Status SessionImpl::Eval(std::span<const TokenId> tokens, const PrefillFn& progress) {
  FATHOM_CHECK_OK(CheckFits(tokens.size()));
  const int64_t total = static_cast<int64_t>(tokens.size());
  std::vector<float> logits(model_.config().vocab_size);
  for (int64_t done = 0; done < total;) {
    const int64_t count = std::min<int64_t>(prefill_chunk_, total - done);
    const bool last = done + count == total;
    LayerFn on_layer;
    if (progress) {
      on_layer = [&](int layer, int layers) { return progress(done + count * layer / layers, total); };
    }
    logits_.clear();
    FATHOM_CHECK_OK(Step(tokens.subspan(done, count), last ? 1 : 0, logits.data(), on_layer));
    done += count;
  }
  if (progress) progress(total, total);
  if (total > 0) logits_ = std::move(logits);
  return {};
}

Status SessionImpl::EvalAll(std::span<const TokenId> tokens, std::vector<float>& out) {
  FATHOM_CHECK_OK(CheckFits(tokens.size()));
  const size_t vocab = model_.config().vocab_size;
  out.resize(tokens.size() * vocab);
  for (size_t done = 0; done < tokens.size();) {
    const size_t count = std::min<size_t>(prefill_chunk_, tokens.size() - done);
    logits_.clear();
    FATHOM_CHECK_OK(Step(tokens.subspan(done, count), static_cast<int64_t>(count), out.data() + done * vocab, {}));
    done += count;
  }
  if (!tokens.empty()) logits_.assign(out.end() - static_cast<int64_t>(vocab), out.end());
  return {};
}

Result<int64_t> SessionImpl::Prefill(std::span<const TokenId> prompt, const PrefillFn& progress) {
  const size_t limit = std::min(prompt.size(), tokens_.size());
  size_t known = std::mismatch(prompt.begin(), prompt.begin() + limit, tokens_.begin()).first - prompt.begin();
  if (known == prompt.size() && (tokens_.size() > known || logits_.empty())) --known;  // its logits are not at hand
  Truncate(static_cast<int64_t>(known));
  FATHOM_CHECK_OK(Eval(prompt.subspan(known), progress));
  return static_cast<int64_t>(known);
}

Result<GenerationResult> SessionImpl::Generate(std::span<const TokenId> prompt, const GenerationParams& params,
                                               const EmitFn& emit, const PrefillFn& progress) {
  FATHOM_CHECK_OK(ValidateSampling(params.sampling, model_.config().vocab_size));
  if (prompt.empty()) return Fail(ErrorCode::kInvalidArgument, "the prompt is empty");
  if (prompt.size() >= static_cast<size_t>(context_length_)) {
    return Fail(ErrorCode::kResource,
                "the prompt has {} tokens and the context holds {}: shorten the prompt or ask for a longer context",
                prompt.size(), context_length_);
  }
  GenerationResult result;
  const auto prefill_start = Clock::now();
  FATHOM_TRY(result.timings.cached_tokens, Prefill(prompt, progress));
  result.timings.prompt_tokens = static_cast<int64_t>(prompt.size()) - result.timings.cached_tokens;
  result.timings.prompt_seconds = SecondsSince(prefill_start);

  Sampler sampler(params.sampling);
  result.seed = sampler.seed();
  std::optional<OutputPipeline> output;
  if (tokenizer_ != nullptr) output.emplace(*tokenizer_, params);
  const auto collect = [&](const Emission& emission) {
    result.reasoning += emission.reasoning;
    result.content += emission.content;
  };
  std::vector<float> logits;
  const auto decode_start = Clock::now();
  for (;;) {
    if (params.max_tokens >= 0 && static_cast<int64_t>(result.tokens.size()) >= params.max_tokens) {
      result.finish_reason = FinishReason::kLength;
      break;
    }
    logits = logits_;  // the sampler changes them; the session's stay true
    const TokenId token = sampler.Sample(logits, tokens_);
    result.tokens.push_back(token);
    Emission emission{.token = token, .reasoning = {}, .content = {}};
    if (tokenizer_ != nullptr && tokenizer_->IsEndOfGeneration(token) && !params.ignore_eos) {
      result.finish_reason = FinishReason::kStop;
      break;
    }
    const bool stopped = output && output->Push(token, emission);
    collect(emission);
    if (emit && !emit(emission)) {
      result.finish_reason = FinishReason::kCancelled;
      break;
    }
    if (stopped) {
      result.finish_reason = FinishReason::kStop;
      break;
    }
    if (tokens_.size() + 1 > static_cast<size_t>(context_length_)) {
      result.finish_reason = FinishReason::kContext;
      break;
    }
    if (params.max_tokens >= 0 && static_cast<int64_t>(result.tokens.size()) >= params.max_tokens) continue;
    FATHOM_CHECK_OK(Eval({&token, 1}, {}));
  }
  result.timings.decode_seconds = SecondsSince(decode_start);
  result.timings.generated_tokens = static_cast<int64_t>(result.tokens.size());
  if (output) {
    Emission rest;
    output->Flush(rest);
    collect(rest);
    if (emit && (!rest.content.empty() || !rest.reasoning.empty())) emit(rest);
  }
  return result;
}

}  // namespace fathom
