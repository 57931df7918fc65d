// Experts by tier: a fixed number of slots in memory, the rest on the SSD. The model asks for the experts that a layer's
// router chose and gets each as soon as it is there, residents first, while the others arrive.
//
//   ExpertBatch batch = store.Fetch(layer, chosen);
//   while (true) {
//     FATHOM_TRY(std::optional<ExpertLease> lease, batch.Next());
//     if (!lease) break;
//     ... multiply with lease->views(); the slot is given back when the lease goes ...
//   }
//
// Reads go past the page cache (O_DIRECT), or through it where asked to, through AsyncIo. All reads that a batch needs are issued together. What is only
// hinted at is read in small pieces, a few at a time and none while a demanded read is under way; when it is demanded
// meanwhile, the rest is issued at once. A pass of many rows uses about all experts of every layer: ReadAhead() reads a
// whole layer before its router has spoken, in the file's order, under the same rule but in large reads. A read that fails
// is tried again (kTries in all); then the batches that want the expert get the error, and the next Fetch tries anew. A disk
// that does not answer is waited for as long as stall_limit says; then the batches that wait get an error, while the reads
// keep their slots until they end, however late. The same at the end: a store whose reads do not come back leaves them
// behind (io/left_behind.h). When
// a file's length, modification time or inode is not what it was at opening, or an expert's samples are not what they were
// when it was first read, what arrived is not handed out and every batch gets kCorrupt from then on.
//
// Thread-safe, batches and leases used by one thread at a time; they must be gone before the store. The ModelFile is only
// needed by Create(), Env and AsyncIo for as long as the store lives, or what it has left behind.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "experts/expert_layout.h"
#include "experts/expert_policy.h"
#include "experts/io_choice.h"
#include "io/async_io.h"
#include "io/env.h"

namespace fathom {

struct ExpertStoreOptions {
  int64_t slots = 0;       // at the start, [geometry.top_k + 1, geometry.count()]
  int64_t most_slots = 0;  // that Resize may give; 0: all experts. Costs only addresses
  bool resizable = true;   // false: the slots are registered with AsyncIo, and so locked in memory from the start
  ExpertPolicyKind policy = ExpertPolicyKind::kPredicted;
  std::vector<float> heat;           // as for MakeExpertPolicy; the hottest are read at the start, behind everybody's back
  double prefetch_probability = 0.4;  // below it a hint only tells the policy
  // Hints from so many layers ahead are read only while at least this share of what they named and was missing was asked
  // for then: a read in vain costs what a read on demand does, and a resident that somebody may want.
  double prefetch_worth = 0.5;
  int64_t prefetch_piece = 1 << 20;   // bytes of one prefetch read, a multiple of 4096
  int32_t prefetch_pieces = 4;        // in flight at once
  int64_t ahead_piece = 4 << 20;      // the same for ReadAhead, where nobody else waits for the disk
  int32_t ahead_pieces = 8;
  IoChoice io;                        // past the page cache or through it (io.direct); the rest is for stats()
  std::chrono::milliseconds stall_limit{30'000};  // > 0: that the disk may answer nothing at all before batches fail
};

struct ExpertStoreStats {
  int64_t slots = 0, slot_bytes = 0, resident = 0, leased = 0;
  int64_t uses = 0;       // experts asked for
  int64_t hits = 0;       // that were resident
  int64_t arriving = 0;   // that a prefetch had begun to read
  int64_t demand_reads = 0, prefetch_reads = 0, ahead_reads = 0;  // experts: demanded, by hints and heat, by ReadAhead
  int64_t prefetch_used = 0, ahead_used = 0;                      // of those that were asked for afterwards
  int64_t bytes_read = 0, retries = 0, failures = 0, evictions = 0;
  int64_t unanswered = 0;  // uses given up because the disk did not answer
  int64_t hinted = 0, hints_used = 0;  // experts hinted at for a layer's next turn, and how many of them it then asked for
  double stall_seconds = 0;            // that Next() waited
  double busy_seconds = 0;             // that anything was being read
  double read_seconds = 0, slowest_read_seconds = 0;  // of demanded experts, from issue to arrival: sum and worst
  static constexpr int kReadTimes = 14;
  /// Upper bound of read_times[i], in seconds: 0.25 ms × 2^i.
  static constexpr double ReadTimeBound(int i) { return 0.25e-3 * static_cast<double>(1 << i); }
  std::array<int64_t, kReadTimes + 1> read_times{};  // how many took how long; the last: longer than all bounds
  IoChoice io;                         // how experts are read; direct as the files turned out to be
  int32_t first_layer = 0;             // the model's layer that is MoE layer 0
  std::vector<int64_t> layer_uses, layer_hits;
};

struct ExpertGuess {
  int32_t expert = 0;
  float probability = 0;
};

class ExpertStore;

/// A resident expert, held in its slot until this goes. Movable.
class ExpertLease {
 public:
  ExpertLease(ExpertLease&& other) noexcept { *this = std::move(other); }
  ExpertLease& operator=(ExpertLease&& other) noexcept;
  ~ExpertLease() { Release(); }
  void Release();

