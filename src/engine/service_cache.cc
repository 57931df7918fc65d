// Where a sequence's rows come from and where they go: joining, parking, loads, shared beginnings, memory.
#include <algorithm>

#include "engine/batch_impl.h"
#include "engine/service_impl.h"

namespace fathom {
namespace {

constexpr int64_t kBlock = KvLayout::kBlockTokens;
// A common beginning shorter than this is not worth waiting for.
constexpr int64_t kLeastShared = 32;
// Waiting requests whose rows are fetched ahead: more would push each other out.
constexpr int32_t kPrefetches = 4;
constexpr int32_t kMostCuts = 1000;

double Seconds(std::chrono::steady_clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

bool ServiceImpl::Caches(const Sequence& sequence) const {
  return parts_.cache != nullptr && sequence.request.use_cache;
}

// Makes rows known that are not yet. Without `tail` whole blocks only.
void ServiceImpl::KeepRows(Sequence& sequence, bool tail) {
  const int64_t held = std::min(sequence.kv.length(), static_cast<int64_t>(sequence.tokens.size()));  // not guesses
  const int64_t rows = tail ? held : held / kBlock * kBlock;
  if (!Caches(sequence) || rows <= sequence.kept_tokens) return;
  // Not beyond rows that were cut and computed again. At an end everything is walked once: what the device had no room for
  // when it was computed is offered again.
  KeepCursor& cursor = sequence.keep_cursor;
  if (tail || cursor.blocks * kBlock > sequence.kept_tokens) cursor = {};
  parts_.cache->Keep(sequence.request.tenant, std::span(sequence.tokens).first(static_cast<size_t>(rows)),
                     sequence.kv.blocks().first(static_cast<size_t>((rows + kBlock - 1) / kBlock)), tail, &cursor);
  sequence.kept_tokens = rows;
}

void ServiceImpl::Join(Sequence& sequence) {
  const auto now = Clock::now();
  const bool first = sequence.joined == Clock::time_point{};
  if (first) {
    sequence.joined = now;
    sequence.timings.queue_seconds = Seconds(now - sequence.submitted);
  }
  sequence.running = true;
  sequence.leader = 0;
  std::vector<float> logits;
  if (Caches(sequence)) {
    const auto all = static_cast<int64_t>(sequence.tokens.size());
    KvPrefix prefix = parts_.cache->Acquire(sequence.request.tenant, sequence.tokens, all);
    int64_t tokens = std::min(prefix.tokens, all);
    const bool has_logits = prefix.last_logits.size() == static_cast<size_t>(parts_.model.config().vocab_size);
    if (tokens == all && has_logits) {
      logits = std::move(prefix.last_logits);
    } else if (tokens == all && prefix.logits) {
      sequence.logits = std::move(prefix.logits);
    } else if (tokens == all) {
      --tokens;  // its logits are not at hand
    }
    if (tokens > 0) {
      sequence.kv.Adopt(prefix.blocks, tokens);
      sequence.kept_tokens = tokens;
      sequence.load = std::move(prefix.load);
      sequence.load_began = now;
    }
    if (first) {
      sequence.cached_tokens = std::min(tokens, sequence.prompt_size());
      sequence.timings.cached_memory_tokens = std::min(prefix.memory_tokens, sequence.cached_tokens);
      sequence.timings.cached_disk_tokens = sequence.cached_tokens - sequence.timings.cached_memory_tokens;
      counts_.cached_tokens += sequence.cached_tokens;
      sequence.cache_reason = std::move(prefix.reason);
    }
  } else if (first) {
    sequence.cache_reason = parts_.cache == nullptr ? "there is no cache" : "the request does not use the cache";
  }
  if (first) Tell(sequence, sequence.kv.length(), true);
  if (!logits.empty()) Draw(sequence, logits, true);  // may end it
}

// Logits in flight: the next token is drawn from them, or its row is computed.
void ServiceImpl::SettleLogits() {
  for (size_t i = 0; i < sequences_.size(); ++i) {
    Sequence& sequence = *sequences_[i];
    if (sequence.logits == nullptr) continue;
    const KvLogits::State state = sequence.logits->state();
    if (state == KvLogits::State::kWaiting) continue;
    const auto arrived = std::exchange(sequence.logits, nullptr);
    std::vector<float> logits;
    if (state == KvLogits::State::kThere) logits = arrived->Take();
    if (logits.size() == static_cast<size_t>(parts_.model.config().vocab_size)) {
      const size_t before = sequences_.size();
      Draw(sequence, logits, true);  // may end it
      if (sequences_.size() < before) --i;
      continue;
    }
    if (sequence.wanted() > 0) continue;  // rows did not come either
    const int64_t tokens = sequence.kv.length() - 1;
    sequence.kv.Truncate(tokens);
    sequence.kept_tokens = std::min(sequence.kept_tokens, tokens);
    if (sequence.timings.preemptions == 0 && sequence.cached_tokens > tokens) {
      counts_.cached_tokens -= sequence.cached_tokens - tokens;
      sequence.cached_tokens = tokens;
      sequence.timings.cached_memory_tokens = std::min(sequence.timings.cached_memory_tokens, tokens);
      sequence.timings.cached_disk_tokens = tokens - sequence.timings.cached_memory_tokens;
    }
  }
}

void ServiceImpl::Park(Sequence& sequence) {
  sequence.logits.reset();
  if (sequence.load == nullptr) KeepRows(sequence, true);
  sequence.kv.Truncate(0);
  DropLoad(sequence);
  sequence.kept_tokens = 0;
  sequence.running = false;
  sequence.prefetched = true;  // it has just been here
  ++sequence.timings.preemptions;
  ++counts_.preempted;
}

// The warm-up of weights makes way for those who wait for the same disk.
void ServiceImpl::TellUrgent() {
  if (!parts_.urgent_reads) return;
  *parts_.urgent_reads = static_cast<int>(
      std::count_if(sequences_.begin(), sequences_.end(), [](const auto& sequence) { return sequence->stalled(); }));
}

// A load in flight has a waiter, which stands by its layers for as long as KvLoad thinks it worth while.
void ServiceImpl::SettleLoads() {
  const int64_t layers = parts_.pool->layout().layers;
  TellUrgent();
  for (const auto& sequence : sequences_) {
    if (sequence->load == nullptr) continue;
    if (!sequence->waiter) sequence->waiter = std::make_unique<LayerWaiter>(sequence->load, layers);
    switch (sequence->waiter->Wait(layers - 1, std::chrono::microseconds(0))) {
      case LayerWaiter::State::kThere:
        sequence->timings.load_seconds += Seconds(Clock::now() - sequence->load_began);
        DropLoad(*sequence);
        break;
      case LayerWaiter::State::kFailed: Cut(*sequence); break;
      case LayerWaiter::State::kNotYet: break;
    }
  }
  std::erase_if(abandoned_, [](const auto& waiter) { return waiter->finished(); });
}

// Before a layer of a step that began while rows were still arriving. False: the step is given up.
bool ServiceImpl::Arrived(Sequence& sequence, int64_t layer) {
  if (!sequence.waiter) sequence.waiter = std::make_unique<LayerWaiter>(sequence.load, parts_.pool->layout().layers);
  for (;;) {
    switch (sequence.waiter->Wait(layer, std::chrono::milliseconds(1))) {
      case LayerWaiter::State::kThere: return true;
      case LayerWaiter::State::kFailed: Cut(sequence); return false;
      case LayerWaiter::State::kNotYet: break;
    }
    if (interrupted_ || news_) return false;  // it goes on when the others have been seen to
  }
}

void ServiceImpl::DropLoad(Sequence& sequence) {
  sequence.load.reset();
  if (sequence.waiter && !sequence.waiter->finished()) abandoned_.push_back(std::move(sequence.waiter));
  sequence.waiter.reset();
}

// Rows did not come: they are computed, into blocks of the sequence's own. What stays may still be arriving.
void ServiceImpl::Cut(Sequence& sequence) {
  const int64_t before = sequence.kv.length();
  int64_t valid = std::clamp<int64_t>(sequence.load->valid_tokens(), 0, before);
  if (valid < before) valid = valid / kBlock * kBlock;
  if (++sequence.cuts > kMostCuts) valid = 0;  // so that this comes to an end whatever a load says
  sequence.kv.Truncate(valid);
  sequence.kept_tokens = valid;
  if (valid == 0) {
    sequence.timings.load_seconds += Seconds(Clock::now() - sequence.load_began);
    DropLoad(sequence);
  } else {
    sequence.waiter.reset();  // it has ended; another one waits for the rest
  }
  if (valid < sequence.cached_tokens && sequence.timings.preemptions == 0) {
    counts_.cached_tokens -= sequence.cached_tokens - valid;
    sequence.cached_tokens = valid;
    sequence.timings.cached_memory_tokens = std::min(sequence.timings.cached_memory_tokens, valid);
    sequence.timings.cached_disk_tokens = valid - sequence.timings.cached_memory_tokens;
    sequence.cache_reason += "; some of it could not be read in time and was computed";
  }
}

// Whether `running` is still to compute rows that `waiting` will need.
bool ServiceImpl::Shares(Sequence& waiting, Sequence& running) {
  if (!Caches(waiting) || !Caches(running) || waiting.tenant != running.tenant) return false;
  if (running.running && running.wanted() <= 1 && running.generation.drawn() > 0) return false;  // an answer
  // One that joins in this very round has no rows yet, and finds out what the cache has when it does.
  const int64_t kept = running.kept_tokens;
  if (waiting.leader != running.id) {
    const int64_t common = CommonPrefix(waiting.tokens, running.tokens);
    if (common < kept + kLeastShared) return false;
    waiting.leader = running.id;
    waiting.leader_tokens = common;
  }
  if (waiting.leader_tokens < kept + kLeastShared) return false;
  running.boost = std::max(running.boost, waiting.request.priority);
  return true;
}

// For the first few that wait: how many of the blocks they need are held by running ones anyway. Only when memory is so
// short that it matters.
void ServiceImpl::CountSharedBlocks() {
  int64_t free = FreeBlocks();
  int32_t counted = 0;
  for (SchedulerSequence& waiting : described_) {
    if (waiting.running) continue;
    free -= waiting.wanted / kBlock + 2;
    if (free >= 0) continue;
    if (++counted > kPrefetches) return;
    const Sequence& sequence = *by_id_[waiting.id];
    if (!Caches(sequence)) continue;
    for (const auto& other : sequences_) {
      if (!other->running || !Caches(*other) || other->tenant != sequence.tenant) continue;
      const int64_t common = std::min(CommonPrefix(sequence.tokens, other->tokens), other->kept_tokens);
      waiting.blocks = std::max(waiting.blocks, common / kBlock);
    }
  }
}

void ServiceImpl::PrefetchWaiting() {
  int32_t fetched = 0;
  for (const auto& sequence : sequences_) {
    if (sequence->running || !Caches(*sequence)) continue;
    if (++fetched > kPrefetches) return;
    if (sequence->prefetched || sequence->leader != 0) continue;
    sequence->prefetched = true;
    parts_.cache->Prefetch(sequence->request.tenant, sequence->tokens);
  }
}

// Blocks that running sequences could still take, if the cache lets go of all that nobody uses.
int64_t ServiceImpl::FreeBlocks() {
  if (total_blocks_ < 0) return -1;
  int64_t held = 0;
  for (const auto& sequence : sequences_) held += static_cast<int64_t>(sequence->kv.blocks().size());
  // Shared blocks were counted more than once; that matters only when memory is short.
  if (parts_.share || 2 * held > total_blocks_) {
    distinct_.clear();
    for (const auto& sequence : sequences_) {
      for (const KvBlockRef& block : sequence->kv.blocks()) distinct_.push_back(block.get());
    }
    std::sort(distinct_.begin(), distinct_.end());
    held = std::unique(distinct_.begin(), distinct_.end()) - distinct_.begin();
  }
  const int64_t lent = parts_.share ? parts_.share->ballast_blocks() : 0;
  return std::max<int64_t>(0, total_blocks_ - lent - held - hidden_blocks_);
}

}  // namespace fathom
