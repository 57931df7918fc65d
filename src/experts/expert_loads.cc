// Bringing experts in: slots, pieces of reads, what arrives, and prefetching behind all that.
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include <algorithm>

#include "experts/expert_store_impl.h"

namespace fathom {
namespace {

constexpr uint8_t kDemandPriority = 0, kPrefetchPriority = 2;
constexpr int64_t kSampleBytes = 64, kSamplesOfRead = 8;

}  // namespace

bool ExpertStoreImpl::MayGo(ExpertId id, bool guarded) const {
  const Slot& slot = slots_[slot_of_[id]];
  if (!slot.ready || slot.pins > 0) return false;
  // What was prefetched or hinted at for a pass that is still to come.
  return guarded || slot.guard < PassFor(geometry_.LayerOf(id));
}

std::optional<int32_t> ExpertStoreImpl::TakeSlot(ExpertId wanted, bool prefetch) {
  Slots& slots = SlotsFor(wanted);
  if (!slots.free.empty()) {
    const int32_t slot = slots.free.back();
    slots.free.pop_back();
    return slot;
  }
  if (slots.count > slots.target) return std::nullopt;  // has to shrink first
  const auto victim_of = [&](bool guarded) {
    return policy_->Victim([&](ExpertId id) { return &SlotsFor(id) == &slots && MayGo(id, guarded); });
  };
  auto victim = victim_of(false);
  if (!victim && !prefetch) victim = victim_of(true);
  if (!victim) return std::nullopt;
  const int32_t slot = slot_of_[*victim];
  Drop(slot);
  return slot;
}

void ExpertStoreImpl::Drop(int32_t index) {
  Slot& slot = slots_[index];
  policy_->Remove(slot.id);
  slot_of_[slot.id] = -1;
  slot = {};
  ++stats_.evictions;
}

std::shared_ptr<ExpertLoad> ExpertStoreImpl::StartLoad(ExpertId id, int32_t index, bool demanded) {
  auto load = std::make_shared<ExpertLoad>();
  load->id = id;
  load->slot = index;
  load->demanded = demanded;
  load->since = ExpertLoad::Clock::now();
  Slot& slot = slots_[index];
  slot.id = id;
  slot.ready = false;
  slot.prefetched = !demanded;
  slot.guard = demanded ? 0 : PassFor(geometry_.LayerOf(id));
  slot_of_[id] = index;
  loads_[id] = load;
  return load;
}

void ExpertStoreImpl::Demand(const std::shared_ptr<ExpertLoad>& load, Requests* requests) {
  load->demanded = true;
  load->since = ExpertLoad::Clock::now();
  demand_in_flight_ += load->in_flight;
  if (prefetch_ == load) prefetch_.reset();
  IssueAll(load, requests);
}

void ExpertStoreImpl::IssueAll(const std::shared_ptr<ExpertLoad>& load, Requests* requests) {
  while (IssuePiece(load, INT64_MAX, requests)) {
  }
}

bool ExpertStoreImpl::IssuePiece(const std::shared_ptr<ExpertLoad>& load, int64_t piece_bytes, Requests* requests) {
  if (load->issued_all || load->finished) return false;
  const auto reads = layout_.Reads(load->id);
  const ExpertRead& read = reads[load->next_read];
  const int64_t offset = read.offset + load->next_byte;
  const int64_t bytes = std::min(piece_bytes, read.bytes - load->next_byte);
  const int64_t readable = files_->Readable(read.file, offset, bytes);
  if (readable > 0) {
    AsyncIoRequest request{.file = files_->file(read.file),
                           .offset = offset,
                           .memory = MemoryOf(load->id, load->slot) + read.slot_offset + load->next_byte,
                           .bytes = readable,
                           .priority = load->demanded ? kDemandPriority : kPrefetchPriority,
                           .done = {}};
    request.done = [this, load, readable](Status status) { Completed(load, readable, std::move(status)); };
    requests->push_back(std::move(request));
    ++load->in_flight;
    load->progress = Clock::now();
    if (in_flight_++ == 0) busy_since_ = progress_ = load->progress;
    demand_in_flight_ += load->demanded;
  }
  load->next_byte += bytes;
  if (load->next_byte == read.bytes) {
    load->next_byte = 0;
    load->issued_all = ++load->next_read == reads.size();
  }
  if (load->issued_all && load->in_flight == 0) Arrived(*load);  // all of it in a file's last page
  return !load->issued_all;
}

void ExpertStoreImpl::Submit(Requests requests) {
  if (!requests.empty()) io_->Submit(std::move(requests));
}

void ExpertStoreImpl::Completed(const std::shared_ptr<ExpertLoad>& load, int64_t bytes, Status status) {
  Requests requests;
  {
    const Lock lock(mutex_);
    progress_ = load->progress = Clock::now();
    if (--in_flight_ == 0) {
      stats_.busy_seconds += std::chrono::duration<double>(progress_ - busy_since_).count();
    }
    --load->in_flight;
    demand_in_flight_ -= load->demanded;
    if (status) {
      stats_.bytes_read += bytes;
    } else {
      if (load->error) load->error = std::move(status);
      load->issued_all = true;  // no more of this try
      if (prefetch_ == load) prefetch_.reset();
    }
    if (load->issued_all && load->in_flight == 0) TriedAll(load, &requests);
    PumpPrefetch(&requests);
    changed_.notify_all();
    if (requests.empty()) return;  // the store may be gone after this
  }
  Submit(std::move(requests));
}

void ExpertStoreImpl::TriedAll(const std::shared_ptr<ExpertLoad>& load, Requests* requests) {
  if (load->error) return Arrived(*load);
  Error& error = load->error.error();
  if (error.code == ErrorCode::kCorrupt) {
    // A file that ends too early was cut, unless the file system says otherwise: then a read was short.
    if (Status now = files_->CheckUnchanged(); now) {
      error.code = ErrorCode::kIo;
    } else {
      error = now.error();
      if (health_) health_ = std::move(now);
    }
  }
  // Want of memory in the kernel is the disk's trouble, not that of keys and values.
  if (error.code == ErrorCode::kResource) error.code = ErrorCode::kIo;
  if (error.code == ErrorCode::kIo && load->demanded && !stopping_ && ++load->tries < kTries) {
    ++stats_.retries;
    load->error = {};
    load->issued_all = false;
    load->next_read = 0;
    load->next_byte = 0;
    return IssueAll(load, requests);
  }
  GiveUp(*load, std::move(load->error));
}

void ExpertStoreImpl::Arrived(ExpertLoad& load) {
  Slot& slot = slots_[load.slot];
  std::byte* memory = MemoryOf(load.id, load.slot);
  for (const ExpertRead& read : layout_.Reads(load.id))
    files_->CopyTail(read.file, read.offset, read.bytes, memory + read.slot_offset);
  if (Status status = Verify(load); !status) {
    if (health_) health_ = status;
    return GiveUp(load, std::move(status));
  }
  slot.ready = true;
  policy_->Insert(load.id);
  load.finished = true;
  if (load.demanded) {
    const double seconds = std::chrono::duration<double>(ExpertLoad::Clock::now() - load.since).count();
    stats_.read_seconds += seconds;
    stats_.slowest_read_seconds = std::max(stats_.slowest_read_seconds, seconds);
    int bucket = 0;
    while (bucket < ExpertStoreStats::kReadTimes && seconds > ExpertStoreStats::ReadTimeBound(bucket)) ++bucket;
    ++stats_.read_times[bucket];
  }
  loads_.erase(load.id);
  Shrink(SlotsFor(load.id));
}

void ExpertStoreImpl::GiveUp(ExpertLoad& load, Status status) {
  ++stats_.failures;
  load.finished = true;
  load.status = std::move(status);
  slot_of_[load.id] = -1;
  Slot& slot = slots_[load.slot];
  const int32_t pins = slot.pins;
  slot = {};
  slot.pins = pins;
  Slots& slots = SlotsFor(load.id);
  if (pins == 0 && load.slot - slots.first < slots.target) slots.free.push_back(load.slot);
  loads_.erase(load.id);
  Shrink(slots);
}

Status ExpertStoreImpl::Verify(const ExpertLoad& load) {
  XXH3_state_t hash;
  XXH3_64bits_reset(&hash);
  int32_t checked = -1;
  for (const ExpertRead& read : layout_.Reads(load.id)) {
    if (read.file != checked) FATHOM_CHECK_OK(files_->CheckUnchanged(read.file));
    checked = read.file;
    const std::byte* memory = MemoryOf(load.id, load.slot) + read.slot_offset;
    // Within what the file has: behind its end the slot holds what was there before.
    const int64_t step = read.bytes / kSamplesOfRead / kSampleBytes * kSampleBytes;
    for (int64_t s = 0; s < kSamplesOfRead; ++s) {
      const int64_t at = s * step + step / 2;
      const bool inside = files_->Readable(read.file, read.offset + at, kSampleBytes) == kSampleBytes;
      if (inside) XXH3_64bits_update(&hash, memory + at, kSampleBytes);
    }
  }
  const uint64_t sample = std::max<uint64_t>(XXH3_64bits_digest(&hash), 1);
  if (samples_[load.id] == 0) samples_[load.id] = sample;
  if (samples_[load.id] == sample) return {};
  return Fail(ErrorCode::kCorrupt, "{}: the model file's content was changed while in use; load the model again, and "
              "replace models by renaming", files_->file(checked)->path());
}

void ExpertStoreImpl::PumpPrefetch(Requests* requests) {
  const auto most = [&](bool ahead) { return ahead ? options_.ahead_pieces : options_.prefetch_pieces; };
  while (!stopping_ && health_ && demand_in_flight_ == 0) {
    if (prefetch_ == nullptr) {
      std::deque<Wanted>* queue = NextWanted(nullptr);
      if (in_flight_ >= most(queue != nullptr && queue->front().ahead)) return;
      if (queue == nullptr) {
        prefetch_ = StartWarm();
      } else if (prefetch_ = StartPrefetch(queue); prefetch_ == nullptr) {
        // No slot for it; for what is wanted next and lies in slots of another class there may be one.
        queue = NextWanted(&SlotsFor(queue->front().id));
        if (queue != nullptr && in_flight_ < most(queue->front().ahead)) prefetch_ = StartPrefetch(queue);
      }
      if (prefetch_ == nullptr) return;
    }
    const std::shared_ptr<ExpertLoad> load = prefetch_;
    if (in_flight_ >= most(load->ahead)) return;
    if (!IssuePiece(load, load->ahead ? options_.ahead_piece : options_.prefetch_piece, requests)) prefetch_.reset();
  }
}

// What is to be prefetched next, but for slots of class `without`, stands at the front of this; nullptr: nothing is.
std::deque<ExpertStoreImpl::Wanted>* ExpertStoreImpl::NextWanted(const Slots* without) {
  const int32_t layers = geometry_.layers, at = layer_ < layers ? layer_ : layers - 1;
  for (int32_t step = 1; step <= layers; ++step) {
    const int32_t layer = (at + step) % layers;
    if (&SlotsOf(layer) == without) continue;
    auto& wanted = hints_[layer];
    while (!wanted.empty()) {
      if (slot_of_[wanted.front().id] < 0 && wanted.front().pass >= PassFor(layer)) return &wanted;
      wanted.pop_front();
    }
  }
  return nullptr;
}

std::shared_ptr<ExpertLoad> ExpertStoreImpl::StartPrefetch(std::deque<Wanted>* queue) {
  const Wanted next = queue->front();
  const auto slot = TakeSlot(next.id, true);
  if (!slot) return nullptr;
  queue->pop_front();
  ++(next.ahead ? stats_.ahead_reads : stats_.prefetch_reads);
  auto load = StartLoad(next.id, *slot, false);
  load->ahead = slots_[*slot].ahead = next.ahead;
  return load;
}

// What was hot in earlier runs, into slots that nobody has used yet.
std::shared_ptr<ExpertLoad> ExpertStoreImpl::StartWarm() {
  for (Slots& slots : classes_) {
    while (!slots.warm.empty() && !slots.free.empty()) {
      const ExpertId id = slots.warm.front();
      slots.warm.pop_front();
      if (slot_of_[id] >= 0) continue;
      const int32_t slot = *TakeSlot(id, true);
      ++stats_.prefetch_reads;
      auto load = StartLoad(id, slot, false);
      slots_[slot].guard = 0;  // like any other resident
      return load;
    }
  }
  return nullptr;
}

void ExpertStoreImpl::ReadAhead(int32_t layer) {
  Requests requests;
  {
    const Lock lock(mutex_);
    policy_->ExpectAll(layer);
    const int64_t pass = PassFor(layer);
    auto& wanted = hints_[layer];
    wanted.clear();
    for (int32_t e = 0; e < geometry_.experts; ++e) {
      const ExpertId id = geometry_.Id(layer, e);
      if (const int32_t slot = slot_of_[id]; slot >= 0) {
        slots_[slot].guard = pass;
      } else {
        wanted.push_back({.id = id, .pass = pass, .probability = 1, .ahead = true});
      }
    }
    PumpPrefetch(&requests);
  }
  Submit(std::move(requests));
}

int32_t ExpertStoreImpl::LayersAhead(int32_t layer) const {
  const int32_t layers = geometry_.layers, at = layer_ < layers ? layer_ : layers - 1;
  return std::min((layer - at + layers - 1) % layers + 1, kMostAhead);
}

void ExpertStoreImpl::CountHints(int32_t layer, std::span<const int32_t> experts) {
  constexpr float kFade = 0.05f;
  for (int32_t ahead = 1; ahead <= kMostAhead; ++ahead) {
    Hinted& hinted = hinted_[(ahead - 1) * kMostAhead + layer % kMostAhead];
    if (hinted.layer != layer) continue;
    for (const ExpertId id : hinted.missing) {
      const bool asked = std::ranges::any_of(experts, [&](int32_t expert) { return geometry_.Id(layer, expert) == id; });
      hints_worth_[ahead - 1] += kFade * (static_cast<float>(asked) - hints_worth_[ahead - 1]);
    }
    hinted.layer = -1;
  }
}

void ExpertStoreImpl::Hint(int32_t layer, std::span<const ExpertGuess> experts) {
  Requests requests;
  {
    const Lock lock(mutex_);
    auto& wanted = hints_[layer];
    wanted.clear();
    const int32_t ahead = LayersAhead(layer);
    Hinted& hinted = hinted_[(ahead - 1) * kMostAhead + layer % kMostAhead];
    hinted.layer = layer;
    hinted.missing.clear();
    // A guess is right more often where the expert is resident than where it is not, and only the latter cost a read.
    const bool worth = hints_worth_[ahead - 1] >= options_.prefetch_worth;
    for (const ExpertGuess& guess : experts) {
      const ExpertId id = geometry_.Id(layer, guess.expert);
      policy_->Predict(id, guess.probability);
      if (ahead == 1) {  // only the last look before a layer's turn counts as a guess at it
        ++stats_.hinted;
        hinted_pass_[id] = PassFor(layer);
      }
      const int32_t slot = slot_of_[id];
      // Also what an earlier look has brought would not be there without it.
      if (slot < 0 || slots_[slot].prefetched) hinted.missing.push_back(id);
      if (guess.probability < options_.prefetch_probability) continue;
      if (slot >= 0) {
        slots_[slot].guard = PassFor(layer);  // here already: keep it until then
      } else if (worth) {
        wanted.push_back({id, PassFor(layer), guess.probability});
      }
    }
    std::stable_sort(wanted.begin(), wanted.end(),
                     [](const Wanted& a, const Wanted& b) { return a.probability > b.probability; });
    PumpPrefetch(&requests);
  }
  Submit(std::move(requests));
}

}  // namespace fathom
