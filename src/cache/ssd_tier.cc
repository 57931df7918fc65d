#include "cache/ssd_tier.h"

#include <algorithm>
#include <latch>
#include <utility>

#include "base/log.h"
#include "base/start_thread.h"
#include "cache/ssd_tier_impl.h"
#include "io/env.h"

namespace fathom {
namespace {

// So that the tier of any capacity stays far below the limit of open files.
constexpr int64_t kMostSegments = 256;
constexpr int kSlotBits = 20, kSegmentBits = 20;

}  // namespace

struct SsdTierImpl::ReadOp {
  TierRead read;
  SlotRef ref;
  std::atomic<int> pending{0};
  int64_t bytes = 0;
  std::mutex mutex;
  Status status;  // the first error
};

Result<std::unique_ptr<SsdTier>> SsdTier::Open(Env& env, AsyncIo& io, const KvSpace& space,
                                               const SsdTierOptions& options,
                                               const std::function<void(const StoredBlock&)>& found) {
  if (options.directory.empty()) return Fail(ErrorCode::kInvalidArgument, "the cache on disk has no folder");
  if (options.segment_bytes <= 0 || options.queue_bytes <= 0) {
    return Fail(ErrorCode::kInvalidArgument, "{}: segment and queue sizes must be above 0", options.directory);
  }
  SegmentInfo prototype;
  prototype.space = space.Digest();
  prototype.dtype = space.layout.dtype;
  prototype.layers = space.layout.layers;
  prototype.row_values = space.layout.row_values;
  prototype.row_bytes = space.layout.row_bytes();
  prototype.row_tail = space.layout.row_tail;
  prototype.row_group = space.layout.row_group;
  prototype.slots = 1;
  std::unique_ptr<BlockCipher> cipher;
  if (!options.key_file.empty()) {
    FATHOM_TRY(cipher, BlockCipher::FromFile(env, options.key_file));
    prototype.encrypted = true;
    prototype.key_id = cipher->key_id();
  }
  if (auto status = prototype.Check(); !status) return Prefix(status.error(), "KV layout");
  if (options.capacity_bytes < prototype.file_bytes()) {
    return Fail(ErrorCode::kInvalidArgument, "{}: {} bytes of cache do not hold one block of {} bytes",
                options.directory, options.capacity_bytes, prototype.file_bytes());
  }
  const SegmentFolder::Options folder_options{options.directory, options.capacity_bytes,
                                              std::max(options.segment_bytes, options.capacity_bytes / kMostSegments),
                                              options.direct_io, options.progress};
  FATHOM_TRY(auto folder, SegmentFolder::Open(env, prototype, folder_options, options.key_file));
  auto tier = std::make_unique<SsdTierImpl>(io, options, prototype, std::move(cipher), std::move(folder));
  FATHOM_CHECK_OK(tier->Load(found));
  FATHOM_CHECK_OK(tier->Start());
  return tier;
}

SsdTierImpl::SsdTierImpl(AsyncIo& io, const SsdTierOptions& options, const SegmentInfo& prototype,
                         std::unique_ptr<BlockCipher> cipher, std::unique_ptr<SegmentFolder> folder)
    : io_(io), options_(options), prototype_(prototype), cipher_(std::move(cipher)), folder_(std::move(folder)) {
  stats_.capacity_bytes = options.capacity_bytes;
}

Status SsdTierImpl::Start() {
  FATHOM_TRY(freed_header_, PageBuffer::Allocate(prototype_.header_bytes()));
  FATHOM_CHECK_OK(EncodeSlotHeader(prototype_, {.state = SlotState::kFreed}, nullptr, freed_header_.span()));
  FATHOM_TRY(zeros_, PageBuffer::Allocate(kChunkBytes));
  std::fill_n(zeros_.data(), zeros_.size(), std::byte{0});
  const auto failed = [](const Error& error) { return Prefix(error, "the cache on disk"); };
  if (auto status = answers_.Start(1); !status) return failed(status.error());
  const auto processors = static_cast<int>(std::thread::hardware_concurrency());
  if (auto status = checks_.Start(std::clamp(processors, 1, kMostCheckers)); !status) return failed(status.error());
  auto writer = StartThread([this] { WriterLoop(); });
  if (!writer) return failed(writer.error());
  writer_ = std::move(*writer);
  return {};
}

std::vector<Status> SsdTierImpl::ReadHeaders(std::span<const SlotRef> slots, std::byte* into) {
  const int64_t header_bytes = prototype_.header_bytes();
  const auto offset = [&](size_t i) { return slots[i].segment->info.header_offset(slots[i].slot_index); };
  struct Run {  // headers that stand one after the other
    size_t first, count;
  };
  std::vector<Run> runs;
  for (size_t i = 0; i < slots.size(); ++i) {
    if (i > 0 && slots[i].segment == slots[i - 1].segment && offset(i) == offset(i - 1) + header_bytes &&
        static_cast<int64_t>(runs.back().count + 1) * header_bytes <= kChunkBytes) {
      ++runs.back().count;
    } else {
      runs.push_back({i, 1});
    }
  }
  std::vector<Status> each(slots.size());
  const auto read = [&](const std::vector<Run>& wanted) {
    std::latch left(std::ssize(wanted));
    std::vector<AsyncIoRequest> requests;
    for (const Run& run : wanted) {
      requests.push_back({slots[run.first].segment->file.get(), false, offset(run.first),
                          into + static_cast<int64_t>(run.first) * header_bytes,
                          static_cast<int64_t>(run.count) * header_bytes, 0,
                          [this, &each, &left, first = run.first](Status status) {
                            each[first] = std::move(status);
                            Tick(options_.progress);
                            left.count_down();
                          }});
    }
    io_.Submit(std::move(requests));
    left.wait();
  };
  read(runs);
  // A place that cannot be read costs no more than its own header.
  std::vector<Run> alone;
  for (const Run& run : runs) {
    if (run.count == 1 || each[run.first]) continue;
    for (size_t i = run.first; i < run.first + run.count; ++i) alone.push_back({i, 1});
  }
  if (!alone.empty()) read(alone);
  return each;
}

Status SsdTierImpl::Load(const std::function<void(const StoredBlock&)>& found) {
  constexpr size_t kWave = 4096;  // headers read at once
  std::vector<SlotRef> all;
  for (SegmentFolder::Segment& segment : folder_->TakeSegments()) {
    const int64_t usable = segment.usable_slots;
    AddSegment(std::move(segment));
    const auto index = static_cast<uint32_t>(segments_.size() - 1);
    Segment& added = *segments_.back();
    for (uint32_t slot = 0; slot < added.slots.size(); ++slot) {
      if (slot < usable) {
        all.push_back({&added, index, slot});
      } else {
        added.slots[slot].state = State::kBad;
      }
    }
  }
  // One line in the log, not one a slot.
  int64_t damaged = 0;
  std::string first_damage;
  const auto remark = [&](const SlotRef& ref, const Error& error) {
    if (damaged++ > 0) return;
    first_damage = fmt::format("{}: slot {}: {}", ref.segment->file->path(), ref.slot_index, error.message);
  };
  std::vector<StoredBlock> blocks;
  std::vector<std::pair<uint64_t, size_t>> order;  // sequence, index into blocks
  const auto header_bytes = static_cast<size_t>(prototype_.header_bytes());
  FATHOM_TRY(PageBuffer buffer, PageBuffer::Allocate(static_cast<int64_t>(std::min(kWave, all.size()) * header_bytes)));
  for (size_t begin = 0; begin < all.size(); begin += kWave) {
    const std::span<const SlotRef> wave(all.data() + begin, std::min(kWave, all.size() - begin));
    const std::vector<Status> read = ReadHeaders(wave, buffer.data());
    for (size_t i = 0; i < wave.size(); ++i) {
      Slot& slot = wave[i].slot();
      if (!read[i]) {
        remark(wave[i], read[i].error());
        slot.state = State::kBad;
        ++stats_.read_errors;
        continue;
      }
      auto header = DecodeSlotHeader(prototype_, cipher_.get(), buffer.span().subspan(i * header_bytes, header_bytes));
      if (header && header->state == SlotState::kEmpty) {
        free_.push_back(wave[i]);
        continue;
      }
      slot.dirty = true;
      slot.on_disk = header && header->state == SlotState::kFreed ? OnDisk::kFreed : OnDisk::kOther;
      if (!header) {
        remark(wave[i], header.error());
        ++stats_.corrupt;
      }
      if (!header || header->state == SlotState::kFreed) {
        free_.push_back(wave[i]);
        continue;
      }
      next_sequence_ = std::max(next_sequence_, header->sequence + 1);
      slot.state = State::kStored;
      slot.generation = 1;
      slot.count = header->meta.count;
      slot.sequence = header->sequence;
      slot.key = header->meta.key;
      slot.identity = MetaIdentity(header->meta);
      slot.checks = std::move(header->checks);
      ++stats_.blocks;
      const auto [entry, first] = by_key_.try_emplace(slot.key, wave[i]);
      if (!first) {
        // Written twice, and killed before the older one was freed.
        SlotRef older = wave[i];
        if (entry->second.slot().sequence < slot.sequence) std::swap(older, entry->second);
        older.slot().state = State::kFree;
        --stats_.blocks;
        free_.push_back(older);
        maintenance_needed_ = true;
        if (older.segment == wave[i].segment && older.slot_index == wave[i].slot_index) continue;
      }
      order.emplace_back(slot.sequence, blocks.size());
      blocks.push_back({header->meta, HandleOf(wave[i]), header->written_at});
    }
  }
  if (damaged > 0) spdlog::warn("the cache on disk lost {} blocks to damage; the first: {}", damaged, first_damage);
  maintenance_at_ = Clock::now() + kMaintenancePause;
  std::sort(order.begin(), order.end());
  for (const auto& [sequence, index] : order) {
    if (found && Find(blocks[index].handle)) found(blocks[index]);
  }
  return {};
}

SsdTierImpl::~SsdTierImpl() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  writer_wake_.notify_all();
  const bool started = writer_.joinable();
  if (started) writer_.join();  // cancels what is queued
  {
    Lock lock(mutex_);
    changed_.wait(lock, [&] { return writing_ == 0 && reading_ == 0; });
  }
  if (started) {
    const std::lock_guard maintenance(maintenance_mutex_);
    if (auto status = Maintain(); !status) spdlog::warn("the cache on disk: {}", status.error().message);
  }
  checks_.Finish();
  answers_.Finish();
}

