#include "engine/expert_memory.h"

#include <algorithm>

#include "base/available_memory.h"
#include "base/log.h"
#include "engine/fingerprint.h"
#include "engine/memory_plan.h"
#include "engine/prefill_rows.h"
#include "experts/heat_file.h"
#include "experts/io_measure.h"

namespace fathom {
namespace {

// Until they have been measured: what a disk reads in large pieces, and what a core multiplies in long prompts.
constexpr double kDiskRate = 2.5e9;          // bytes/s
constexpr double kOperationRate = 0.4e12;    // operations/s
constexpr double kEnoughSeconds = 0.3;       // of reading, for a rate
constexpr int64_t kMostRows = 8192;
// Scratch memory of longer pieces: so much, and this share of what the experts' slots take.
constexpr int64_t kScratchBytes = int64_t{256} << 20;
constexpr int64_t kScratchShare = 4;

IoChoice HowToRead(const ExpertLayout& layout, Env& env, const ExpertOptions& options, const ExpertSurroundings& around,
                   int64_t slots) {
  using Why = IoChoice::Why;
  if (options.io != ExpertIo::kAuto) return {.asked = options.io, .direct = options.io == ExpertIo::kDirect};
  if (around.promised) return {.why = Why::kPromise};
  if (slots == layout.geometry().count()) return {.why = Why::kAllFit};
  Result<IoMeasured> measured = MeasureIo(layout, env);
  if (!measured) return {.why = Why::kNotMeasured, .problem = measured.error().message};
  const int64_t slot_memory = slots * layout.slot_bytes();
  measured->slot_bytes = static_cast<int64_t>(static_cast<double>(layout.total_bytes()) * static_cast<double>(slots) /
                                              layout.geometry().count());
  measured->cache_bytes = AvailableMemory() - slot_memory - around.to_come;
  return ChooseIo(*measured);
}

}  // namespace

int64_t ExpertMemory::PrefillRows(int64_t base) const {
  if (store_ == nullptr) return base;
  const ExpertStoreStats stats = store_->stats();
  const ExpertLayout& layout = store_->layout();
  const ModelConfig& config = model_.config();
  // Of the slots two layers' worth only pass experts through.
  const double kept = static_cast<double>(std::max<int64_t>(stats.slots - 2 * geometry_.experts, 0)) / geometry_.count();
  const double measured = model_.streamed_row_seconds();
  const double operations = 2.0 * static_cast<double>(CountParameters(config).active);
  return fathom::PrefillRows(
      {.base = base,
       .most = std::min<int64_t>(
           kMostRows, (kScratchBytes + stats.slots * stats.slot_bytes / kScratchShare) / ScratchBytesOfRow(config)),
       .pass_bytes = std::max(0.0, 1 - kept) * static_cast<double>(layout.total_bytes()),
       .disk_rate = stats.busy_seconds > kEnoughSeconds ? static_cast<double>(stats.bytes_read) / stats.busy_seconds
                                                        : kDiskRate,
       .row_seconds = measured > 0 ? measured : operations / (kOperationRate * threads_)});
}

Result<std::unique_ptr<ExpertMemory>> ExpertMemory::Create(const ModelFile& file, Env& env,
                                                           const EngineOptions& engine_options, Model& model,
                                                           const ExpertSurroundings& around) {
  const ExpertOptions& options = engine_options.experts;
  std::unique_ptr<ExpertMemory> memory(new ExpertMemory(env, model, around.threads));
  if (!(options.resident_bias >= 0 && options.resident_bias <= 1)) {
    return Fail(ErrorCode::kInvalidArgument, "the bias to resident experts is {}, it must lie in [0, 1]",
                options.resident_bias);
  }
  if (options.resident_bias > 0 && options.memory_bytes <= 0)
    spdlog::warn("the bias to resident experts has no effect: all experts are in memory");
  if (options.io == ExpertIo::kBuffered && options.memory_bytes <= 0)
    spdlog::warn("reading experts through the page cache has no effect: all experts are in memory");
  const bool wanted = options.memory_bytes > 0 || !options.record_routing.empty() || !options.replay_routing.empty();
  if (!wanted) return memory;
  if (file.config().moe.n_routed_experts == 0)
    return Fail(ErrorCode::kInvalidArgument, "a dense model has no experts to keep, record or replay");
  if (!options.record_routing.empty() && !options.replay_routing.empty())
    return Fail(ErrorCode::kInvalidArgument, "routing is either recorded or replayed");
  FATHOM_TRY(const ExpertLayout layout, ExpertLayout::Create(file));
  memory->geometry_ = layout.geometry();
  FATHOM_TRY(const std::string fingerprint, ModelFingerprint(file));
  FATHOM_TRY(memory->fingerprint_, ParseFingerprint(fingerprint));

  if (options.memory_bytes > 0) {
    const int64_t slots = std::min<int64_t>(options.memory_bytes / layout.slot_bytes(), memory->geometry_.count());
    // What one token needs of a layer, and as many again that are arriving.
    const int64_t least = std::min<int64_t>(2 * memory->geometry_.top_k, memory->geometry_.count());
    if (slots < least) {
      return Fail(ErrorCode::kInvalidArgument,
                  "{} bytes hold {} experts of {} bytes; {} are needed, which take {} bytes", options.memory_bytes, slots,
                  layout.slot_bytes(), least, least * layout.slot_bytes());
    }
    ExpertStoreOptions store{.slots = slots, .stall_limit = engine_options.stall_limit};
    if (!options.heat_directory.empty()) {
      memory->heat_path_ = HeatPath(options.heat_directory, memory->fingerprint_);
      auto heat = LoadHeat(env, memory->heat_path_, memory->geometry_, memory->fingerprint_);
      if (heat) {
        memory->hot_share_ = HotShare(heat->uses, slots + around.lent);
        store.heat = std::move(heat->uses);
      }
    }
    store.io = HowToRead(layout, env, options, around, slots);
    FATHOM_TRY(memory->store_, ExpertStore::Create(file, env, nullptr, store));
    FATHOM_CHECK_OK(model.UseExperts(memory->store_.get(), options.resident_bias));
  }
  if (!options.record_routing.empty()) {
    FATHOM_TRY(auto writer, RoutingWriter::Create(env, options.record_routing, memory->geometry_, layout.first_layer(),
                                                  memory->fingerprint_));
    memory->routing_ = MakeRoutingRecorder(memory->geometry_, std::move(writer));
  } else if (!options.replay_routing.empty()) {
    FATHOM_TRY(RoutingTrace trace, ReadRoutingTrace(env, options.replay_routing));
    FATHOM_TRY(memory->routing_, MakeRoutingReplayer(memory->geometry_, std::move(trace), options.replay_guesses_right));
  }
  model.ObserveRouting(memory->routing_.get());
  return memory;
}

ExpertMemory::~ExpertMemory() {
  if (store_ != nullptr) (void)model_.UseExperts(nullptr);
  if (routing_ != nullptr) {
    model_.ObserveRouting(nullptr);
    if (const Status status = routing_->Finish(); !status)
      spdlog::warn("the routing record was not written: {}", status.error().message);
  }
  if (store_ == nullptr || heat_path_.empty() || store_->stats().uses == 0) return;
  const Status status =
      SaveHeat(env_, heat_path_, {.geometry = geometry_, .fingerprint = fingerprint_, .uses = store_->Heat()});
  if (!status) spdlog::info("the experts' heat was not kept: {}", status.error().message);
}

}  // namespace fathom
