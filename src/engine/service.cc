#include "engine/service.h"

#include <algorithm>

#include "base/log.h"
#include "base/start_thread.h"
#include "engine/service_impl.h"

namespace fathom {
namespace {

constexpr int32_t kMostLogprobs = 20;
constexpr int32_t kMostPriority = 8;
constexpr auto kPause = std::chrono::microseconds(300);

double Seconds(std::chrono::steady_clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

int64_t BlocksOf(const KvPool& pool) {
  return pool.max_bytes() == 0 ? -1 : std::max<int64_t>(1, pool.max_bytes() / pool.layout().block_bytes());
}

int32_t MostTokens(int32_t context_length, int64_t blocks) {
  return blocks < 0 ? context_length
                    : static_cast<int32_t>(std::min<int64_t>(context_length, blocks * KvLayout::kBlockTokens));
}

}  // namespace

Result<std::unique_ptr<Service>> Service::Create(Engine& engine, const ServiceOptions& options) {
  return engine.NewService(options);
}

Status ServiceImpl::Check(const ServiceOptions& options) {
  const auto check = [](const char* field, int64_t value, int64_t low, int64_t high) -> Status {
    if (value >= low && value <= high) return {};
    return Fail(ErrorCode::kInvalidArgument, "{} is {}, it must lie in [{}, {}]", field, value, low, high);
  };
  FATHOM_CHECK_OK(check("max_sequences", options.max_sequences, 1, 1024));
  FATHOM_CHECK_OK(check("max_queue", options.max_queue, 0, 1'000'000));
  FATHOM_CHECK_OK(check("step_tokens", options.step_tokens, 16, 65536));
  return check("cache.memory_bytes", options.cache.memory_bytes, 0, int64_t{1} << 60);
}

ServiceImpl::ServiceImpl(Parts parts, const ServiceOptions& options)
    : parts_(std::move(parts)),
      options_(options),
      total_blocks_(BlocksOf(*parts_.pool)),
      most_tokens_(MostTokens(parts_.context_length, total_blocks_)),
      planner_(parts_.forced_draft),
      drafter_(parts_.model) {}

Status ServiceImpl::Start() {
  FATHOM_TRY(thread_, StartThread([this] { Run(); }));
  return {};
}

ServiceImpl::~ServiceImpl() {
  {
    std::lock_guard lock(mutex_);
    draining_ = cancel_all_ = stop_ = true;
    interrupted_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  abandoned_.clear();
  if (parts_.cache) {
    if (const Status flushed = parts_.cache->Flush(); !flushed) spdlog::error("cache: {}", flushed.error().message);
  }
}

std::expected<void, SubmitError> ServiceImpl::CheckRequest(const ServiceRequest& request,
                                                           const ServiceCallbacks& callbacks) const {
  const auto refuse = [](Refusal why, std::string message) {
    return std::unexpected(SubmitError{why, std::move(message)});
  };
  const int32_t vocab = parts_.model.config().vocab_size;
  if (const Status valid = ValidateSampling(request.params.sampling, vocab); !valid) {
    return refuse(Refusal::kInvalid, valid.error().message);
  }
  if (most_tokens_ < parts_.context_length && request.prompt.size() >= static_cast<size_t>(most_tokens_)) {
    return refuse(Refusal::kTooLong, fmt::format("the prompt has {} tokens and the KV memory of {} MiB holds {}: shorten the "
                                                 "prompt or give more memory",
                                                 request.prompt.size(), parts_.pool->max_bytes() >> 20, most_tokens_));
  }
  if (const Status valid = CheckPrompt(request.prompt, vocab, parts_.context_length); !valid) {
    return refuse(valid.error().code == ErrorCode::kResource ? Refusal::kTooLong : Refusal::kInvalid,
                  valid.error().message);
  }
  if (request.logprobs < -1 || request.logprobs > kMostLogprobs) {
    return refuse(Refusal::kInvalid, fmt::format("logprobs is {}, it must lie in [0, {}], or be -1 for none",
                                                 request.logprobs, kMostLogprobs));
  }
  if (request.priority < -kMostPriority || request.priority > kMostPriority) {
    return refuse(Refusal::kInvalid, fmt::format("priority is {}, it must lie in [{}, {}]", request.priority,
                                                 -kMostPriority, kMostPriority));
  }
  if (request.max_thinking_tokens < -1) {
    return refuse(Refusal::kInvalid, fmt::format("max_thinking_tokens is {}", request.max_thinking_tokens));
  }
  if (!callbacks.on_done) return refuse(Refusal::kInvalid, "on_done is empty");
  return {};
}

std::expected<RequestId, SubmitError> ServiceImpl::Submit(ServiceRequest request, ServiceCallbacks callbacks) {
  FATHOM_CHECK_OK(CheckRequest(request, callbacks));
  auto sequence = std::make_unique<Sequence>(std::move(request), std::move(callbacks), *parts_.pool, parts_.tokenizer,
                                             most_tokens_, planner_, parts_.speculation, drafter_, parts_.mtp_pool);
  RequestId id = 0;
  {
    std::lock_guard lock(mutex_);
    if (draining_) return std::unexpected(SubmitError{Refusal::kDraining, "the service is shutting down"});
    // Those that will find a place in the batch at once do not count as queued.
    if (waiting_ >= options_.max_queue + std::max(0, options_.max_sequences - (alive_ - waiting_))) {
      return std::unexpected(
          SubmitError{Refusal::kQueueFull, fmt::format("{} requests are waiting already: try again later", waiting_)});
    }
    id = sequence->id = next_id_++;
    ++alive_;
    ++unreported_;
    ++waiting_;
    ++stats_.requests;
    arrived_.push_back(std::move(sequence));
    news_ = true;
  }
  wake_.notify_all();
  return id;
}

void ServiceImpl::Cancel(RequestId id) {
  {
    std::lock_guard lock(mutex_);
    cancels_.insert(id);
    interrupted_ = true;
  }
  wake_.notify_all();
}

void ServiceImpl::Drain(double seconds) {
  std::unique_lock lock(mutex_);
  draining_ = true;
  const auto most = std::chrono::duration<double>(std::clamp(seconds, 0.0, 1e7));
  if (!idle_.wait_for(lock, most, [&] { return unreported_ == 0; })) {
    cancel_all_ = true;
    interrupted_ = true;
    wake_.notify_all();
    idle_.wait(lock, [&] { return unreported_ == 0; });
  }
  lock.unlock();
  if (!parts_.cache) return;
  if (const Status flushed = parts_.cache->Flush(); !flushed) spdlog::error("cache: {}", flushed.error().message);
}

ServiceStats ServiceImpl::stats() const {
  ServiceStats stats;
  {
    std::lock_guard lock(mutex_);
    stats = stats_;
    stats.waiting = waiting_;
    stats.running = alive_ - waiting_;
  }
  if (parts_.cache) stats.cache = parts_.cache->stats();
  stats.experts = parts_.engine.expert_stats();
  return stats;
}

void ServiceImpl::Run() {
  while (TakeIn()) {
    CancelWanted();
    Admit();
    SettleLogits();
    SettleLoads();
    Step();
    Publish();
    if (parts_.share) parts_.share->Tick(Seconds(Clock::now().time_since_epoch()), rates_.prefill());
  }
}

// Waits while there is nothing to do.
bool ServiceImpl::TakeIn() {
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [&] { return !arrived_.empty() || !cancels_.empty() || stop_ || cancel_all_ || !sequences_.empty(); });
  for (auto& sequence : arrived_) {
    sequence->tenant =
        tenants_.emplace(sequence->request.tenant, static_cast<int32_t>(tenants_.size())).first->second;
    by_id_[sequence->id] = sequence.get();
    sequences_.push_back(std::move(sequence));
  }
  arrived_.clear();
  cancelling_.clear();
  std::swap(cancelling_, cancels_);
  interrupted_ = news_ = false;
  if (cancel_all_) {
    for (const auto& sequence : sequences_) cancelling_.insert(sequence->id);
  }
  if (cancel_all_ && !stop_) cancel_all_ = !sequences_.empty();
  return !stop_ || !sequences_.empty();
}

void ServiceImpl::CancelWanted() {
  for (const RequestId id : cancelling_) {
    Sequence* sequence = Find(id);
    if (sequence == nullptr) continue;
    sequence->generation.Cancel();
    End(*sequence);
  }
  cancelling_.clear();
}

ServiceImpl::Sequence* ServiceImpl::Find(RequestId id) {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : found->second;
}

void ServiceImpl::Describe() {
  described_.clear();
  const auto now = Clock::now();
  for (const auto& s : sequences_) {
    const auto blocks = s->kv.blocks();
    described_.push_back({.id = s->id,
                          .tenant = s->tenant,
                          .priority = std::max(s->request.priority, s->boost),
                          .arrival = s->id,
                          .age_seconds = Seconds(now - s->submitted),
                          .running = s->running,
                          .decoding = s->decoding(),
                          .stalled = s->stalled(),
                          .held = s->kv.length(),
                          .wanted = s->wanted(),
                          .blocks = static_cast<int64_t>(blocks.size()),
                          .shared_tail = !blocks.empty() && blocks.back().use_count() > 1,
                          .last_step = s->last_step});
  }
}

SchedulerState ServiceImpl::State(int64_t answers) {
  const bool longer = answers == 0 && parts_.prefill_rows;
  return {.sequences = described_,
          .max_sequences = options_.max_sequences,
          .step_tokens = longer ? parts_.prefill_rows(options_.step_tokens) : int64_t{options_.step_tokens},
          .free_blocks = FreeBlocks(),
          .answers_alone = rates_.WantsDecodeStep(answers),
          .decode_seconds = rates_.decode_seconds(answers),
          .prefill_row_seconds = rates_.prefill_row_seconds(),
          .many_rows_seconds = rates_.many_rows_seconds()};
}

void ServiceImpl::Admit() {
  bool any = false;
  for (const auto& sequence : sequences_) {
    sequence->boost = kNoBoost;
    any |= !sequence->running;
  }
  if (!any) return;
  Describe();
  if (total_blocks_ >= 0) CountSharedBlocks();
  const Admission admission = scheduler_.Admit(State(0), [&](uint64_t waiting, uint64_t running) {
    return Shares(*Find(waiting), *Find(running));
  });
  for (const uint64_t id : admission.park) Park(*Find(id));
  for (const uint64_t id : admission.join) Join(*Find(id));
  PrefetchWaiting();
}

void ServiceImpl::Step() {
  Describe();
  SchedulerSequence* loading = nullptr;
  int64_t answers = 0;
  bool others = false;
  for (SchedulerSequence& s : described_) {
    if (!s.running) continue;
    others |= !s.stalled;
    answers += !s.stalled && s.decoding;
    if (s.stalled && loading == nullptr && s.held % KvLayout::kBlockTokens == 0 && Find(s.id)->logits == nullptr) loading = &s;
  }
  if (!others) {
    if (loading == nullptr) return Pause();
    loading->stalled = false;  // layer by layer
  }
  const SchedulerState state = State(answers);
  answers_alone_ = state.answers_alone;
  const StepPlan plan = scheduler_.PlanStep(state);
  for (const uint64_t id : plan.park) Park(*Find(id));
  if (plan.rows.empty()) return Recover(Error{ErrorCode::kResource, "KV cache: no memory is left for this sequence"});
  if (const Status status = Forward(plan.rows); !status) Recover(status.error());
}

// For rows that are still arriving, or memory that somebody is about to let go of; something new ends it.
void ServiceImpl::Pause() {
  if (sequences_.empty()) return;
  std::unique_lock lock(mutex_);
  wake_.wait_for(lock, kPause, [&] { return !arrived_.empty() || !cancels_.empty() || cancel_all_; });
}

void ServiceImpl::Publish() {
  TellUrgent();
  int32_t waiting = 0, prefilling = 0;
  for (const auto& s : sequences_) {
    waiting += !s->running;
    prefilling += s->running && !s->decoding();
  }
  std::lock_guard lock(mutex_);
  counts_.requests = stats_.requests;
  counts_.prefill_rate = rates_.prefill_rate();
  counts_.decode_rate = rates_.decode_rate();
  counts_.prefilling = prefilling;
  counts_.kv_share_bytes = parts_.share ? parts_.share->kv_bytes() : 0;
  stats_ = counts_;
  waiting_ = waiting + static_cast<int32_t>(arrived_.size());
}

void ServiceImpl::Finish(Sequence& sequence, Result<ServiceResult> result) {
  if (!result) {
    ++counts_.failed;
  } else {
    ++(result->generation.finish_reason == FinishReason::kCancelled ? counts_.cancelled : counts_.finished);
  }
  const auto place = std::find_if(sequences_.begin(), sequences_.end(), [&](const auto& s) { return s.get() == &sequence; });
  const std::unique_ptr<Sequence> own = std::move(*place);
  sequences_.erase(place);
  by_id_.erase(own->id);
  own->kv.Truncate(0);
  DropLoad(*own);
  // Memory is free and the counters are right when the caller hears of it.
  Publish();
  {
    std::lock_guard lock(mutex_);
    --alive_;
  }
  own->callbacks.on_done(std::move(result));
  std::lock_guard lock(mutex_);
  if (--unreported_ == 0) idle_.notify_all();
}

}  // namespace fathom