TierHandle SsdTierImpl::HandleOf(const SlotRef& ref) {
  return TierHandle{ref.slot().generation} << (kSlotBits + kSegmentBits) | TierHandle{ref.segment_index} << kSlotBits |
         ref.slot_index;
}

Result<SsdTierImpl::SlotRef> SsdTierImpl::Find(TierHandle handle) const {
  const auto slot = static_cast<uint32_t>(handle & ((1u << kSlotBits) - 1));
  const auto segment = static_cast<uint32_t>(handle >> kSlotBits & ((1u << kSegmentBits) - 1));
  if (segment < segments_.size() && slot < segments_[segment]->slots.size()) {
    const SlotRef ref{segments_[segment].get(), segment, slot};
    if (ref.slot().state == State::kStored && HandleOf(ref) == handle) return ref;
  }
  return Fail(ErrorCode::kNotFound, "the block is not stored on disk any more");
}

SsdTierImpl::Segment& SsdTierImpl::AddSegment(SegmentFolder::Segment found) {
  auto segment = std::make_unique<Segment>();
  segment->info = found.info;
  segment->file = std::move(found.file);
  segment->slots.resize(static_cast<size_t>(found.info.slots));
  segments_.push_back(std::move(segment));
  return *segments_.back();
}

void SsdTierImpl::Release(const SlotRef& ref) {
  Slot& slot = ref.slot();
  slot.state = State::kFree;
  if (slot.readers == 0) free_.push_back(ref);
  if (slot.on_disk == OnDisk::kOther) NeedMaintenance();
  changed_.notify_all();
}

