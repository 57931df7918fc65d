#include "experts/expert_store.h"

#include <algorithm>
#include <numeric>

#include "base/log.h"
#include "experts/expert_store_impl.h"
#include "experts/same_files.h"
#include "io/left_behind.h"

namespace fathom {
namespace {

using Step = ExpertBatchState::Step;

// What Create() gives: a store that can be left behind with its reads.
class ExpertStoreOwner final : public ExpertStore {
 public:
  explicit ExpertStoreOwner(std::unique_ptr<ExpertStoreImpl> store) : store_(std::move(store)) {}
  ~ExpertStoreOwner() override {
    if (store_->Stop()) return;
    spdlog::error("{}: reads of experts do not come back; they are left behind with their memory",
                  store_->layout().files().front());
    LeaveBehind(std::move(store_));
  }
  const ExpertLayout& layout() const override { return store_->layout(); }
  using ExpertStore::Fetch;
  ExpertBatch Fetch(int32_t layer, std::span<const int32_t> experts, std::span<const int32_t> rows,
                    int64_t tokens) override {
    return store_->Fetch(layer, experts, rows, tokens);
  }
  void Hint(int32_t layer, std::span<const ExpertGuess> experts) override { store_->Hint(layer, experts); }
  void ReadAhead(int32_t layer) override { store_->ReadAhead(layer); }
  void Residents(int32_t layer, std::span<uint8_t> out) const override { store_->Residents(layer, out); }
  Status Resize(int64_t slots) override { return store_->Resize(slots); }
  int64_t slots() const override { return store_->slots(); }
  ExpertStoreStats stats() const override { return store_->stats(); }
  std::vector<float> Heat() const override { return store_->Heat(); }
  Status CheckUnchanged() override { return store_->CheckUnchanged(); }

