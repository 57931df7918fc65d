// The store's insides; see expert_store.h. One mutex guards everything; requests are handed to AsyncIo outside of it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <unordered_map>

#include "experts/expert_store.h"
#include "experts/model_files.h"
#include "experts/slot_memory.h"

namespace fathom {

/// One expert on its way into a slot.
struct ExpertLoad {
  using Clock = std::chrono::steady_clock;
  ExpertId id = 0;
  int32_t slot = -1;
  bool demanded = false;
  bool ahead = false;          // by ReadAhead: in large pieces
  bool finished = false;       // read, or given up
  Status status;               // when finished
  int32_t tries = 0;
  size_t next_read = 0;        // what has been issued: so many reads whole,
  int64_t next_byte = 0;       // and so many bytes of the next one
  int32_t in_flight = 0;       // pieces
  bool issued_all = false;
  Status error;                // the first of this try
  Clock::time_point since;     // it was demanded
  Clock::time_point progress;  // last issued or answered
};

struct ExpertBatchState {
  enum class Step : uint8_t { kWaiting, kArriving, kPinned, kHandedOut };
  struct Member {
    int32_t expert = 0;
    Step step = Step::kWaiting;
    int32_t slot = -1;                 // kPinned
    std::shared_ptr<ExpertLoad> load;  // kArriving
  };
  int32_t layer = 0;
  std::vector<Member> members;
  int32_t left = 0;  // neither handed out nor failed
  int32_t held = 0;  // slots pinned or leased
  ExpertLoad::Clock::time_point since;
  std::vector<int32_t> failed;  // experts
  bool probed = false;          // has issued a read while the disk hung
};

class ExpertStoreImpl final : public ExpertStore {
 public:
  ExpertStoreImpl(Env& env, ExpertLayout layout, const ExpertStoreOptions& options);
  ~ExpertStoreImpl() override;
  Status Open(const ModelFile& file, AsyncIo* io);
  /// Reads nothing more; waits for what is under way. False: it does not come.
  bool Stop();

  const ExpertLayout& layout() const override { return layout_; }
  using ExpertStore::Fetch;
  ExpertBatch Fetch(int32_t layer, std::span<const int32_t> experts, std::span<const int32_t> rows,
                    int64_t tokens) override;
  void Hint(int32_t layer, std::span<const ExpertGuess> experts) override;
  void ReadAhead(int32_t layer) override;
  void Residents(int32_t layer, std::span<uint8_t> out) const override;
  Status Resize(int64_t slots) override;
  int64_t slots() const override;
  ExpertStoreStats stats() const override;
  std::vector<float> Heat() const override;
  Status CheckUnchanged() override;

  Result<std::optional<ExpertLease>> Next(const std::shared_ptr<ExpertBatchState>& batch, bool wait);
  void Abandon(ExpertBatchState& batch);
  void Release(ExpertBatchState& batch, int32_t slot);
  int32_t Left(const ExpertBatchState& batch) const;
  std::vector<int32_t> Failed(const ExpertBatchState& batch) const;

 private:
  using Clock = ExpertLoad::Clock;
  using Lock = std::unique_lock<std::mutex>;
  using Requests = std::vector<AsyncIoRequest>;
  struct Slot {
    ExpertId id = kNone;
    bool ready = false;      // its expert is there; else being read, or free when id is kNone
    bool prefetched = false;  // and not asked for since
    bool ahead = false;       // prefetched by ReadAhead
    int64_t guard = 0;       // prefetched or hinted at for this pass of its layer: kept until that
    int32_t pins = 0;
  };
  static constexpr ExpertId kNone = -1;
  // The slots of one of the layout's classes: their memory, and their places in slots_ from `first` on.
  struct Slots {
    std::unique_ptr<SlotMemory> memory;
    int32_t first = 0;
    int32_t count = 0, target = 0;  // that have memory, and that are to have it: more only while some cannot go yet
    std::vector<int32_t> free;      // places in slots_
    std::deque<ExpertId> warm;      // to fill free ones with
  };
  // Of what was hinted at so many layers ahead and was not resident: is it asked for?
  struct Hinted {
    std::vector<ExpertId> missing;  // of the last such hint
    int32_t layer = -1;
  };
  static constexpr int32_t kMostAhead = 4;  // layers; hints from farther away count as from so far
  struct Wanted {
    ExpertId id;
    int64_t pass;
    float probability;
    bool ahead = false;
  };