  int32_t member() const { return member_; }  // index into what was asked for
  int32_t expert() const { return expert_; }
  const ExpertViews& views() const { return views_; }

 private:
  friend class ExpertStoreImpl;
  ExpertLease() = default;
  class ExpertStoreImpl* store_ = nullptr;
  std::shared_ptr<struct ExpertBatchState> batch_;
  int32_t member_ = 0, expert_ = 0;
  int32_t slot_ = -1;
  ExpertViews views_;
};

/// What one layer asked for. Movable; when it goes, reads under way end as residents.
class ExpertBatch {
 public:
  ExpertBatch(ExpertBatch&& other) noexcept = default;
  ExpertBatch& operator=(ExpertBatch&& other) = delete;
  ~ExpertBatch();

  /// The next member that is there, in any order; waits for one. Nothing: all have been handed out. A batch may be larger
  /// than the slots: then leases must be given back before more can come (kResource when this batch holds them all).
  /// Errors: kIo for a member that could not be read, naming file and expert; the others can still be asked for. kCorrupt
  /// (the file changed): nothing will come any more.
  Result<std::optional<ExpertLease>> Next();
  /// The same without waiting; nothing also when none is there yet.
  Result<std::optional<ExpertLease>> Try();
  int32_t left() const;  // members neither handed out nor failed
  /// Experts for which Next() or Try() has given an error.
  std::vector<int32_t> failed() const;

 private:
  friend class ExpertStoreImpl;
  ExpertBatch() = default;
  class ExpertStoreImpl* store_ = nullptr;
  std::shared_ptr<struct ExpertBatchState> state_;
};

class ExpertStore {
 public:
  static constexpr int32_t kTries = 3;
  /// A single read may take this many stall_limits while others are answered.
  static constexpr int32_t kStuckLimits = 4;

  /// io: nullptr: one of its own. Errors: those of ExpertLayout and Env, kInvalidArgument (options), kResource (memory),
  /// kCorrupt (the files are not those that `file` was opened from).
  static Result<std::unique_ptr<ExpertStore>> Create(const ModelFile& file, Env& env, AsyncIo* io,
                                                     const ExpertStoreOptions& options);
  virtual ~ExpertStore() = default;

  virtual const ExpertLayout& layout() const = 0;
  /// layer: MoE layer, from 0. experts: each at most once (REQUIRED, as is their range). In a pass over about all experts
  /// also how many of its `tokens` rows chose each of them, so that what is used often is known; else rows is empty.
  ExpertBatch Fetch(int32_t layer, std::span<const int32_t> experts) { return Fetch(layer, experts, {}, 1); }
  virtual ExpertBatch Fetch(int32_t layer, std::span<const int32_t> experts, std::span<const int32_t> rows,
                            int64_t tokens) = 0;
  /// What a later Fetch of that layer will probably ask for; replaces what was said of the layer before.
  virtual void Hint(int32_t layer, std::span<const ExpertGuess> experts) = 0;
  /// The pass in which `layer` comes next has so many rows that it uses about all experts of every layer: those of this
  /// one that are missing are read now, as far as slots are not wanted for something sooner, and replace what was hinted.
  virtual void ReadAhead(int32_t layer) = 0;
  /// For each expert of the layer 1 when it is resident or on its way, else 0. out: [geometry.experts].
  virtual void Residents(int32_t layer, std::span<uint8_t> out) const = 0;
  /// For a memory governor. Growing is at once (kResource: nothing changes). Shrinking gives up what the policy says;
  /// slots that are leased or being read follow when they are let go. Errors: kInvalidArgument (as options.slots, or not
  /// resizable).
  virtual Status Resize(int64_t slots) = 0;
  /// Slots that take memory now.
  virtual int64_t slots() const = 0;
  virtual ExpertStoreStats stats() const = 0;
  /// How often each expert was used a pass since the start (and before, by options.heat), for HeatFile.
  virtual std::vector<float> Heat() const = 0;
  /// kCorrupt when a file changed under the store; asks the file system.
  virtual Status CheckUnchanged() = 0;
};

}  // namespace fathom
