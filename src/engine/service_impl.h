// The engine's own service: see service.h for the contract. Internal to engine/.
//
// One thread does everything but Submit, Cancel and stats. Its round: take in what has come, cancel, see which loads
// have arrived, let sequences join (Scheduler::Admit), plan (Scheduler::PlanStep), one pass of the model, take in the
// results. A sequence is a list of tokens (prompt, then what was drawn) and the rows of some of them; whatever it lacks
// it computes, and when it has all rows its logits give the next token. Parking it means letting go of its rows, which
// the cache keeps; coming back is joining once more with a longer prompt. So there is one path for fresh prompts, for
// answers, and for parked ones.
//
// Shared beginnings. Blocks are kept in the cache as they fill, and a prompt's last piece when it is done. A waiting
// sequence that has at least kLeastShared tokens in common with what a running one is still to compute is held back
// until those rows are kept, and then takes them from there.
//
// Guesses. An answer's row may have rows of guessed tokens behind it (speculation.h). While their logits are looked at, the
// sequence has more rows than tokens; those beyond its tokens do not count, and are gone when the step is.
//
// Loads. Rows on their way from a slower tier do not stop a step that others need: the sequence sits it out. When nobody
// else has work and its rows end with a block, the step begins at once and waits before each layer for that layer's
// rows; somebody new who comes while it waits ends it. (Rows that end inside a block are waited for: the step begins by
// copying that block.) A load that fails, or takes longer than KvLoad thinks it worth, is cut back to what it says is
// valid; nobody else loses anything.
//
// Logits of a prompt that is wholly known are in memory, or on their way as well: the first token is drawn from them when
// they come, whether its rows are there by then or not. If they do not come, the last token is computed.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <unordered_set>

#include "engine/generation.h"
#include "engine/layer_waiter.h"
#include "engine/memory_share.h"
#include "engine/rate_meter.h"
#include "engine/scheduler.h"
#include "engine/sequence_drafts.h"
#include "engine/service.h"
#include "model/model.h"

namespace fathom {

class ServiceImpl final : public Service {
 public:
  /// What it is made of. References outlive the service; `compute` is held while the model runs.
  struct Parts {
    Engine& engine;
    Model& model;
    std::mutex& compute;
    const Tokenizer* tokenizer = nullptr;
    int32_t context_length = 0;
    SpeculationMode speculation = SpeculationMode::kOff;
    int64_t forced_draft = 0;
    KvPool* mtp_pool = nullptr;  // nullptr: without the MTP layer
    // Rows of a step that is nothing but prompts, where step_tokens would do if no experts were streamed; may be empty.
    std::function<int64_t(int64_t)> prefill_rows = {};
    std::unique_ptr<KvPool> pool;
    std::unique_ptr<KvCache> cache = nullptr;  // may be nullptr
    std::unique_ptr<MemoryShare> share = nullptr;  // of memory with experts; may be nullptr
    std::shared_ptr<std::atomic<int>> urgent_reads = nullptr;  // told how many sequences wait for the disk
  };
  /// Options in range; the message names the field (kInvalidArgument).
  static Status Check(const ServiceOptions& options);
  ServiceImpl(Parts parts, const ServiceOptions& options);
  ~ServiceImpl() override;
  /// Once, before anything else. Errors: kResource: no thread can be had.
  Status Start();

  std::expected<RequestId, SubmitError> Submit(ServiceRequest request, ServiceCallbacks callbacks) override;
  void Cancel(RequestId id) override;
  void Drain(double seconds) override;
  ServiceStats stats() const override;
  KvCache* cache() override { return parts_.cache.get(); }
  const Engine& engine() const override { return parts_.engine; }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr int32_t kNoBoost = -100;
  struct Sequence;

  // service.cc: the round
  void Run();
  bool TakeIn();  // false: stop
  void CancelWanted();
  void Describe();  // fills described_
  SchedulerState State(int64_t answers);
  void Admit();
  void Step();
  void Pause();
  std::expected<void, SubmitError> CheckRequest(const ServiceRequest& request, const ServiceCallbacks& callbacks) const;
  Sequence* Find(RequestId id);
  void Publish();
  void Finish(Sequence& sequence, Result<ServiceResult> result);  // destroys it

  // service_step.cc: one pass of the model
  Status Forward(std::span<const RowGrant> rows);
  bool OnLayer(int layer, int layers);
  bool WorthStopping(int layer, int layers);
  void Recover(const Error& error);
  void Guess(std::span<const RowGrant> rows);
  void PlaceHidden();
  void Collect(Sequence& sequence, const Segment& segment, int64_t begin, int64_t kept);
  void Advance(Sequence& sequence, const Segment& segment, std::span<float> logits);
  bool Draw(Sequence& sequence, std::span<float> logits, bool from_cache = false);  // false: it has ended, and is gone
  void SettleDraft(Sequence& sequence);
  bool Emit(Sequence& sequence, const Emission& emission);
  void End(Sequence& sequence);  // a generation that has ended
  void Tell(Sequence& sequence, int64_t done, bool at_once);
  void Measure(double seconds);