  // All with mutex_ held.
  /// For somebody who has waited since then: the disk answers nothing.
  bool DiskStalled(Clock::time_point since) const;
  /// The same for what a load reads; how long, in words. Nothing: it may still come.
  std::optional<std::string> Unanswered(const ExpertBatchState& batch, const ExpertLoad* load) const;
  std::unexpected<Error> FailMember(ExpertBatchState& batch, ExpertBatchState::Member& member, const Error& error);
  Clock::duration PollTime() const;
  Slots& SlotsOf(int32_t layer) { return classes_[layout_.SlotClassOf(layer)]; }
  Slots& SlotsFor(ExpertId id) { return SlotsOf(geometry_.LayerOf(id)); }
  std::byte* MemoryOf(ExpertId id, int32_t slot) {
    const Slots& slots = SlotsFor(id);
    return slots.memory->slot(slot - slots.first);
  }
  std::optional<int32_t> TakeSlot(ExpertId id, bool prefetch);
  bool MayGo(ExpertId id, bool guarded) const;
  void Drop(int32_t slot);
  void RebuildFree(Slots& slots);
  std::shared_ptr<ExpertLoad> StartLoad(ExpertId id, int32_t slot, bool demanded);
  void Demand(const std::shared_ptr<ExpertLoad>& load, Requests* requests);
  /// Issues pieces of at most piece_bytes; false when all have been issued.
  bool IssuePiece(const std::shared_ptr<ExpertLoad>& load, int64_t piece_bytes, Requests* requests);
  void IssueAll(const std::shared_ptr<ExpertLoad>& load, Requests* requests);
  void StartMembers(ExpertBatchState& batch, Requests* requests);
  void PumpPrefetch(Requests* requests);
  std::deque<Wanted>* NextWanted(const Slots* without);
  std::shared_ptr<ExpertLoad> StartPrefetch(std::deque<Wanted>* queue);
  std::shared_ptr<ExpertLoad> StartWarm();
  void CountUsed(Slot& slot);
  int32_t LayersAhead(int32_t layer) const;
  void CountHints(int32_t layer, std::span<const int32_t> experts);
  void Arrived(ExpertLoad& load);
  void GiveUp(ExpertLoad& load, Status status);
  void TriedAll(const std::shared_ptr<ExpertLoad>& load, Requests* requests);
  Status Verify(const ExpertLoad& load);
  void Pin(ExpertBatchState& batch, ExpertBatchState::Member& member, int32_t slot);
  std::optional<ExpertLease> HandOut(const std::shared_ptr<ExpertBatchState>& batch, size_t member);
  void Unpin(ExpertBatchState& batch, int32_t slot);
  void Shrink(Slots& slots);
  int64_t PassFor(int32_t layer) const { return layer > layer_ ? pass_ : pass_ + 1; }

  void Submit(Requests requests);  // without the mutex
  void Completed(const std::shared_ptr<ExpertLoad>& load, int64_t bytes, Status status);

  Env& env_;
  const ExpertLayout layout_;
  const ExpertGeometry geometry_;
  const ExpertStoreOptions options_;
  std::unique_ptr<ModelFiles> files_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;  // also told of every answer of the disk
  std::unique_ptr<ExpertPolicy> policy_;
  std::vector<Slots> classes_;
  std::vector<Slot> slots_;           // all that there may ever be
  std::vector<int32_t> slot_of_;      // by expert
  std::vector<uint64_t> samples_;     // by expert: hash of samples at its first reading; 0: not read yet
  std::unordered_map<ExpertId, std::shared_ptr<ExpertLoad>> loads_;
  std::shared_ptr<ExpertLoad> prefetch_;  // the one whose pieces are being issued
  std::vector<std::deque<Wanted>> hints_;  // by layer
  std::vector<Hinted> hinted_;             // by layers ahead − 1, and within that by layer modulo kMostAhead
  std::array<float, kMostAhead> hints_worth_;  // by layers ahead − 1: the share asked for lately
  int32_t demand_in_flight_ = 0;           // pieces of demanded loads
  int32_t in_flight_ = 0;                  // pieces
  Clock::time_point busy_since_;  // meant while in_flight_ > 0
  Clock::time_point progress_;    // last time that the disk answered, or was asked while it had nothing to do
  int32_t pins_ = 0;
  int32_t layer_ = INT32_MAX;
  int64_t pass_ = 0;
  bool stopping_ = false;
  Status health_;  // an error when a file changed
  std::vector<double> use_counts_;  // by expert: passes, or the share of a pass of many rows
  std::vector<float> shares_;       // of a layer's experts, while they are told to the policy
  std::vector<int64_t> hinted_pass_;  // by expert: for which pass it was last hinted at
  ExpertStoreStats stats_;

  std::unique_ptr<AsyncIo> own_io_;  // goes first
  AsyncIo* io_ = nullptr;
};

}  // namespace fathom
