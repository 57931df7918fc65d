// Experts sharded over ranks: tokens travel to the rank that holds their expert, and the results travel back.
#pragma once

#include "train/torch/ops.h"
#include "train/torch/ranks.h"

namespace fathom::train {

/// GroupedExperts when every rank holds E / R experts: gate_up [E/R, 2 I, H], down [E/R, H, I]. Differentiable; the
/// gradient of an expert holds the tokens of all ranks. Collective.
Tensor ExchangeExperts(Ranks& ranks, const Tensor& x, const Tensor& weights, const Tensor& choices, int64_t experts,
                       const Tensor& gate_up, const Tensor& down);

}  // namespace fathom::train
