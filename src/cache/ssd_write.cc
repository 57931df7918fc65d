// The SSD tier's writing: the queue, the stages of a write, freeing, wiping and syncing (docs/formats/kv-segment.md,
// "Writing").
#include <algorithm>
#include <cstring>
#include <latch>
#include <utility>

#include "base/log.h"
#include "cache/ssd_tier_impl.h"

namespace fathom {

struct SsdTierImpl::WriteOp {
  enum class Stage { kInvalidate, kRows, kHeader };
  struct Piece {
    std::byte* memory;
    int64_t offset, bytes;
  };

  uint64_t ticket = 0;
  BlockMeta meta;
  KvBlockRef block;
  std::function<void(Result<TierHandle>)> done;
  int64_t queued_bytes = 0;

  SlotRef ref;
  bool has_slot = false, metered = false;
  SlotHeader header;
  PageBuffer header_page, bounce;
  std::vector<Piece> rows;
  int64_t bytes = 0;
  Stage stage = Stage::kInvalidate;
  std::atomic<int> pending{0};
  std::mutex mutex;
  Status status;  // the first error of a stage
};

void SsdTierImpl::Put(const BlockMeta& meta, KvBlockRef block, std::function<void(Result<TierHandle>)> done) {
  const Lock lock(mutex_);
  Status status;
  const int64_t bytes = prototype_.layers * prototype_.layer_bytes();
  if (stop_) {
    status = Fail(ErrorCode::kCancelled, "the cache on disk is closing");
  } else if (block == nullptr || meta.count < 1 || meta.count > KvLayout::kBlockTokens || meta.first_position < 0 ||
             meta.first_position % KvLayout::kBlockTokens != 0) {
    status = Fail(ErrorCode::kInvalidArgument, "a block of {} tokens at {}", meta.count, meta.first_position);
  } else if (queued_bytes_ > 0 && queued_bytes_ + bytes > options_.queue_bytes) {
    ++stats_.dropped_writes;
    status = Fail(ErrorCode::kResource, "{}: the disk does not keep up: {} bytes wait to be written",
                  options_.directory, queued_bytes_);
  }
  if (!status) {
    answers_.Post([done = std::move(done), status] { done(std::unexpected(status.error())); });
    return;
  }
  auto op = std::make_shared<WriteOp>();
  op->ticket = next_ticket_++;
  op->meta = meta;
  op->block = std::move(block);
  op->done = std::move(done);
  op->queued_bytes = bytes;
  queued_bytes_ += bytes;
  outstanding_.insert(op->ticket);
  queue_.push_back(std::move(op));
  writer_wake_.notify_one();
}

void SsdTierImpl::WriterLoop() {
  Lock lock(mutex_);
  while (!stop_) {
    if (maintenance_needed_ && Clock::now() >= maintenance_at_) {
      lock.unlock();
      {
        const std::lock_guard maintenance(maintenance_mutex_);
        if (auto status = Maintain(); !status) spdlog::warn("the cache on disk: {}", status.error().message);
      }
      lock.lock();
    } else if (!queue_.empty() && writing_ < kMostWriting) {
      auto op = std::move(queue_.front());
      queue_.pop_front();
      ++writing_;
      StartWrite(lock, std::move(op));
    } else if (maintenance_needed_) {
      writer_wake_.wait_until(lock, maintenance_at_);
    } else {
      writer_wake_.wait(lock);
    }
  }
  while (!queue_.empty()) {
    auto op = std::move(queue_.front());
    queue_.pop_front();
    ++writing_;
    lock.unlock();
    FinishWrite(op, Fail(ErrorCode::kCancelled, "the cache on disk is closing"));
    lock.lock();
  }
}

void SsdTierImpl::StartWrite(Lock& lock, std::shared_ptr<WriteOp> op) {
  auto ref = TakeSlot(lock);
  if (!ref) {
    lock.unlock();
    FinishWrite(op, std::unexpected(ref.error()));
    lock.lock();
    return;
  }
  op->ref = *ref;
  op->has_slot = op->metered = true;
  op->header.state = SlotState::kBlock;
  op->header.sequence = next_sequence_++;
  op->header.meta = op->meta;
  op->header.written_at =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  op->stage = ref->slot().on_disk == OnDisk::kFreed ? WriteOp::Stage::kRows : WriteOp::Stage::kInvalidate;
  if (!bounces_.empty()) {
    op->bounce = std::move(bounces_.back());
    bounces_.pop_back();
  }
  write_rate_.Begin(Clock::now());
  lock.unlock();
  if (auto status = Prepare(*op); !status) {
    FinishWrite(op, std::move(status));
  } else {
    NextStage(op, {});
  }
  op.reset();
  lock.lock();
}

// A free slot, now kWriting. May let go of the lock.
Result<SsdTierImpl::SlotRef> SsdTierImpl::TakeSlot(Lock& lock) {
  for (;;) {
    if (!free_.empty()) {
      const SlotRef ref = free_.front();
      free_.pop_front();
      Slot& slot = ref.slot();
      slot.state = State::kWriting;
      slot.generation = (slot.generation + 1) & 0xFFFFFF;
      return ref;
    }
    if (busy_slots_ > 0) {
      changed_.wait(lock);  // some are on their way back
      continue;
    }
    if (Clock::now() < no_room_until_) return std::unexpected(no_room_);
    lock.unlock();
    auto made = folder_->Make();
    lock.lock();
    if (!made) {
      no_room_ = made.error();
      no_room_until_ = Clock::now() + std::chrono::milliseconds(200);
      if (!free_.empty()) continue;
      return std::unexpected(no_room_);
    }
    AddSegment(std::move(*made));
    const auto index = static_cast<uint32_t>(segments_.size() - 1);
    for (uint32_t slot = 0; slot < segments_.back()->slots.size(); ++slot) {
      free_.push_back({segments_.back().get(), index, slot});
    }
  }
}

// Rows as they will stand on disk, their checksums and the header.
Status SsdTierImpl::Prepare(WriteOp& op) {
  const int64_t used = prototype_.used_bytes(op.meta.count), padded = prototype_.padded_bytes(op.meta.count);
  const int64_t layers = prototype_.layers, layer_bytes = prototype_.layer_bytes();
  const bool whole = padded == layer_bytes;
  const bool direct = used == layer_bytes && !prototype_.encrypted;  // else through memory of our own
  LayerChecks& checks = op.header.checks;
  if (prototype_.encrypted) {
    FATHOM_TRY(checks.nonce, BlockCipher::NewNonce());
    checks.tags.resize(static_cast<size_t>(layers));
  } else {
    checks.checksums.resize(static_cast<size_t>(layers));
  }
  if (!direct && op.bounce.size() < static_cast<size_t>(layers * padded)) {
    FATHOM_TRY(op.bounce, PageBuffer::Allocate(layers * layer_bytes));
  }
  for (int64_t layer = 0; layer < layers; ++layer) {
    const std::span<const std::byte> rows(op.block->layer(layer), static_cast<size_t>(used));
    std::byte* memory = direct ? op.block->layer(layer) : op.bounce.data() + layer * padded;
    if (prototype_.encrypted) {
      FATHOM_TRY(checks.tags[static_cast<size_t>(layer)],
                 cipher_->Seal(checks.nonce, static_cast<uint16_t>(layer), {}, rows, memory));
    } else {
      checks.checksums[static_cast<size_t>(layer)] = RowsChecksum(rows);
      if (!direct) std::memcpy(memory, rows.data(), rows.size());
    }
    if (!direct) std::memset(memory + used, 0, static_cast<size_t>(padded - used));
    const int64_t offset = op.ref.segment->info.layer_offset(op.ref.slot_index, layer);
    if (whole && !op.rows.empty() && op.rows.back().bytes + padded <= kChunkBytes) {
      op.rows.back().bytes += padded;  // neighbours in memory and in the file
    } else {
      op.rows.push_back({memory, offset, padded});
    }
    op.bytes += padded;
  }
  FATHOM_TRY(op.header_page, PageBuffer::Allocate(prototype_.header_bytes()));
  op.bytes += prototype_.header_bytes();
  return EncodeSlotHeader(prototype_, op.header, cipher_.get(), op.header_page.span());
}

// Submits what belongs to op->stage.
void SsdTierImpl::NextStage(const std::shared_ptr<WriteOp>& op, Status status) {
  if (!status) return FinishWrite(op, std::move(status));
  std::vector<WriteOp::Piece> pieces;
  const int64_t at = op->ref.segment->info.header_offset(op->ref.slot_index), header_bytes = prototype_.header_bytes();
  switch (op->stage) {
    case WriteOp::Stage::kInvalidate:
      pieces.push_back({freed_header_.data(), at, header_bytes});
      break;
    case WriteOp::Stage::kRows:
      pieces = op->rows;
      break;
    case WriteOp::Stage::kHeader:
      pieces.push_back({op->header_page.data(), at, header_bytes});
      break;
  }
  op->pending = static_cast<int>(pieces.size());
  std::vector<AsyncIoRequest> requests;
  for (const WriteOp::Piece& piece : pieces) {
    requests.push_back({op->ref.segment->file.get(), true, piece.offset, piece.memory, piece.bytes,
                        static_cast<uint8_t>(IoPriority::kBackground), [this, op](Status written) {
                          Tick(options_.progress);
                          if (!written) {
                            const std::lock_guard lock(op->mutex);
                            if (op->status) op->status = std::move(written);
                          }
                          if (op->pending.fetch_sub(1) > 1) return;
                          if (op->stage == WriteOp::Stage::kHeader || !op->status) return FinishWrite(op, op->status);
                          op->stage = op->stage == WriteOp::Stage::kInvalidate ? WriteOp::Stage::kRows
                                                                               : WriteOp::Stage::kHeader;
                          NextStage(op, {});
                        }});
  }
  io_.Submit(std::move(requests));
}

void SsdTierImpl::FinishWrite(const std::shared_ptr<WriteOp>& op, Status status) {
  Result<TierHandle> answer = kNoHandle;
  {
    const Lock lock(mutex_);
    if (op->metered) write_rate_.End(status ? op->bytes : 0, Clock::now());
    if (op->bounce.size() > 0) bounces_.push_back(std::move(op->bounce));
    if (op->has_slot) {
      Slot& slot = op->ref.slot();
      slot.on_disk = OnDisk::kOther;
      slot.dirty = true;
      op->ref.segment->unsynced = true;
      NeedMaintenance();
      if (!status) {
        if (status.error().code == ErrorCode::kIo) {
          slot.state = State::kBad;
        } else {
          Release(op->ref);
        }
      } else {
        slot.state = State::kStored;
        slot.count = op->meta.count;
        slot.sequence = op->header.sequence;
        slot.key = op->meta.key;
        slot.identity = MetaIdentity(op->meta);
        slot.checks = std::move(op->header.checks);
        answer = HandleOf(op->ref);
        ++stats_.blocks;
        ++stats_.writes;
        stats_.written_bytes += op->bytes;
        const auto [entry, first] = by_key_.try_emplace(slot.key, op->ref);
        if (!first) {
          SlotRef older = op->ref;  // two writes of one key may finish in any order
          if (entry->second.slot().sequence < slot.sequence) std::swap(older, entry->second);
          --stats_.blocks;
          Release(older);
        }
      }
    }
    if (!status) {
      answer = std::unexpected(status.error());
      if (status.error().code == ErrorCode::kResource) {
        ++stats_.dropped_writes;
      } else if (status.error().code != ErrorCode::kCancelled) {
        ++stats_.write_errors;
      }
      // One that found no room was not accepted, and its caller knows.
      if (flush_error_ && (op->has_slot || status.error().code != ErrorCode::kResource)) flush_error_ = status;
    }
    queued_bytes_ -= op->queued_bytes;  // before the caller knows, who may put the next one at once
  }
  op->done(std::move(answer));
  op->done = nullptr;
  op->block.reset();
  const Lock lock(mutex_);
  outstanding_.erase(op->ticket);
  --writing_;
  writer_wake_.notify_one();
  changed_.notify_all();
}

Status SsdTierImpl::Flush() {
  {
    Lock lock(mutex_);
    const uint64_t ticket = next_ticket_;
    changed_.wait(lock, [&] { return outstanding_.empty() || *outstanding_.begin() >= ticket; });
  }
  const std::lock_guard maintenance(maintenance_mutex_);
  Status status = Maintain();
  const Lock lock(mutex_);
  const Status first = std::exchange(flush_error_, {});
  return first ? status : first;
}

Status SsdTierImpl::Erase(std::span<const TierHandle> handles, bool wipe) {
  if (!wipe) {
    const Lock lock(mutex_);
    for (TierHandle handle : handles) {
      const auto ref = Find(handle);
      if (!ref) continue;
      Forget(*ref);
      Release(*ref);
    }
    return {};
  }
  const std::lock_guard maintenance(maintenance_mutex_);
  std::vector<SlotRef> slots;
  {
    Lock lock(mutex_);
    for (TierHandle handle : handles) {
      const auto ref = Find(handle);
      if (!ref) continue;
      Forget(*ref);
      ref->slot().state = State::kBusy;
      ++busy_slots_;
      slots.push_back(*ref);
    }
    changed_.wait(lock, [&] {
      return std::all_of(slots.begin(), slots.end(), [](const SlotRef& ref) { return ref.slot().readers == 0; });
    });
  }
  Status wiped = Wipe(slots);
  Status cleared = ClearDirty();
  return wiped ? cleared : wiped;
}

std::vector<SsdTierImpl::SlotRef> SsdTierImpl::TakeFree(size_t most, bool (*wanted)(const Slot&)) {
  std::vector<SlotRef> taken;
  std::deque<SlotRef> rest;
  for (const SlotRef& ref : free_) {
    if (taken.size() < most && wanted(ref.slot())) {
      ref.slot().state = State::kBusy;
      ++busy_slots_;
      taken.push_back(ref);
    } else {
      rest.push_back(ref);
    }
  }
  free_.swap(rest);
  return taken;
}

std::vector<Status> SsdTierImpl::Overwrite(std::span<const Range> ranges, std::span<const std::byte> content,
                                           IoPriority priority) {
  const auto step = static_cast<int64_t>(content.size());
  std::vector<Status> each(ranges.size());
  std::mutex mutex;
  ptrdiff_t count = 0;
  for (const Range& range : ranges) count += (range.bytes + step - 1) / step;
  std::latch left(count);
  std::vector<AsyncIoRequest> requests;
  for (size_t i = 0; i < ranges.size(); ++i) {
    for (int64_t at = 0; at < ranges[i].bytes; at += step) {
      requests.push_back({ranges[i].segment->file.get(), true, ranges[i].offset + at,
                          const_cast<std::byte*>(content.data()), std::min(step, ranges[i].bytes - at),
                          static_cast<uint8_t>(priority), [this, &each, &mutex, &left, i](Status status) {
                            Tick(options_.progress);
                            if (!status) {
                              const std::lock_guard lock(mutex);
                              each[i] = std::move(status);
                            }
                            left.count_down();
                          }});
    }
  }
  io_.Submit(std::move(requests));
  left.wait();
  return each;
}

Status SsdTierImpl::Maintain() {
  Status freed = FreeHeaders();
  Status synced = SyncFiles();
  return freed ? synced : freed;
}

// Blocks that were let go, also on disk, where their slots have not been taken since.
Status SsdTierImpl::FreeHeaders() {
  constexpr size_t kMost = 4096;  // slots kept from writers meanwhile
  std::vector<SlotRef> slots;
  {
    const Lock lock(mutex_);
    maintenance_needed_ = false;
    slots = TakeFree(kMost, [](const Slot& slot) { return slot.on_disk == OnDisk::kOther; });
  }
  std::vector<Range> ranges;
  for (const SlotRef& ref : slots) {
    ranges.push_back({ref.segment, ref.segment->info.header_offset(ref.slot_index), prototype_.header_bytes()});
  }
  const auto each = Overwrite(ranges, freed_header_.span(), IoPriority::kBackground);
  Status status;
  const Lock lock(mutex_);
  for (size_t i = 0; i < slots.size(); ++i) {
    --busy_slots_;
    slots[i].segment->unsynced = true;
    if (each[i]) {
      slots[i].slot().on_disk = OnDisk::kFreed;
      Release(slots[i]);
    } else {
      if (status) status = each[i];
      ++stats_.write_errors;
      slots[i].slot().state = State::kBad;
    }
  }
  if (slots.size() == kMost) NeedMaintenance();
  changed_.notify_all();
  return status;
}

Status SsdTierImpl::SyncFiles() {
  std::vector<Segment*> segments;
  {
    const Lock lock(mutex_);
    for (const auto& segment : segments_) {
      if (std::exchange(segment->unsynced, false)) segments.push_back(segment.get());
    }
  }
  Status status;
  for (Segment* segment : segments) {
    auto synced = segment->file->Sync();
    Tick(options_.progress);
    if (!synced) {
      // What the device has of it is not known; reads verify.
      const Lock lock(mutex_);
      ++stats_.write_errors;
      if (status) status = std::move(synced);
    }
  }
  return status;
}

std::array<SsdTierImpl::Range, 2> SsdTierImpl::PlacesOf(const SlotRef& ref) {
  const SegmentInfo& info = ref.segment->info;
  return {{{ref.segment, info.header_offset(ref.slot_index), info.header_bytes()},
           {ref.segment, info.rows_offset(ref.slot_index), info.rows_bytes()}}};
}

// Zeros over everything, or at least nothing left to read. The slots are kBusy.
Status SsdTierImpl::Wipe(std::span<const SlotRef> slots) {
  std::vector<Range> ranges;
  for (const SlotRef& ref : slots) {
    for (const Range& range : PlacesOf(ref)) ranges.push_back(range);
  }
  const auto written = Overwrite(ranges, zeros_.span(), IoPriority::kDemand);
  Status status;
  std::vector<bool> clean(slots.size(), true);
  std::set<Segment*> touched;
  for (size_t i = 0; i < ranges.size(); ++i) {
    touched.insert(ranges[i].segment);
    // Where it cannot be written it may still be given away.
    if (written[i] || ranges[i].segment->file->PunchHole(ranges[i].offset, ranges[i].bytes)) continue;
    clean[i / 2] = false;
    if (status) status = written[i];
  }
  for (Segment* segment : touched) {
    if (auto synced = segment->file->Sync(); !synced && status) status = std::move(synced);
    Tick(options_.progress);
  }
  const Lock lock(mutex_);
  for (size_t i = 0; i < slots.size(); ++i) {
    --busy_slots_;
    Slot& slot = slots[i].slot();
    if (clean[i]) {
      slot.on_disk = OnDisk::kZeros;
      slot.dirty = false;
      Release(slots[i]);
    } else {
      ++stats_.write_errors;
      slot.state = State::kBad;
    }
  }
  changed_.notify_all();
  return status;
}

// What evicted blocks left in free slots: out of the file by punching, which is cheap, and reserved again.
Status SsdTierImpl::ClearDirty() {
  std::vector<SlotRef> slots, by_writing, punched;
  {
    const Lock lock(mutex_);
    slots = TakeFree(free_.size(), [](const Slot& slot) { return slot.dirty; });
  }
  std::set<Segment*> touched;
  for (const SlotRef& ref : slots) {
    Tick(options_.progress);
    const auto places = PlacesOf(ref);
    if (std::all_of(places.begin(), places.end(),
                    [](const Range& range) { return range.segment->file->PunchHole(range.offset, range.bytes).has_value(); })) {
      punched.push_back(ref);
      touched.insert(ref.segment);
    } else {
      by_writing.push_back(ref);
    }
  }
  Status status;
  for (Segment* segment : touched) {
    // Reserving again may fail on a full device; then a later write there may.
    if (auto reserved = segment->file->Allocate(segment->info.file_bytes()); !reserved) {
      spdlog::warn("the cache on disk: {}", reserved.error().message);
    }
    if (auto synced = segment->file->Sync(); !synced && status) status = std::move(synced);
    Tick(options_.progress);
  }
  {
    const Lock lock(mutex_);
    for (const SlotRef& ref : punched) {
      --busy_slots_;
      ref.slot().on_disk = OnDisk::kZeros;
      ref.slot().dirty = false;
      Release(ref);
    }
    changed_.notify_all();
  }
  Status written = Wipe(by_writing);
  return status ? written : status;
}

}  // namespace fathom
