// The differentiable operations that the model is written in.
//
// Each has a composed libtorch form, which runs on any device and in any type (doubles too: that is what gradients are
// checked in), and, for tensors in host memory, a fused form over cpu_kernels.h. Activations have the compute type (bf16
// or f32); the residual stream and all parameters are f32, and gradients of parameters are f32.
//
// Shape letters: N tokens of a micro-batch, H hidden size. Functions of libtorch throw c10::Error; the trainer catches
// them once, around a step.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <vector>

namespace fathom::train {

using at::Tensor;

/// Fused forms are used where they exist (default). Off: the composed forms, for tests and comparison.
void SetFusedKernels(bool on);
bool FusedKernels();

/// y = x wᵀ. x: [N, K] in the compute type; w: [M, K] f32, rounded to the compute type for the product.
Tensor Linear(const Tensor& x, const Tensor& w);

/// Rows of the table [V, H] (f32) at ids [N] (int64) as f32.
Tensor Embed(const Tensor& table, const Tensor& ids);

/// x / sqrt(mean(x²) + eps) · weight over the last dimension. x: [N, W] f32 or compute type, possibly a column slice;
/// the result is dense, of type `out`.
Tensor RmsNorm(const Tensor& x, const Tensor& weight, double eps, at::ScalarType out);

/// silu(gate) · up of [N, 2 I] (gate first), times scale [N] (f32) when that is defined.
Tensor SwiGlu(const Tensor& gate_up, const Tensor& scale = {});

/// residual [N, H] f32 + update [N, H] of the compute type.
Tensor AddResidual(const Tensor& residual, const Tensor& update);

/// Rotates pairs (x0,x1),(x2,x3)… of the last `rope_dim` values of each head. x: [N, heads, width];
/// cos, sin: [N, rope_dim / 2] f32.
Tensor RopeTail(const Tensor& x, int64_t rope_dim, const Tensor& cos, const Tensor& sin);

/// Causal attention inside each document. q, k: [N, heads, qk_dim], v: [N, heads, v_dim]; documents are
/// [doc_begin[d], doc_begin[d + 1]). Gives [N, heads, v_dim].
Tensor DocumentAttention(const Tensor& q, const Tensor& k, const Tensor& v, double scale,
                         const std::vector<int64_t>& doc_begin);

/// Tokens sorted by expert, for the grouped products of an MoE layer. An expert's slots are rounded up to a multiple of
/// kSlotMultiple (none stay none), so that products have few different shapes: matrix libraries make a kernel for each.
/// The slots left over hold token 0 with weight 0.
struct ExpertGroups {
  std::vector<int64_t> begin;  // [E + 1]: expert e has slots [begin[e], begin[e + 1])
  Tensor rows;                 // [S] int64: the token of each slot
  Tensor slots;                // [N, k] int64: the slot of each (token, choice)
};
constexpr int64_t kSlotMultiple = 64;
/// choices: [N, k] int64 expert ids. The order inside an expert is that of the tokens.
ExpertGroups GroupByExpert(const Tensor& choices, int64_t experts);

/// Sum over a token's chosen experts of weight · SwiGLU expert. x: [N, H] compute type; weights: [N, k] f32;
/// gate_up: [E, 2 I, H], down: [E, H, I] f32. Gives [N, H] in the compute type. Experts without tokens cost nothing.
Tensor GroupedExperts(const Tensor& x, const Tensor& weights, const ExpertGroups& groups, const Tensor& gate_up,
                      const Tensor& down);

/// Sum of cross-entropies of softmax(hidden headᵀ) against targets, as f32 scalar. hidden: [R, H] compute type;
/// head: [V, H] f32; targets: [R] int64, all in range. Works in pieces of rows, so that logits of all rows never stand
/// in memory together; gradients are made in the forward pass.
Tensor HeadLoss(const Tensor& hidden, const Tensor& head, const Tensor& targets);

/// Runs `body` (a function of one tensor and of parameters) without keeping what its backward pass needs; that is
/// computed anew when it comes to it (arXiv 1604.06174).
Tensor Checkpointed(const std::function<Tensor(const Tensor&)>& body, const Tensor& x);

}  // namespace fathom::train
