#include "engine/expert_memory.h"

#include <algorithm>

#include "base/log.h"
#include "engine/fingerprint.h"
#include "experts/heat_file.h"

namespace fathom {

Result<std::unique_ptr<ExpertMemory>> ExpertMemory::Create(const ModelFile& file, Env& env, const ExpertOptions& options,
                                                           Model& model) {
  std::unique_ptr<ExpertMemory> memory(new ExpertMemory(env, model));
  const bool wanted = options.memory_bytes > 0 || !options.record_routing.empty() || !options.replay_routing.empty();
  if (!wanted) return memory;
  if (file.config().moe.n_routed_experts == 0)
    return Fail(ErrorCode::kInvalidArgument, "a dense model has no experts to keep, record or replay");
  if (!options.record_routing.empty() && !options.replay_routing.empty())
    return Fail(ErrorCode::kInvalidArgument, "routing is either recorded or replayed");
  FATHOM_TRY(const ExpertLayout layout, ExpertLayout::Create(file));
  memory->geometry_ = layout.geometry();
  FATHOM_TRY(memory->fingerprint_, ParseFingerprint(ModelFingerprint(file)));

  if (options.memory_bytes > 0) {
    const int64_t slots = std::min<int64_t>(options.memory_bytes / layout.slot_bytes(), memory->geometry_.count());
    // What one token needs of a layer, and as many again that are arriving.
    const int64_t least = std::min<int64_t>(2 * memory->geometry_.top_k, memory->geometry_.count());
    if (slots < least) {
      return Fail(ErrorCode::kInvalidArgument,
                  "{} bytes hold {} experts of {} bytes; {} are needed, which take {} bytes", options.memory_bytes, slots,
                  layout.slot_bytes(), least, least * layout.slot_bytes());
    }
    ExpertStoreOptions store{.slots = slots};
    if (!options.heat_directory.empty()) {
      memory->heat_path_ = HeatPath(options.heat_directory, memory->fingerprint_);
      auto heat = LoadHeat(env, memory->heat_path_, memory->geometry_, memory->fingerprint_);
      if (heat) store.heat = std::move(heat->uses);
    }
    FATHOM_TRY(memory->store_, ExpertStore::Create(file, env, nullptr, store));
    model.UseExperts(memory->store_.get());
  }
  if (!options.record_routing.empty()) {
    FATHOM_TRY(auto writer, RoutingWriter::Create(env, options.record_routing, memory->geometry_, layout.first_layer(),
                                                  memory->fingerprint_));
    memory->routing_ = MakeRoutingRecorder(memory->geometry_, std::move(writer));
  } else if (!options.replay_routing.empty()) {
    FATHOM_TRY(RoutingTrace trace, ReadRoutingTrace(env, options.replay_routing));
    FATHOM_TRY(memory->routing_, MakeRoutingReplayer(memory->geometry_, std::move(trace)));
  }
  model.ObserveRouting(memory->routing_.get());
  return memory;
}

ExpertMemory::~ExpertMemory() {
  if (store_ != nullptr) model_.UseExperts(nullptr);
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