 private:
  std::unique_ptr<ExpertStoreImpl> store_;
};

}  // namespace

ExpertLease& ExpertLease::operator=(ExpertLease&& other) noexcept {
  if (this == &other) return *this;
  Release();
  store_ = std::exchange(other.store_, nullptr);
  batch_ = std::move(other.batch_);
  member_ = other.member_;
  expert_ = other.expert_;
  slot_ = std::exchange(other.slot_, -1);
  views_ = other.views_;
  return *this;
}

void ExpertLease::Release() {
  if (auto* store = std::exchange(store_, nullptr)) store->Release(*batch_, slot_);
}

ExpertBatch::~ExpertBatch() {
  if (state_ != nullptr) store_->Abandon(*state_);
}
Result<std::optional<ExpertLease>> ExpertBatch::Next() { return store_->Next(state_, true); }
Result<std::optional<ExpertLease>> ExpertBatch::Try() { return store_->Next(state_, false); }
int32_t ExpertBatch::left() const { return store_->Left(*state_); }
std::vector<int32_t> ExpertBatch::failed() const { return store_->Failed(*state_); }

Result<std::unique_ptr<ExpertStore>> ExpertStore::Create(const ModelFile& file, Env& env, AsyncIo* io,
                                                         const ExpertStoreOptions& options) {
  FATHOM_TRY(ExpertLayout layout, ExpertLayout::Create(file));
  const ExpertGeometry& geometry = layout.geometry();
  if (options.slots < geometry.top_k || options.slots > geometry.count() || options.most_slots > geometry.count() ||
      (options.most_slots != 0 && options.most_slots < options.slots)) {
    return Fail(ErrorCode::kInvalidArgument, "{} expert slots (at most {}) are not in [{}, {}]", options.slots,
                options.most_slots, geometry.top_k, geometry.count());
  }
  if (options.prefetch_piece < ExpertLayout::kPage || options.prefetch_piece % ExpertLayout::kPage != 0 ||
      options.prefetch_pieces < 0) {
    return Fail(ErrorCode::kInvalidArgument, "prefetch in {} pieces of {} bytes", options.prefetch_pieces,
                options.prefetch_piece);
  }
  if (options.ahead_piece < ExpertLayout::kPage || options.ahead_piece % ExpertLayout::kPage != 0 ||
      options.ahead_pieces < 1) {
    return Fail(ErrorCode::kInvalidArgument, "reading ahead in {} pieces of {} bytes", options.ahead_pieces,
                options.ahead_piece);
  }
  if (!options.heat.empty() && static_cast<int64_t>(options.heat.size()) != geometry.count())
    return Fail(ErrorCode::kInvalidArgument, "heat of {} experts, there are {}", options.heat.size(), geometry.count());
  if (options.stall_limit.count() <= 0)
    return Fail(ErrorCode::kInvalidArgument, "a limit of {} ms for the disk", options.stall_limit.count());
  auto store = std::make_unique<ExpertStoreImpl>(env, std::move(layout), options);
  FATHOM_CHECK_OK(store->Open(file, io));
  return std::make_unique<ExpertStoreOwner>(std::move(store));
}

ExpertStoreImpl::ExpertStoreImpl(Env& env, ExpertLayout layout, const ExpertStoreOptions& options)
    : env_(env), layout_(std::move(layout)), geometry_(layout_.geometry()), options_(options) {}

Status ExpertStoreImpl::Open(const ModelFile& file, AsyncIo* io) {
  FATHOM_TRY(files_, ModelFiles::Open(env_, layout_.files(), options_.io.direct));
  FATHOM_CHECK_OK(CheckSameFiles(file, *files_));
  const int64_t most = options_.most_slots > 0 ? options_.most_slots : geometry_.count();
  const std::vector<int64_t> slots = layout_.SlotsByClass(options_.slots), reserved = layout_.SlotsByClass(most);
  // Fewer slots in all may mean one more of a class: shares are rounded.
  const auto most_of = [&](size_t c) {
    return std::min<int64_t>(reserved[c] + static_cast<int64_t>(slots.size()),
                             int64_t{layout_.slot_classes()[c].layers} * geometry_.experts);
  };
  for (size_t c = 0; c < slots.size(); ++c) {
    Slots& one = classes_.emplace_back();
    FATHOM_TRY(one.memory, SlotMemory::Reserve(layout_.slot_classes()[c].slot_bytes, most_of(c)));
    FATHOM_CHECK_OK(one.memory->Resize(slots[c]));
    one.first = static_cast<int32_t>(slots_.size());
    one.count = one.target = static_cast<int32_t>(slots[c]);
    slots_.resize(slots_.size() + most_of(c));
    RebuildFree(one);
  }
  if (io == nullptr) {
    FATHOM_TRY(own_io_, AsyncIo::Create({.depth = 64, .threads = 8}));
    io = own_io_.get();
  }
  io_ = io;
  // One range is all that can be registered: the class that has most.
  const auto largest = std::ranges::max_element(classes_, {}, [](const Slots& one) { return one.memory->bytes(); });
  if (!options_.resizable) io_->Register({largest->memory->slot(0), static_cast<size_t>(largest->memory->bytes())});
  policy_ = MakeExpertPolicy(options_.policy, geometry_, options_.slots, options_.heat);
  slot_of_.assign(geometry_.count(), -1);
  samples_.assign(geometry_.count(), 0);
  use_counts_.assign(geometry_.count(), 0);
  hinted_pass_.assign(geometry_.count(), -1);
  hints_.resize(geometry_.layers);
  hinted_.resize(kMostAhead * kMostAhead);
  hints_worth_.fill(1);
  stats_.layer_uses.assign(geometry_.layers, 0);
  stats_.layer_hits.assign(geometry_.layers, 0);
  stats_.first_layer = layout_.first_layer();
  stats_.io = options_.io;

  Requests requests;
  {
    const Lock lock(mutex_);
    if (!options_.heat.empty()) {
      std::vector<ExpertId> order(geometry_.count());
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(),
                       [&](ExpertId a, ExpertId b) { return options_.heat[a] > options_.heat[b]; });
      for (const ExpertId id : order) {
        if (options_.heat[id] <= 0) break;
        Slots& slots = SlotsFor(id);
        if (static_cast<int32_t>(slots.warm.size()) < slots.count) slots.warm.push_back(id);
      }
    }
    PumpPrefetch(&requests);
  }
  Submit(std::move(requests));
  return {};
}

