// AdamW and Muon.
//
// Muon (Jordan 2024; arXiv 2502.16982) for hidden matrices: momentum, made orthogonal by Newton-Schulz iterations,
// scaled so that an update's root mean square is kUpdateRms of the learning rate, which lets it share AdamW's rates.
// AdamW (arXiv 1711.05101) for tables and norms; norms without weight decay. State is f32, one or two tensors a
// parameter. Not thread-safe.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <utility>
#include <vector>

#include "train/recipe.h"
#include "train/torch/module.h"

namespace fathom::train {

class Optimizer {
 public:
  Optimizer(std::vector<Parameter>& parameters, const OptimizerSpec& spec, at::ScalarType compute);

  /// One step from the parameters' gradients. share: of the peak learning rates.
  void Step(double share);
  void ZeroGradients();
  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }

  /// State tensors with the names that checkpoints give them.
  std::vector<std::pair<std::string, Tensor>> State();

 private:
  struct Slot {
    Parameter* parameter;
    bool muon;
    Tensor first, second;  // momentum; second moment (AdamW only)
  };
  void AdamStep(Slot& slot, double rate);
  void MuonStep(Slot& slot, double rate);

  OptimizerSpec spec_;
  at::ScalarType compute_;
  std::vector<Slot> slots_;
  int64_t steps_ = 0;
};

/// The nearest (semi-)orthogonal matrices of x [..., m, n] by `steps` Newton-Schulz iterations. From eight steps on, the
/// last two use V4's converging coefficients (2, -1.5, 0.5) after the fast ones.
Tensor Orthogonalize(const Tensor& x, int steps, at::ScalarType compute);

/// The global 2-norm of all gradients; sharded ones are summed over ranks.
double GradientNorm(const std::vector<Parameter>& parameters, Ranks& ranks);

}  // namespace fathom::train