void SsdTierImpl::Forget(const SlotRef& ref) {
  const auto entry = by_key_.find(ref.slot().key);
  if (entry != by_key_.end() && &entry->second.slot() == &ref.slot()) by_key_.erase(entry);
  --stats_.blocks;
}

void SsdTierImpl::DropReader(const SlotRef& ref) {
  Slot& slot = ref.slot();
  if (--slot.readers == 0 && slot.state == State::kFree) {
    free_.push_back(ref);
    if (slot.on_disk == OnDisk::kOther) NeedMaintenance();
  }
  changed_.notify_all();
}

void SsdTierImpl::NeedMaintenance() {
  if (maintenance_needed_) return;
  maintenance_needed_ = true;
  maintenance_at_ = Clock::now() + kMaintenancePause;
  writer_wake_.notify_all();
}

void SsdTierImpl::Get(std::vector<TierRead> reads, IoPriority priority) {
  std::vector<AsyncIoRequest> requests;
  {
    const Lock lock(mutex_);
    for (TierRead& read : reads) {
      auto ref = Find(read.handle);
      Status status;
      if (!ref) {
        status = std::unexpected(ref.error());
      } else if (read.into == nullptr || read.first_layer < 0 || read.layers < 1 ||
                 read.first_layer > prototype_.layers - read.layers) {
        status = Fail(ErrorCode::kInvalidArgument, "layers {} to {} of {}", read.first_layer,
                      read.first_layer + read.layers, prototype_.layers);
      } else if (MetaIdentity(read.meta) != ref->slot().identity) {
        ++stats_.corrupt;
        status =
            Fail(ErrorCode::kCorrupt, "{}: slot {}: holds another block", ref->segment->file->path(), ref->slot_index);
      } else if (stop_) {
        status = Fail(ErrorCode::kCancelled, "the cache on disk is closing");
      }
      if (!status) {
        answers_.Post([done = std::move(read.done), status] { done(status); });
        continue;
      }
      const int64_t count = ref->slot().count, padded = prototype_.padded_bytes(count);
      // Layers lie one after the other where all rows count; else each is read by itself, as far as it goes.
      const int64_t together =
          padded == prototype_.layer_bytes() ? std::max<int64_t>(1, kChunkBytes / prototype_.layer_bytes()) : 1;
      auto op = std::make_shared<ReadOp>();
      op->ref = *ref;
      op->pending = static_cast<int>((read.layers + together - 1) / together);
      op->read = std::move(read);
      const int64_t end = op->read.first_layer + op->read.layers;
      for (int64_t layer = op->read.first_layer; layer < end; layer += together) {
        const int64_t layers = std::min(together, end - layer);
        const int64_t bytes = (layers - 1) * prototype_.layer_bytes() + padded;
        op->bytes += bytes;
        requests.push_back(
            {ref->segment->file.get(), false, ref->segment->info.layer_offset(ref->slot_index, layer),
             op->read.into->layer(layer), bytes, static_cast<uint8_t>(priority),
             [this, op, layer, layers](Status status) {
               Tick(options_.progress);
               checks_.Post([this, op, layer, layers, status = std::move(status)]() mutable {
                 ChunkRead(op, layer, layers, std::move(status));
               });
             }});
      }
      ++ref->slot().readers;
      ++reading_;
      read_rate_.Begin(Clock::now());
    }
  }
  if (!requests.empty()) io_.Submit(std::move(requests));
}