bool ExpertStoreImpl::Stop() {
  Lock lock(mutex_);
  stopping_ = true;
  const auto since = Clock::now();
  while (in_flight_ > 0 && !DiskStalled(since)) changed_.wait_for(lock, PollTime());
  return in_flight_ == 0;
}

ExpertStoreImpl::~ExpertStoreImpl() {
  {
    const Lock lock(mutex_);
    stopping_ = true;
  }
  own_io_.reset();
  Lock lock(mutex_);
  changed_.wait(lock, [&] { return in_flight_ == 0; });
}

ExpertBatch ExpertStoreImpl::Fetch(int32_t layer, std::span<const int32_t> experts, std::span<const int32_t> rows,
                                   int64_t tokens) {
  ExpertBatch batch;
  batch.store_ = this;
  batch.state_ = std::make_shared<ExpertBatchState>();
  ExpertBatchState& state = *batch.state_;
  state.layer = layer;
  state.members.resize(experts.size());
  state.left = static_cast<int32_t>(experts.size());
  state.since = Clock::now();
  Requests requests;
  {
    const Lock lock(mutex_);
    if (layer <= layer_) ++pass_;
    layer_ = layer;
    policy_->AtLayer(layer);
    hints_[layer].clear();
    CountHints(layer, experts);
    if (!rows.empty()) {
      shares_.assign(geometry_.experts, 0);
      for (size_t i = 0; i < experts.size(); ++i)
        shares_[experts[i]] = static_cast<float>(rows[i]) / static_cast<float>(std::max<int64_t>(1, tokens));
      policy_->UseOfMany(layer, shares_, tokens);
    }
    for (size_t i = 0; i < experts.size(); ++i) {
      ExpertBatchState::Member& member = state.members[i];
      member.expert = experts[i];
      const ExpertId id = geometry_.Id(layer, member.expert);
      if (rows.empty()) policy_->Use(id);
      use_counts_[id] += rows.empty() ? 1 : shares_[member.expert];
      ++stats_.uses;
      ++stats_.layer_uses[layer];
      stats_.hints_used += hinted_pass_[id] == pass_;
      const int32_t index = slot_of_[id];
      if (index < 0) continue;
      Slot& slot = slots_[index];
      Pin(state, member, index);
      CountUsed(slot);
      if (slot.ready) {
        member.step = Step::kPinned;
        ++stats_.hits;
        ++stats_.layer_hits[layer];
        continue;
      }
      member.step = Step::kArriving;
      member.load = loads_.at(id);
      ++stats_.arriving;
      if (!member.load->demanded) Demand(member.load, &requests);
    }
    StartMembers(state, &requests);
    PumpPrefetch(&requests);
  }
  Submit(std::move(requests));
  return batch;
}

void ExpertStoreImpl::StartMembers(ExpertBatchState& batch, Requests* requests) {
  if (!health_) return;
  // While the disk hangs one read is enough to see whether it comes back; residents keep their slots.
  const bool stalled = in_flight_ > 0 && Clock::now() - progress_ >= options_.stall_limit;
  for (ExpertBatchState::Member& member : batch.members) {
    if (member.step != Step::kWaiting) continue;
    if (stalled && std::exchange(batch.probed, true)) return;
    const ExpertId id = geometry_.Id(batch.layer, member.expert);
    int32_t index = slot_of_[id];
    if (index < 0) {
      const auto slot = TakeSlot(id, false);
      if (!slot) return;
      index = *slot;
      Pin(batch, member, index);
      const auto load = StartLoad(id, index, true);
      ++stats_.demand_reads;
      member.step = Step::kArriving;
      member.load = load;
      IssueAll(load, requests);
      continue;
    }
    // Somebody else has brought it meanwhile, or is about to.
    Pin(batch, member, index);
    CountUsed(slots_[index]);
    member.step = slots_[index].ready ? Step::kPinned : Step::kArriving;
    if (slots_[index].ready) continue;
    member.load = loads_.at(id);
    if (!member.load->demanded) Demand(member.load, requests);
  }
}

