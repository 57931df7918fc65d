#include "model/profile.h"

namespace fathom {

std::string_view StageName(Stage stage) {
  switch (stage) {
    case Stage::kEmbedding: return "embedding";
    case Stage::kQuantize: return "norms, quantising";
    case Stage::kProjections: return "q, k and v";
    case Stage::kStoreKv: return "rotate and store";
    case Stage::kAbsorb: return "absorbed W_UK, W_UV";
    case Stage::kAttention: return "attention";
    case Stage::kOutput: return "output projection";
    case Stage::kSharedExperts: return "router, shared experts";
    case Stage::kRouting: return "routing";
    case Stage::kExpertsUp: return "experts, gate and up";
    case Stage::kSwiGlu: return "SwiGLU";
    case Stage::kExpertsDown: return "experts, down";
    case Stage::kDense: return "dense feed-forward";
    case Stage::kResidual: return "residual";
    case Stage::kHead: return "head";
    case Stage::kCount: break;
  }
  return "";
}

void Profile::Start() {
  count_ = {};
  last_ = std::chrono::steady_clock::now();
}

void Profile::Lap(Stage stage) {
  const auto now = std::chrono::steady_clock::now();
  StageWork& total = stages_[static_cast<int>(stage)];
  ++total.calls;
  total.seconds += std::chrono::duration<double>(now - last_).count();
  total.work += count_;
  count_ = {};
  last_ = now;
}

}  // namespace fathom
