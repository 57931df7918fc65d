// What the SSD tier is made of; included by its own files only. The table of slots in memory stands here, with the
// state that every slot goes through:
//
//   kFree -> kWriting (a Put) -> kStored -> kFree (Erase, or replaced by a later write of the same key)
//   kStored or kFree -> kBusy (being wiped, or its header being freed on disk) -> kFree
//   kWriting or kBusy -> kBad (the device failed there), until the next opening
//
// A slot that is being read stays out of the free list until the last reader has gone. Threads beside those of AsyncIo:
// one prepares writes, makes segments and syncs; one gives answers that need no I/O (so that they do not wait for a device
// that hangs); a few verify (and decrypt) what was read, so that AsyncIo's go on reading meanwhile; callers.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/task_threads.h"
#include "cache/byte_rate_meter.h"
#include "cache/segment_folder.h"
#include "cache/segment_format.h"
#include "cache/ssd_tier.h"
#include "io/page_buffer.h"

namespace fathom {

class SsdTierImpl : public SsdTier {
 public:
  SsdTierImpl(AsyncIo& io, const SsdTierOptions& options, const SegmentInfo& prototype,
              std::unique_ptr<BlockCipher> cipher, std::unique_ptr<SegmentFolder> folder);
  ~SsdTierImpl() override;

  /// Reads all headers. Called once, before Start.
  Status Load(const std::function<void(const StoredBlock&)>& found);
  Status Start();

  std::string_view name() const override { return "ssd"; }
  void Put(const BlockMeta& meta, KvBlockRef block, std::function<void(Result<TierHandle>)> done) override;
  void Get(std::vector<TierRead> reads, IoPriority priority) override;
  Status Erase(std::span<const TierHandle> handles, bool wipe) override;
  int64_t stored_block_bytes() const override { return prototype_.slot_bytes(); }
  Status Flush() override;
  TierStats stats() const override;

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr int kMostWriting = 4;                    // blocks whose I/O is under way
  static constexpr int64_t kChunkBytes = int64_t{1} << 20;  // of one I/O request, so that urgent ones get in between
  static constexpr std::chrono::seconds kMaintenancePause{1};
  static constexpr int kMostCheckers = 3;

  enum class State : uint8_t { kFree, kWriting, kStored, kBusy, kBad };
  enum class OnDisk : uint8_t { kZeros, kFreed, kOther };  // the header that stands there
  struct Slot {
    State state = State::kFree;
    OnDisk on_disk = OnDisk::kZeros;
    bool dirty = false;  // rows of something may stand there
    uint32_t generation = 0;
    int32_t readers = 0;
    int32_t count = 0;
    uint64_t sequence = 0;
    BlockKey key, identity;
    LayerChecks checks;
  };
  struct Segment {
    SegmentInfo info;
    std::unique_ptr<DirectFile> file;
    std::vector<Slot> slots;
    bool unsynced = false;
  };
  struct SlotRef {
    Segment* segment = nullptr;
    uint32_t segment_index = 0, slot_index = 0;
    Slot& slot() const { return segment->slots[slot_index]; }
  };
  struct ReadOp;
  struct WriteOp;
  using Lock = std::unique_lock<std::mutex>;

  /// The headers of `slots`, one after the other in `into`; one status a slot.
  std::vector<Status> ReadHeaders(std::span<const SlotRef> slots, std::byte* into);

  // Table (all REQUIRE mutex_ held).
  static TierHandle HandleOf(const SlotRef& ref);
  Result<SlotRef> Find(TierHandle handle) const;
  Segment& AddSegment(SegmentFolder::Segment found);
  void Release(const SlotRef& ref);  // to kFree, into the free list when nobody reads it
  void Forget(const SlotRef& ref);   // a stored block: out of the table, then Release
  void DropReader(const SlotRef& ref);
  void NeedMaintenance();

  // Reading.
  void ChunkRead(const std::shared_ptr<ReadOp>& op, int64_t first_layer, int64_t layers, Status status);

  // Writing.
  void WriterLoop();
  void StartWrite(Lock& lock, std::shared_ptr<WriteOp> op);
  Result<SlotRef> TakeSlot(Lock& lock);
  Status Prepare(WriteOp& op);
  void NextStage(const std::shared_ptr<WriteOp>& op, Status status);
  void FinishWrite(const std::shared_ptr<WriteOp>& op, Status status);

  // Freeing and syncing.
  struct Range {
    Segment* segment;
    int64_t offset, bytes;
  };
  static std::array<Range, 2> PlacesOf(const SlotRef& ref);  // the header's and the rows'
  /// Writes `content` over and over into every range, and waits. One status a range.
  std::vector<Status> Overwrite(std::span<const Range> ranges, std::span<const std::byte> content, IoPriority priority);
  std::vector<SlotRef> TakeFree(size_t most, bool (*wanted)(const Slot&));  // to kBusy. REQUIRES: mutex_ held
  // These REQUIRE maintenance_mutex_ held, and mutex_ not.
  Status Maintain();
  Status FreeHeaders();
  Status SyncFiles();
  Status Wipe(std::span<const SlotRef> slots);
  Status ClearDirty();

  AsyncIo& io_;
  const SsdTierOptions options_;
  const SegmentInfo prototype_;  // of all segments; where something stands, only each one's own info knows
  const std::unique_ptr<BlockCipher> cipher_;
  const std::unique_ptr<SegmentFolder> folder_;  // the writer's, once started
  PageBuffer freed_header_, zeros_;

  mutable std::mutex mutex_;
  std::condition_variable writer_wake_, changed_;
  std::vector<std::unique_ptr<Segment>> segments_;
  std::unordered_map<BlockKey, SlotRef> by_key_;
  std::deque<SlotRef> free_;
  int busy_slots_ = 0;
  std::deque<std::shared_ptr<WriteOp>> queue_;
  std::set<uint64_t> outstanding_;  // tickets of accepted writes
  uint64_t next_ticket_ = 0, next_sequence_ = 1;
  int64_t queued_bytes_ = 0;
  int writing_ = 0, reading_ = 0;
  std::vector<PageBuffer> bounces_;
  bool stop_ = false;
  bool maintenance_needed_ = false;
  Clock::time_point maintenance_at_;
  Clock::time_point no_room_until_;
  Error no_room_;
  Status flush_error_;
  TierStats stats_;
  ByteRateMeter read_rate_, write_rate_;

  std::mutex maintenance_mutex_;  // one Maintain or Wipe at a time; taken before mutex_
  std::thread writer_;
  TaskThreads answers_;
  TaskThreads checks_;  // of chunks that were read; their operations count in reading_
};

}  // namespace fathom
