// Where the time of forward passes goes: for each kind of operation its time and what it had to do, summed over layers
// and passes. Model::UseProfile() turns it on; without one a pass reads no clock and counts nothing.
//
// Not thread-safe: read it between passes.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string_view>

#include "kernels/work_count.h"

namespace fathom {

enum class Stage {
  kEmbedding,     // rows of tokens, rotary angles
  kQuantize,      // norms and activations made int8
  kProjections,   // of the residual stream to queries, keys and values (MLA: also norm and rotation in between)
  kStoreKv,       // rotated, biased, written to the cache
  kAbsorb,        // MLA: W_UK into the queries, W_UV out of the outputs
  kAttention,
  kOutput,        // W_o
  kSharedExperts, // router, gate and up; with streamed experts down too
  kRouting,       // choices, and tokens by expert
  kExpertsUp,     // gate and up of the chosen
  kSwiGlu,
  kExpertsDown,   // down, shared ones too
  kDense,         // a dense layer's gate, up and down
  kResidual,      // what blocks add to the stream
  kHead,
  kCount
};
inline constexpr int kStages = static_cast<int>(Stage::kCount);
std::string_view StageName(Stage stage);  // "experts, gate and up"

struct StageWork {
  int64_t calls = 0;
  double seconds = 0;
  WorkCount work;
};

class Profile {
 public:
  /// A pass begins now.
  void Start();
  /// What happened since Start() or the last Lap() was this.
  void Lap(Stage stage);
  const StageWork& of(Stage stage) const { return stages_[static_cast<int>(stage)]; }
  /// Where kernels count.
  WorkCount* counter() { return &count_; }

 private:
  std::array<StageWork, kStages> stages_;
  WorkCount count_;
  std::chrono::steady_clock::time_point last_ = {};
};

}  // namespace fathom