void SsdTierImpl::ChunkRead(const std::shared_ptr<ReadOp>& op, int64_t first_layer, int64_t layers, Status status) {
  // The slot does not change while it has readers.
  const Slot& slot = op->ref.slot();
  const auto bytes = static_cast<size_t>(prototype_.used_bytes(slot.count));
  for (int64_t layer = first_layer; status && layer < first_layer + layers; ++layer) {
    status = OpenLayer(prototype_, slot.checks, cipher_.get(), layer, {op->read.into->layer(layer), bytes});
    if (!status) {
      status = Prefix(status.error(), fmt::format("{}: slot {}", op->ref.segment->file->path(), op->ref.slot_index));
    }
  }
  if (!status) {
    const std::lock_guard lock(op->mutex);
    if (op->status) op->status = std::move(status);
  }
  if (op->pending.fetch_sub(1) > 1) return;
  const Status result = op->status;
  {
    const Lock lock(mutex_);
    ++stats_.reads;
    if (result) {
      stats_.read_bytes += op->bytes;
    } else if (result.error().code == ErrorCode::kCorrupt) {
      ++stats_.corrupt;
    } else {
      ++stats_.read_errors;
    }
    read_rate_.End(result ? op->bytes : 0, Clock::now());
    DropReader(op->ref);
  }
  op->read.done(result);
  op->read.done = nullptr;
  op->read.into.reset();
  const Lock lock(mutex_);
  --reading_;
  changed_.notify_all();
}

TierStats SsdTierImpl::stats() const {
  const Lock lock(mutex_);
  TierStats stats = stats_;
  stats.used_bytes = stats.blocks * prototype_.slot_bytes();
  stats.queued_writes = static_cast<int64_t>(queue_.size()) + writing_;
  stats.read_bytes_per_second = read_rate_.bytes_per_second();
  stats.write_bytes_per_second = write_rate_.bytes_per_second();
  return stats;
}

}  // namespace fathom