void ExpertStoreImpl::CountUsed(Slot& slot) {
  if (std::exchange(slot.prefetched, false)) ++(slot.ahead ? stats_.ahead_used : stats_.prefetch_used);
}

std::optional<ExpertLease> ExpertStoreImpl::HandOut(const std::shared_ptr<ExpertBatchState>& batch, size_t index) {
  ExpertBatchState::Member& member = batch->members[index];
  ExpertLease lease;
  lease.store_ = this;
  lease.batch_ = batch;
  lease.member_ = static_cast<int32_t>(index);
  lease.expert_ = member.expert;
  lease.slot_ = member.slot;
  lease.views_ = layout_.Views(geometry_.Id(batch->layer, member.expert), MemoryOf(geometry_.Id(batch->layer, member.expert), member.slot));
  member.step = Step::kHandedOut;
  member.load.reset();
  --batch->left;
  return lease;
}

Result<std::optional<ExpertLease>> ExpertStoreImpl::Next(const std::shared_ptr<ExpertBatchState>& batch, bool wait) {
  Lock lock(mutex_);
  for (;;) {
    if (!health_) return std::unexpected(health_.error());
    if (batch->left == 0) return std::nullopt;
    bool waiting = false, arriving = false;
    size_t arrived = batch->members.size();
    for (size_t i = 0; i < batch->members.size(); ++i) {
      ExpertBatchState::Member& member = batch->members[i];
      waiting |= member.step == Step::kWaiting;
      if (member.step == Step::kPinned) return HandOut(batch, i);
      if (member.step != Step::kArriving) continue;
      if (!member.load->finished) {
        arriving = true;
      } else if (member.load->status) {
        arrived = std::min(arrived, i);
      } else {
        const Error error = member.load->status.error();
        return FailMember(*batch, member, error);
      }
    }
    if (arrived < batch->members.size()) return HandOut(batch, arrived);
    for (ExpertBatchState::Member& member : batch->members) {
      if (member.step != Step::kWaiting && member.step != Step::kArriving) continue;
      if (const auto why = Unanswered(*batch, member.load.get())) {
        ++stats_.unanswered;
        const int32_t file = layout_.Reads(geometry_.Id(batch->layer, member.expert)).front().file;
        return FailMember(*batch, member, {ErrorCode::kIo, fmt::format("{}: {}", files_->file(file)->path(), *why)});
      }
    }
    if (waiting) {
      Requests requests;
      StartMembers(*batch, &requests);
      if (!requests.empty()) {
        lock.unlock();
        Submit(std::move(requests));
        lock.lock();
        continue;
      }
      const bool started = std::any_of(batch->members.begin(), batch->members.end(), [](const auto& member) {
        return member.step == Step::kPinned || member.step == Step::kArriving;
      });
      if (started && !arriving) continue;
      if (wait && !arriving && in_flight_ == 0 && pins_ == batch->held) {
        return Fail(ErrorCode::kResource, "all {} expert slots are held by the batch that waits for one",
                    SlotsOf(batch->layer).count);
      }
    }
    if (!wait) return std::nullopt;
    const auto since = Clock::now();
    changed_.wait_for(lock, PollTime());
    const auto waited = Clock::now() - since;
    stats_.stall_seconds += std::chrono::duration<double>(waited).count();
    // It was not the disk that stood still, but this process.
    if (waited > 4 * PollTime() + std::chrono::seconds(1)) progress_ += waited;
  }
}

