// A training run from a recipe: data, steps, validation, checkpoints, resumption.
//
// Train() runs on the calling thread (libtorch has its own) and may be called once at a time. Whatever goes wrong, the
// last good checkpoint stays on disk and the next call finds it. Deterministic on a CPU: the same recipe, threads and
// ranks give the same bits, whether or not the run was interrupted.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "train/recipe.h"

namespace fathom::train {

struct StepInfo {
  int64_t step = 0, tokens = 0;  // after this step
  double loss = 0, mtp_loss = 0;  // mean cross-entropy of a counted token, nats
  double gradient_norm = 0;       // before clipping
  double rate_share = 0;          // of the peak learning rates
  double seconds = 0;             // this step
  double flops = 0;               // of this step's model arithmetic
  int stage = 0;
  std::vector<std::vector<float>> expert_load;  // [MoE layer][expert], shares of the layer's tokens·k
};

struct ValidationInfo {
  int64_t step = 0, tokens = 0;
  double loss = 0;           // nats a counted token
  double bits_per_byte = 0;  // 0 where the source does not know its bytes
};

struct RunInfo {
  int64_t parameters_total = 0, parameters_active = 0;
  int64_t total_tokens = 0, total_steps = 0;
  int64_t first_step = 0;        // not 0 when resumed
  int64_t first_tokens = 0;      // tokens and seconds of the run before this call
  double first_seconds = 0;
  std::string resumed_from;      // path of the checkpoint
  std::string device;
  int ranks = 1, threads = 1;
  double flops_per_token = 0;    // train/flops.h, at the recipe's sequence length
  double peak_flops = 0;         // measured matrix product, in the compute type, all ranks
};

struct TrainOptions {
  Recipe recipe;
  std::string device = "cpu";    // any that libtorch knows: "cuda", "cuda:1", …
  int threads = 0;               // of libtorch on the CPU; 0: as many as cores
  bool restart = false;          // begin anew; checkpoints in the output folder are put away, not deleted
  std::string init_from;         // weights to start from, a Hugging Face directory
  int64_t stop_after_steps = 0;  // of this call; 0: none. Saves and ends as an interruption does.
  // Called from the training thread. `interrupted` is asked between micro-batches.
  std::function<bool()> interrupted;
  std::function<void(const RunInfo&)> on_start;
  std::function<void(const StepInfo&)> on_step;
  std::function<void(const ValidationInfo&)> on_validation;
  std::function<void(const std::string& path, int64_t step)> on_checkpoint;
  std::function<void(const std::string&)> on_message;
};

struct RunResult {
  bool finished = false;     // false: interrupted, and saved
  int64_t step = 0, tokens = 0;
  std::string checkpoint;    // the newest
  std::string exported;      // folder of the final model; empty when not finished
};

/// Errors: kInvalidArgument (recipe, device), kNotFound/kIo (data), kCorrupt (checkpoint of another run), kResource
/// (disk), kInternal (what libtorch threw; NaN loss is reported as such with the last good checkpoint).
Result<RunResult> Train(const TrainOptions& options);

/// FLOP/s of a large matrix product on the device, in the compute type: the ceiling that shares are given against.
double MeasurePeakFlops(const std::string& device, bool bf16);

}  // namespace fathom::train
