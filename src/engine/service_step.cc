// One pass of the model over pieces of many sequences, and what follows from it.
#include <algorithm>
#include <cmath>

#include "base/log.h"
#include "engine/logprobs.h"
#include "engine/service_impl.h"

namespace fathom {
namespace {

constexpr double kTellSeconds = 0.25;
// For how long a step without memory is tried again before somebody must go.
constexpr int64_t kBlock = KvLayout::kBlockTokens;
constexpr double kMostShort = 0.02, kMostShortAlone = 2;

double Seconds(std::chrono::steady_clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

// Which answers of the step have guesses behind their row.
void ServiceImpl::Guess(std::span<const RowGrant> rows) {
  if (parts_.speculation == SpeculationMode::kOff) return;
  DraftState state{.most_rows = options_.step_tokens};
  std::vector<Sequence*> guessing;
  std::vector<DraftOffer> offers;
  const int64_t spare = FreeBlocks() - 2 * static_cast<int64_t>(sequences_.size());
  int64_t prompt_rows = 0;
  for (const RowGrant& grant : rows) {
    Sequence& sequence = *Find(grant.id);
    sequence.guessed.clear();
    sequence.right = 0;
    sequence.drafts.Drop();
    state.most_rows -= grant.rows;
    if (!sequence.decoding()) {
      prompt_rows += grant.rows;
      continue;
    }
    ++state.answers;
    if (answers_alone_ || short_since_) continue;
    const auto tokens = static_cast<int64_t>(sequence.tokens.size());
    int64_t room = std::min(most_tokens_ - tokens, sequence.generation.remaining() - 1);
    // Guesses should not cost anybody memory.
    if (total_blocks_ >= 0 && spare <= 0) room = std::min(room, (kBlock - tokens % kBlock) % kBlock);
    if (const auto offer = sequence.drafts.Offer(sequence.tokens, room, sequence.context ? &*sequence.context : nullptr)) {
      guessing.push_back(&sequence);
      offers.push_back(*offer);
    }
  }
  if (offers.empty()) return;
  state.other_seconds = static_cast<double>(prompt_rows) * rates_.prefill_row_seconds();
  const std::vector<int64_t> counts = planner_.Plan(state, offers);
  std::vector<MtpDrafter::Job> jobs;
  for (size_t i = 0; i < guessing.size(); ++i) guessing[i]->drafts.Plan(counts[i], jobs);
  if (!jobs.empty()) {
    std::lock_guard lock(parts_.compute);
    if (!drafter_.Draft(jobs, planner_.LeastSure(state.answers))) {
      for (Sequence* sequence : guessing) sequence->drafts.Drop();
    }
  }
  for (Sequence* each : guessing) {
    Sequence& sequence = *each;
    if (!sequence.drafts.Take()) continue;
    sequence.guessed.assign(1, sequence.tokens.back());
    const auto draft = sequence.drafts.draft();
    sequence.guessed.insert(sequence.guessed.end(), draft.begin(), draft.end());
  }
}

Status ServiceImpl::Forward(std::span<const RowGrant> rows) {
  segments_.clear();
  active_.clear();
  int64_t logit_rows = 0;
  Guess(rows);
  for (const RowGrant& grant : rows) {
    Sequence& sequence = *Find(grant.id);
    const bool last = grant.rows == sequence.wanted();
    active_.push_back(&sequence);
    if (!sequence.guessed.empty()) {
      const auto count = static_cast<int64_t>(sequence.guessed.size());
      segments_.push_back({.kv = &sequence.kv, .tokens = sequence.guessed, .logits = count});
      logit_rows += count;
      continue;
    }
    segments_.push_back({.kv = &sequence.kv,
                         .tokens = std::span<const TokenId>(sequence.tokens)
                                       .subspan(static_cast<size_t>(sequence.kv.length()), static_cast<size_t>(grant.rows)),
                         .logits = last ? 1 : 0});
    logit_rows += last;
  }
  if (parts_.mtp_pool != nullptr) PlaceHidden();
  const auto vocab = static_cast<size_t>(parts_.model.config().vocab_size);
  logits_.resize(static_cast<size_t>(logit_rows) * vocab);
  ++steps_;
  const auto start = Clock::now();
  {
    std::lock_guard lock(parts_.compute);
    FATHOM_CHECK_OK(parts_.model.Forward(segments_, logits_.data(),
                                         [&](int layer, int layers) { return OnLayer(layer, layers); }));
  }
  Measure(Seconds(Clock::now() - start));
  // Advance() may end sequences, never those of later segments.
  float* row = logits_.data();
  const std::vector<Segment> segments = segments_;
  const std::vector<Sequence*> active = active_;
  for (size_t i = 0; i < active.size(); ++i) {
    const size_t values = static_cast<size_t>(segments[i].logits) * vocab;
    Advance(*active[i], segments[i], std::span<float>(row, values));
    row += values;
  }
  return {};
}

void ServiceImpl::PlaceHidden() {
  int64_t rows = 0;
  for (Segment& segment : segments_) {
    segment.hidden_rows = std::min<int64_t>(static_cast<int64_t>(segment.tokens.size()), MtpContext::kMostWaiting);
    rows += segment.hidden_rows;
  }
  hidden_.resize(static_cast<size_t>(rows * drafter_.hidden_size()));
  float* next = hidden_.data();
  for (Segment& segment : segments_) {
    segment.hidden = next;
    next += segment.hidden_rows * drafter_.hidden_size();
  }
}

// The MTP layer takes in the states of a segment's first `kept` rows, which began at `begin`; the tokens after them stand
// in sequence.tokens.
void ServiceImpl::Collect(Sequence& sequence, const Segment& segment, int64_t begin, int64_t kept) {
  if (!sequence.context) return;
  const int64_t skipped = static_cast<int64_t>(segment.tokens.size()) - segment.hidden_rows;
  if (kept <= skipped) return;
  const auto after = std::span<const TokenId>(sequence.tokens).subspan(static_cast<size_t>(begin + skipped + 1));
  sequence.context->Add(begin + skipped, after.first(static_cast<size_t>(kept - skipped)), segment.hidden);
}

bool ServiceImpl::OnLayer(int layer, int layers) {
  for (size_t i = 0; i < active_.size(); ++i) {
    Sequence& sequence = *active_[i];
    if (!sequence.decoding()) {
      const auto rows = static_cast<int64_t>(segments_[i].tokens.size());
      Tell(sequence, sequence.kv.length() + rows * layer / layers, false);
    }
    if (sequence.load && !Arrived(sequence, layer)) return false;
  }
  return !interrupted_ || !WorthStopping(layer, layers);
}

// A step is given up for somebody who left when that loses less than it saves: what the others have done so far against
// what he would still cost.
bool ServiceImpl::WorthStopping(int layer, int layers) {
  int64_t gone = 0, rest = 0;
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < active_.size(); ++i) {
    const auto rows = static_cast<int64_t>(segments_[i].tokens.size());
    (cancel_all_ || cancels_.contains(active_[i]->id) ? gone : rest) += rows;
  }
  return gone * (layers - layer) > rest * layer;
}

// A step that failed changed no sequence.
void ServiceImpl::Recover(const Error& error) {
  for (const auto& sequence : sequences_) {
    sequence->kv.Truncate(sequence->kv.length());  // rows reserved in vain
    sequence->drafts.Drop();
  }
  if (error.code == ErrorCode::kCancelled) return;  // somebody left, or rows did not come: the next round sees to it
  if (error.code != ErrorCode::kResource) {
    spdlog::error("a step failed: {}", error.message);
    std::vector<Sequence*> concerned;
    for (const int32_t segment : parts_.model.failed_segments()) concerned.push_back(active_[static_cast<size_t>(segment)]);
    if (concerned.empty()) concerned = active_;  // the others' rows come in the next step
    for (Sequence* sequence : concerned) Finish(*sequence, std::unexpected(error));
    return;
  }
  // There is less memory than the plan thought: pinned blocks, blocks being written or read. Those come back in a
  // moment; if not, the last in rank makes room, and one that is alone gives up when waiting has not helped.
  const auto now = Clock::now();
  if (!short_since_) short_since_ = now;
  Describe();
  Sequence& last = *Find(Scheduler::Last(described_));
  const bool alone = std::count_if(sequences_.begin(), sequences_.end(), [](const auto& s) { return s->running; }) <= 1;
  const int64_t begun = last.kv.length() / KvLayout::kBlockTokens * KvLayout::kBlockTokens;
  if (alone && last.load == nullptr && begun < last.kv.length() && last.kv.blocks().back().use_count() > 1) {
    // Its last block is shared, and there is none to copy it to: those few rows once more, into a block of its own.
    last.kv.Truncate(begun);
    last.kept_tokens = std::min(last.kept_tokens, begun);
    return;
  }
  if (Seconds(now - *short_since_) < (alone ? kMostShortAlone : kMostShort)) return Pause();
  if (total_blocks_ >= 0) hidden_blocks_ += std::max<int64_t>(1, FreeBlocks());
  short_since_.reset();
  if (!alone) return Park(last);
  Finish(last, std::unexpected(error));
}

void ServiceImpl::Measure(double seconds) {
  StepSample sample{.seconds = seconds};
  bool waited = false;
  for (size_t i = 0; i < active_.size(); ++i) {
    Sequence& sequence = *active_[i];
    const auto rows = static_cast<int64_t>(segments_[i].tokens.size());
    sequence.last_step = steps_;
    if (sequence.load) {  // every layer was waited for
      sequence.timings.load_seconds += Seconds(Clock::now() - sequence.load_began);
      DropLoad(sequence);
      waited = true;
    }
    const auto guesses = static_cast<int64_t>(sequence.drafts.draft().size());
    if (sequence.generation.drawn() > 0 && rows - guesses == 1) {
      ++sample.decode_rows;
      sample.draft_rows += guesses;
    } else {
      sample.prefill_rows += rows;
      // Forward() has made the sequence longer.
      sample.prefill_positions +=
          static_cast<double>(rows) * (static_cast<double>(sequence.kv.length()) - static_cast<double>(rows + 1) / 2);
    }
  }
  short_since_.reset();
  ++counts_.steps;
  counts_.step_rows = sample.decode_rows + sample.draft_rows + sample.prefill_rows;
  if (steps_ % 16 == 0) hidden_blocks_ /= 2;
  if (waited) return;  // says nothing about computing
  rates_.Add(sample);
  if (sample.prefill_rows == 0) planner_.AddStep(sample.decode_rows, sample.decode_rows + sample.draft_rows, seconds);
  if (parts_.cache && rates_.prefill().seconds_per_token > 0 && Seconds(Clock::now() - rates_told_) > kTellSeconds) {
    rates_told_ = Clock::now();
    parts_.cache->SetRates(rates_.prefill_beside(sample.decode_rows));
  }
}

// Takes in what a step brought to one sequence.
void ServiceImpl::Advance(Sequence& sequence, const Segment& segment, std::span<float> logits) {
  const auto rows = static_cast<int64_t>(segment.tokens.size());
  const int64_t begin = sequence.kv.length() - rows;
  const int64_t of_prompt = std::clamp<int64_t>(sequence.prompt_size() - begin, 0, rows);
  sequence.computed_tokens += of_prompt;
  counts_.prompt_tokens += of_prompt;
  KeepRows(sequence, false);
  if (logits.empty()) {
    Collect(sequence, segment, begin, rows);
    return Tell(sequence, sequence.kv.length(), false);
  }
  if (segment.logits == 1) {
    if (Draw(sequence, logits)) Collect(sequence, segment, begin, rows);
    return;
  }
  const size_t vocab = logits.size() / static_cast<size_t>(segment.logits);
  for (int64_t row = 0;; ++row) {
    if (!Draw(sequence, logits.subspan(static_cast<size_t>(row) * vocab, vocab))) return;
    if (row + 1 == rows || sequence.tokens.back() != sequence.guessed[static_cast<size_t>(row) + 1]) break;
    ++sequence.right;
  }
  Collect(sequence, segment, begin, sequence.right + 1);
  SettleDraft(sequence);
  sequence.kv.Truncate(static_cast<int64_t>(sequence.tokens.size()) - 1);
}

void ServiceImpl::SettleDraft(Sequence& sequence) {
  counts_.draft_tokens += static_cast<int64_t>(sequence.drafts.draft().size());
  counts_.draft_accepted += sequence.right;
  rates_.AddAccepted(sequence.right);
  sequence.drafts.Settle(sequence.right);
  sequence.right = 0;
}

// `logits` are those after sequence.tokens; changed.
bool ServiceImpl::Draw(Sequence& sequence, std::span<float> logits, bool from_cache) {
  if (sequence.generation.drawn() == 0) {
    sequence.first_token = Clock::now();
    sequence.timings.prompt_seconds = Seconds(sequence.first_token - sequence.joined);
    Tell(sequence, sequence.prompt_size(), true);
    if (Caches(sequence) && !from_cache) {
      KeepRows(sequence, true);
      parts_.cache->KeepLogits(sequence.request.tenant, sequence.tokens, logits);
    }
    if (sequence.generation.AtLimit()) return End(sequence), false;
  }
  if (sequence.request.logprobs >= 0) raw_.assign(logits.begin(), logits.end());
  const int64_t before = sequence.generation.drawn();
  const auto next = sequence.generation.Next(logits, sequence.tokens,
                                             [&](const Emission& emission) { return Emit(sequence, emission); });
  counts_.generated_tokens += sequence.generation.drawn() - before;
  if (!next) return End(sequence), false;
  sequence.tokens.push_back(*next);
  return true;
}

bool ServiceImpl::Emit(Sequence& sequence, const Emission& emission) {
  if (!sequence.callbacks.on_token) return true;
  ServiceToken token;
  token.emission = emission;
  const int32_t count = sequence.request.logprobs;
  if (count >= 0 && emission.token >= 0) {
    const double total = LogSumExp(raw_);
    token.drawn = {emission.token, static_cast<float>(raw_[static_cast<size_t>(emission.token)] - total)};
    if (count > 0) token.top = TopLogprobs(raw_, count, total);
  }
  sequence.callbacks.on_token(token);
  return true;
}

void ServiceImpl::End(Sequence& sequence) {
  if (sequence.load == nullptr) KeepRows(sequence, true);
  SettleDraft(sequence);
  ServiceResult result;
  result.reasoning_tokens = sequence.generation.reasoning_tokens();
  result.cache_reason = std::move(sequence.cache_reason);
  result.generation = sequence.generation.Finish([&](const Emission& emission) { return Emit(sequence, emission); });
  const auto now = Clock::now();
  if (sequence.joined == Clock::time_point{}) sequence.timings.queue_seconds = Seconds(now - sequence.submitted);
  if (sequence.first_token != Clock::time_point{}) {
    sequence.timings.decode_seconds = Seconds(now - sequence.first_token);
  } else if (sequence.joined != Clock::time_point{}) {
    sequence.timings.prompt_seconds = Seconds(now - sequence.joined);
  }
  result.timings = sequence.timings;
  Timings& timings = result.generation.timings;
  timings.cached_tokens = sequence.cached_tokens;
  timings.prompt_tokens = sequence.prompt_size() - sequence.cached_tokens;
  timings.prompt_seconds = sequence.timings.prompt_seconds;
  timings.decode_seconds = sequence.timings.decode_seconds;
  timings.draft_tokens = sequence.drafts.drafted();
  timings.draft_accepted = sequence.drafts.accepted();
  Finish(sequence, std::move(result));
}

void ServiceImpl::Tell(Sequence& sequence, int64_t done, bool at_once) {
  if (!sequence.callbacks.on_progress || sequence.generation.drawn() > 0) return;
  const auto now = Clock::now();
  if (!at_once && Seconds(now - sequence.told) < kTellSeconds) return;
  sequence.told = now;
  sequence.callbacks.on_progress({.prompt_tokens = sequence.prompt_size(),
                                  .cached_tokens = sequence.cached_tokens,
                                  .done_tokens = std::min(done, sequence.prompt_size())});
}

}  // namespace fathom
