#include "engine/session.h"

#include <algorithm>
#include <chrono>

#include "engine/generation.h"

namespace fathom {
namespace {

using Clock = std::chrono::steady_clock;
double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

void SessionImpl::Truncate(int64_t count) {
  if (count < 0 || count >= static_cast<int64_t>(tokens_.size())) return;
  tokens_.resize(count);
  kv_.Truncate(count);
  logits_.clear();
  last_hidden_.clear();
  if (context_) context_->Clear();
}

Status SessionImpl::CheckFits(size_t more) const {
  if (tokens_.size() + more <= static_cast<size_t>(context_length_)) return {};
  return Fail(ErrorCode::kResource, "the context holds {} tokens: {} are in use and {} more were to come",
              context_length_, tokens_.size(), more);
}

Status SessionImpl::Step(std::span<const TokenId> tokens, int64_t logit_rows, float* logits, const LayerFn& on_layer) {
  std::lock_guard lock(compute_);
  Segment segment{.kv = &kv_, .tokens = tokens, .logits = logit_rows};
  if (context_) {
    CollectLast(tokens.front());
    segment.hidden_rows = std::min<int64_t>(static_cast<int64_t>(tokens.size()), MtpContext::kMostWaiting);
    hidden_.resize(static_cast<size_t>(segment.hidden_rows * model_.config().hidden_size));
    segment.hidden = hidden_.data();
  }
  Status status = model_.Forward({&segment, 1}, logits, on_layer);
  if (!status) {
    kv_.Truncate(static_cast<int64_t>(tokens_.size()));  // gives back rows reserved in vain
    return status;
  }
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  return {};
}

void SessionImpl::CollectLast(TokenId next) {
  if (!context_ || last_hidden_.empty()) return;
  context_->Add(static_cast<int64_t>(tokens_.size()) - 1, {&next, 1}, last_hidden_.data());
  last_hidden_.clear();
}

void SessionImpl::Collect(int64_t rows) {
  if (!context_ || rows == 0) return;
  const int64_t size = model_.config().hidden_size;
  const float* hidden = hidden_.data();
  rows = std::min(rows, static_cast<int64_t>(hidden_.size()) / size);
  const auto end = static_cast<int64_t>(tokens_.size());
  context_->Add(end - rows, std::span(tokens_).last(static_cast<size_t>(rows - 1)), hidden);
  last_hidden_.assign(hidden + (rows - 1) * size, hidden + rows * size);
}

Status SessionImpl::Eval(std::span<const TokenId> tokens, const PrefillFn& progress) {
  FATHOM_CHECK_OK(CheckFits(tokens.size()));
  const int64_t total = static_cast<int64_t>(tokens.size());
  std::vector<float> logits(model_.config().vocab_size);
  for (int64_t done = 0; done < total;) {
    const int64_t count = std::min<int64_t>(prefill_rows_(), total - done);
    const bool last = done + count == total;
    LayerFn on_layer;
    if (progress) {
      on_layer = [&](int layer, int layers) { return progress(done + count * layer / layers, total); };
    }
    logits_.clear();
    FATHOM_CHECK_OK(Step(tokens.subspan(done, count), last ? 1 : 0, logits.data(), on_layer));
    Collect(count);
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
    const size_t count = std::min<size_t>(static_cast<size_t>(prefill_rows_()), tokens.size() - done);
    logits_.clear();
    FATHOM_CHECK_OK(Step(tokens.subspan(done, count), static_cast<int64_t>(count), out.data() + done * vocab, {}));
    Collect(static_cast<int64_t>(count));
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

// Fills step_ with the token and the guesses behind it.
void SessionImpl::Guess(TokenId token, const Generation& generation, SequenceDrafts& drafts) {
  step_.assign(1, token);
  if (speculation_ == SpeculationMode::kOff) return;
  CollectLast(token);
  tokens_.push_back(token);
  const int64_t room = context_length_ - static_cast<int64_t>(tokens_.size());
  const auto offer = drafts.Offer(tokens_, std::min(room, generation.remaining() - 1),
                                   context_ ? &*context_ : nullptr);
  tokens_.pop_back();
  if (!offer) return;
  std::vector<MtpDrafter::Job> jobs;
  drafts.Plan(planner_.Plan({.answers = 1, .most_rows = offer->most}, {&*offer, 1}).front(), jobs);
  if (!jobs.empty()) {
    std::lock_guard lock(compute_);
    if (!drafter_.Draft(jobs, planner_.LeastSure(1))) return drafts.Drop();  // then without
  }
  if (!drafts.Take()) return;
  step_.insert(step_.end(), drafts.draft().begin(), drafts.draft().end());
}

Result<std::optional<TokenId>> SessionImpl::Decode(TokenId token, Generation& generation, SequenceDrafts& drafts,
                                                   const EmitFn& emit) {
  FATHOM_CHECK_OK(CheckFits(1));
  Guess(token, generation, drafts);
  const auto rows = static_cast<int64_t>(step_.size());
  const auto vocab = static_cast<size_t>(model_.config().vocab_size);
  step_logits_.resize(step_.size() * vocab);
  logits_.clear();
  const auto start = Clock::now();
  FATHOM_CHECK_OK(Step(step_, rows, step_logits_.data(), {}));
  planner_.AddStep(1, rows, SecondsSince(start));
  const size_t base = tokens_.size() - step_.size();
  std::optional<TokenId> next;
  int64_t row = 0;
  for (;; ++row) {
    const std::span<float> logits = std::span(step_logits_).subspan(static_cast<size_t>(row) * vocab, vocab);
    logits_.assign(logits.begin(), logits.end());
    next = generation.Next(logits, std::span(tokens_).first(base + static_cast<size_t>(row) + 1), emit);
    if (!next || row + 1 == rows || *next != step_[static_cast<size_t>(row) + 1]) break;
  }
  drafts.Settle(row);
  tokens_.resize(base + static_cast<size_t>(row) + 1);
  kv_.Truncate(static_cast<int64_t>(tokens_.size()));
  Collect(row + 1);
  return next;
}

Result<GenerationResult> SessionImpl::Generate(std::span<const TokenId> prompt, const GenerationParams& params,
                                               const EmitFn& emit, const PrefillFn& progress) {
  FATHOM_CHECK_OK(ValidateSampling(params.sampling, model_.config().vocab_size));
  FATHOM_CHECK_OK(CheckPrompt(prompt, model_.config().vocab_size, context_length_));
  Timings timings;
  const auto prefill_start = Clock::now();
  FATHOM_TRY(timings.cached_tokens, Prefill(prompt, progress));
  timings.prompt_tokens = static_cast<int64_t>(prompt.size()) - timings.cached_tokens;
  timings.prompt_seconds = SecondsSince(prefill_start);

  Generation generation(tokenizer_, params, context_length_);
  SequenceDrafts drafts(planner_, params.speculate ? speculation_ : SpeculationMode::kOff, context_ ? &drafter_ : nullptr);
  const auto decode_start = Clock::now();
  if (!generation.AtLimit()) {
    step_logits_ = logits_;  // the sampler changes them; the session's stay true
    std::optional<TokenId> token = generation.Next(step_logits_, tokens_, emit);
    while (token) {
      FATHOM_TRY(token, Decode(*token, generation, drafts, emit));
    }
  }
  timings.decode_seconds = SecondsSince(decode_start);
  GenerationResult result = generation.Finish(emit);
  timings.generated_tokens = result.timings.generated_tokens;
  timings.draft_tokens = drafts.drafted();
  timings.draft_accepted = drafts.accepted();
  result.timings = timings;
  return result;
}

}  // namespace fathom