std::unexpected<Error> ExpertStoreImpl::FailMember(ExpertBatchState& batch, ExpertBatchState::Member& member,
                                                   const Error& error) {
  const bool pinned = member.step == Step::kArriving;
  member.step = Step::kHandedOut;
  member.load.reset();
  --batch.left;
  batch.failed.push_back(member.expert);
  if (pinned) Unpin(batch, member.slot);
  return Prefix(error, fmt::format("layer {}, expert {}", batch.layer + layout_.first_layer(), member.expert));
}

// Whoever comes while the disk hangs does not wait for the whole limit once more, but gives it a chance.
bool ExpertStoreImpl::DiskStalled(Clock::time_point since) const {
  const auto now = Clock::now();
  return in_flight_ > 0 && now - progress_ >= options_.stall_limit && now - since >= options_.stall_limit / 10;
}

std::optional<std::string> ExpertStoreImpl::Unanswered(const ExpertBatchState& batch, const ExpertLoad* load) const {
  const auto seconds = [](Clock::time_point since) {
    return std::chrono::duration<double>(Clock::now() - since).count();
  };
  if (DiskStalled(batch.since))
    return fmt::format("the disk has not answered any read for {:.1f} s", seconds(progress_));
  const bool chance = Clock::now() - batch.since >= options_.stall_limit / 10;
  if (load != nullptr && chance && Clock::now() - load->progress >= kStuckLimits * options_.stall_limit)
    return fmt::format("the disk has not answered this read for {:.1f} s", seconds(load->progress));
  return std::nullopt;
}

ExpertStoreImpl::Clock::duration ExpertStoreImpl::PollTime() const {
  return std::clamp<Clock::duration>(options_.stall_limit / 20, std::chrono::milliseconds(1), std::chrono::milliseconds(500));
}

std::vector<int32_t> ExpertStoreImpl::Failed(const ExpertBatchState& batch) const {
  const Lock lock(mutex_);
  return batch.failed;
}

int32_t ExpertStoreImpl::Left(const ExpertBatchState& batch) const {
  const Lock lock(mutex_);
  return batch.left;
}

void ExpertStoreImpl::Abandon(ExpertBatchState& batch) {
  Requests requests;
  {
    const Lock lock(mutex_);
    for (ExpertBatchState::Member& member : batch.members) {
      const bool pinned = member.step == Step::kPinned || member.step == Step::kArriving;
      member.step = Step::kHandedOut;
      member.load.reset();
      if (pinned) Unpin(batch, member.slot);
    }
    batch.left = 0;
    PumpPrefetch(&requests);
  }
  Submit(std::move(requests));
}

void ExpertStoreImpl::Release(ExpertBatchState& batch, int32_t slot) {
  Requests requests;
  {
    const Lock lock(mutex_);
    Unpin(batch, slot);
    if (batch.left > 0) StartMembers(batch, &requests);
    PumpPrefetch(&requests);
  }
  Submit(std::move(requests));
}

void ExpertStoreImpl::Pin(ExpertBatchState& batch, ExpertBatchState::Member& member, int32_t slot) {
  member.slot = slot;
  ++slots_[slot].pins;
  ++pins_;
  ++batch.held;
}

void ExpertStoreImpl::Unpin(ExpertBatchState& batch, int32_t index) {
  Slot& slot = slots_[index];
  --slot.pins;
  --pins_;
  --batch.held;
  if (slot.pins == 0) {
    Slots& slots = SlotsOf(batch.layer);
    if (slot.id == kNone && index - slots.first < slots.target) slots.free.push_back(index);
    Shrink(slots);
  }
  changed_.notify_all();
}

Status ExpertStoreImpl::CheckUnchanged() {
  const Status status = files_->CheckUnchanged();
  const Lock lock(mutex_);
  if (!status && health_) health_ = status;
  changed_.notify_all();
  return health_;
}

}  // namespace fathom