  // service_cache.cc: rows from and to the cache
  bool Caches(const Sequence& sequence) const;
  void Join(Sequence& sequence);
  void Park(Sequence& sequence);
  void KeepRows(Sequence& sequence, bool tail);
  void SettleLogits();
  void TellUrgent();
  void SettleLoads();
  void Cut(Sequence& sequence);
  bool Arrived(Sequence& sequence, int64_t layer);
  void DropLoad(Sequence& sequence);
  bool Shares(Sequence& waiting, Sequence& running);
  void CountSharedBlocks();
  void PrefetchWaiting();
  int64_t FreeBlocks();

  Parts parts_;
  const ServiceOptions options_;
  const int64_t total_blocks_;  // of KV memory; -1: no limit
  const int32_t most_tokens_;   // that a sequence may hold

  // Between the threads.
  mutable std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::vector<std::unique_ptr<Sequence>> arrived_;
  std::unordered_set<RequestId> cancels_;
  std::atomic<bool> interrupted_{false};  // something stands in cancels_, or cancel_all_
  std::atomic<bool> news_{false};         // something stands in arrived_
  bool draining_ = false, cancel_all_ = false, stop_ = false;
  RequestId next_id_ = 1;
  int32_t alive_ = 0, waiting_ = 0;
  int32_t unreported_ = 0;  // as alive_, until on_done has returned
  ServiceStats stats_;

  // The thread's own.
  std::vector<std::unique_ptr<Sequence>> sequences_;  // in the order of arrival
  std::unordered_map<RequestId, Sequence*> by_id_;
  std::unordered_map<std::string, int32_t> tenants_;
  Scheduler scheduler_;
  RateMeter rates_;
  DraftPlanner planner_;
  MtpDrafter drafter_;
  std::vector<float> hidden_;  // states of the step's segments, for the MTP layer
  bool answers_alone_ = false;  // the step at hand is one of answers alone, to be measured
  ServiceStats counts_;       // published after each round
  std::optional<Clock::time_point> short_since_;  // steps have failed for want of memory since then
  int64_t hidden_blocks_ = 0;  // found to be out of reach though the plan counted on them; forgotten by and by
  uint64_t steps_ = 0;
  Clock::time_point rates_told_{};
  std::vector<SchedulerSequence> described_;
  std::vector<Segment> segments_;
  std::vector<Sequence*> active_;  // whose segments_ are
  std::vector<float> logits_, raw_;
  std::vector<const KvBlock*> distinct_;
  std::unordered_set<RequestId> cancelling_;
  std::vector<std::unique_ptr<LayerWaiter>> abandoned_;  // still waiting for what nobody wants any more

  std::thread thread_;  // last: begins when all is there
};

/// One request, from Submit to on_done.
struct ServiceImpl::Sequence {
  Sequence(ServiceRequest request_in, ServiceCallbacks callbacks_in, KvPool& pool, const Tokenizer* tokenizer,
           int32_t most_tokens, DraftPlanner& planner, SpeculationMode speculation, MtpDrafter& drafter,
           KvPool* mtp_pool)
      : request(std::move(request_in)),
        callbacks(std::move(callbacks_in)),
        tokens(request.prompt),
        kv(pool),
        generation(tokenizer, request.params, most_tokens),
        drafts(planner, request.params.speculate ? speculation : SpeculationMode::kOff,
               mtp_pool != nullptr ? &drafter : nullptr) {
    if (mtp_pool != nullptr) context.emplace(*mtp_pool, drafter.hidden_size());
    if (request.max_thinking_tokens >= 0) generation.LimitThinking(request.max_thinking_tokens);
  }
  int64_t prompt_size() const { return static_cast<int64_t>(request.prompt.size()); }
  int64_t wanted() const { return static_cast<int64_t>(tokens.size()) - kv.length(); }
  bool stalled() const { return load != nullptr || logits != nullptr; }
  bool decoding() const { return generation.drawn() > 0 && wanted() == 1; }

  RequestId id = 0;
  ServiceRequest request;
  ServiceCallbacks callbacks;
  int32_t tenant = 0;
  int32_t boost = kNoBoost;      // priority of somebody who waits for its rows
  std::vector<TokenId> tokens;   // prompt, then what was drawn
  KvSequence kv;                 // rows of the first kv.length() of them
  Generation generation;
  SequenceDrafts drafts;
  std::optional<MtpContext> context;  // nothing without an MTP layer
  std::vector<TokenId> guessed;  // the step's tokens, when guesses are among them
  int64_t right = 0;             // of those guesses, as far as they have been looked at
  bool running = false;
  bool prefetched = false;
  int64_t kept_tokens = 0;       // of the rows, known to the cache
  KeepCursor keep_cursor;
  uint64_t last_step = 0;

  std::shared_ptr<KvLogits> logits;  // after `tokens`, still arriving
  std::shared_ptr<KvLoad> load;  // rows still arriving
  std::unique_ptr<LayerWaiter> waiter;  // of load; made when the next round begins
  Clock::time_point load_began{};
  int32_t cuts = 0;

  RequestId leader = 0;          // held back for this one's rows
  int64_t leader_tokens = 0;     // until it has kept so many

  Clock::time_point submitted = Clock::now(), joined{}, first_token{}, told{};
  int64_t cached_tokens = 0, computed_tokens = 0;
  ServiceTimings timings;
  std::string cache_reason;
};

}  // namespace fathom
