// The two feed-forward blocks. Shapes in comments: T rows of the batch, K choices a token, I inner size.
#include <algorithm>
#include <array>
#include <numeric>

#include "kernels/routing.h"
#include "kernels/vec_ops.h"
#include "model/model.h"

namespace fathom {
namespace {

MatrixView<const float> Const(const MatrixView<float>& m) { return {m.data, m.rows, m.cols, m.stride}; }

}  // namespace

// x += W_down (silu(W_gate h) * W_up h)
Status Model::DenseBlock(const LayerWeights& layer) {
  const FeedForwardWeights& w = layer.dense;
  const int64_t tokens = x_.rows, inner = w.gate.rows;
  FATHOM_CHECK_OK(NormInput(layer.ffn_norm, {&w.gate, &w.up}));
  Lap(Stage::kQuantize);
  FATHOM_TRY(MatrixView<float> gate, scratch_.gate.Matrix(tokens, inner));
  FATHOM_TRY(MatrixView<float> up, scratch_.up.Matrix(tokens, inner));
  const MatmulJob gate_job{.w = w.gate, .x = &scratch_.in, .m = tokens, .y = gate.data, .ldy = inner};
  const MatmulJob up_job{.w = w.up, .x = &scratch_.in, .m = tokens, .y = up.data, .ldy = inner};
  Matmul(std::array{gate_job, up_job}, scratch_.matmul, pool_);
  Lap(Stage::kDense);
  SwiGlu(gate, up);
  Lap(Stage::kSwiGlu);
  FATHOM_CHECK_OK(scratch_.mid.Set(Const(gate), NeedsQuantizedActivations(w.down.dtype), pool_));
  Lap(Stage::kQuantize);
  FATHOM_TRY(MatrixView<float> update, scratch_.update.Matrix(tokens, config_.hidden_size));
  FATHOM_CHECK_OK(Multiply(w.down, scratch_.mid, update));
  Lap(Stage::kDense);
  AddToResidual(Const(update));
  Lap(Stage::kResidual);
  return {};
}

// DeepSeekMoE (arXiv 2401.06066): x += shared(h) + Σ_k weight_k expert_k(h). Tokens are sorted by expert, so that each
// chosen expert's weights are read once for all of its tokens.
Status Model::MoeBlock(const LayerWeights& w) {
  const MoeConfig& moe = config_.moe;
  const int64_t tokens = x_.rows, hidden = config_.hidden_size, top_k = moe.num_experts_per_tok;
  const int64_t inner = moe.moe_intermediate_size, shared_inner = w.shared.gate.rows, slots = tokens * top_k;
  FATHOM_CHECK_OK(NormInput(w.ffn_norm, {&w.experts[0].gate, &w.experts[0].up, &w.shared.gate, &w.router}));
  Lap(Stage::kQuantize);

  // The router, and the shared experts, which wait for nobody.
  FATHOM_TRY(MatrixView<float> logits, scratch_.router.Matrix(tokens, moe.n_routed_experts));
  FATHOM_TRY(MatrixView<float> shared, scratch_.shared_gate.Matrix(tokens, shared_inner));
  FATHOM_TRY(MatrixView<float> shared_up, scratch_.shared_up.Matrix(tokens, shared_inner));
  scratch_.jobs = {{.w = w.router, .x = &scratch_.in, .m = tokens, .y = logits.data, .ldy = logits.stride}};
  if (shared_inner > 0) {
    scratch_.jobs.push_back({.w = w.shared.gate, .x = &scratch_.in, .m = tokens, .y = shared.data, .ldy = shared_inner});
    scratch_.jobs.push_back({.w = w.shared.up, .x = &scratch_.in, .m = tokens, .y = shared_up.data, .ldy = shared_inner});
  }
  Matmul(scratch_.jobs, scratch_.matmul, pool_);
  Lap(Stage::kSharedExperts);
  Route(w, logits);
  GroupByExpert(tokens);
  Lap(Stage::kRouting);
  if (experts_ != nullptr && MoeLayerOf(w) >= 0) return StreamedExperts(w, shared, shared_up);

  // gate and up of the chosen experts: slot s of expert e is row slot_row[s] of the input.
  FATHOM_TRY(MatrixView<float> gate, scratch_.gate.Matrix(slots, inner));
  FATHOM_TRY(MatrixView<float> up, scratch_.up.Matrix(slots, inner));
  ForChosenExperts([&](int64_t e, int64_t begin, int64_t count) {
    const int32_t* rows = scratch_.slot_row.data() + begin;
    scratch_.jobs.push_back({.w = w.experts[e].gate, .x = &scratch_.in, .row_index = rows, .m = count,
                             .y = gate.row(begin), .ldy = inner});
    scratch_.jobs.push_back({.w = w.experts[e].up, .x = &scratch_.in, .row_index = rows, .m = count,
                             .y = up.row(begin), .ldy = inner});
  });
  Matmul(scratch_.jobs, scratch_.matmul, pool_);
  Lap(Stage::kExpertsUp);
  SwiGlu(gate, up);
  SwiGlu(shared, shared_up);
  Lap(Stage::kSwiGlu);

  // down, for every slot, and for the shared experts straight into the update.
  FATHOM_CHECK_OK(scratch_.mid.Set(Const(gate), NeedsQuantizedActivations(w.experts[0].down.dtype), pool_));
  FATHOM_TRY(MatrixView<float> down, scratch_.down.Matrix(slots, hidden));
  FATHOM_TRY(MatrixView<float> update, scratch_.update.Matrix(tokens, hidden));
  ForChosenExperts([&](int64_t e, int64_t begin, int64_t count) {
    scratch_.jobs.push_back({.w = w.experts[e].down, .x = &scratch_.mid, .row_index = scratch_.iota.data() + begin,
                             .m = count, .y = down.row(begin), .ldy = hidden});
  });
  if (shared_inner > 0) {
    FATHOM_CHECK_OK(scratch_.mid_shared.Set(Const(shared), NeedsQuantizedActivations(w.shared.down.dtype), pool_));
    scratch_.jobs.push_back({.w = w.shared.down, .x = &scratch_.mid_shared, .m = tokens, .y = update.data, .ldy = hidden});
  }
  Lap(Stage::kQuantize);
  Matmul(scratch_.jobs, scratch_.matmul, pool_);
  Lap(Stage::kExpertsDown);
  AddExperts(shared_inner > 0 ? &update : nullptr, down);
  Lap(Stage::kResidual);
  return {};
}

void Model::AddExperts(const MatrixView<float>* shared, MatrixView<float> down) {
  const int64_t hidden = config_.hidden_size, top_k = config_.moe.num_experts_per_tok;
  pool_.ParallelFor(x_.rows, 4, [&](int64_t t, int) {
    if (shared != nullptr) AddTo(shared->row(t), hidden, x_.row(t));
    for (int64_t k = t * top_k; k < (t + 1) * top_k; ++k)
      Axpy(scratch_.expert_weights[k], down.row(scratch_.slot_of[k]), hidden, x_.row(t));
  });
}

void Model::SwiGlu(MatrixView<float> gate, MatrixView<float> up) {
  pool_.ParallelFor(gate.rows, 4, [&](int64_t r, int) { SiluMul(gate.row(r), up.row(r), gate.cols, gate.row(r)); });
}

RoutingParams Model::Routing() const {
  const MoeConfig& moe = config_.moe;
  return {.experts = moe.n_routed_experts,
          .top_k = moe.num_experts_per_tok,
          .n_group = moe.n_group,
          .topk_group = moe.topk_group,
          .sigmoid = moe.scoring_func == GatingFunction::kSigmoid,
          .group_score_top2 = moe.group_score_top2,
          .norm_topk_prob = moe.norm_topk_prob,
          .routed_scaling_factor = moe.routed_scaling_factor};
}

void Model::Route(const LayerWeights& w, MatrixView<float> logits) {
  const RoutingParams params = Routing();
  scratch_.expert_ids.resize(logits.rows * params.top_k);
  scratch_.expert_weights.resize(logits.rows * params.top_k);
  const float* bias = w.router_bias.empty() ? nullptr : w.router_bias.data();
  const RoutingPreference preference = Preference(MoeLayerOf(w));
  pool_.ParallelFor(logits.rows, 16, [&](int64_t t, int) {
    RouteToken(params, logits.row(t), bias, scratch_.expert_ids.data() + t * params.top_k,
               scratch_.expert_weights.data() + t * params.top_k, preference);
  });
  if (routing_ != nullptr) WatchRouting(w, logits);
}

void Model::GroupByExpert(int64_t tokens) {
  const int64_t top_k = config_.moe.num_experts_per_tok, slots = tokens * top_k;
  auto& begin = scratch_.slot_begin;
  begin.assign(config_.moe.n_routed_experts + 1, 0);
  for (int64_t i = 0; i < slots; ++i) ++begin[scratch_.expert_ids[i] + 1];
  std::partial_sum(begin.begin(), begin.end(), begin.begin());
  std::vector<int32_t> next(begin.begin(), begin.end() - 1);
  scratch_.slot_of.resize(slots);
  scratch_.slot_row.resize(slots);
  for (int64_t i = 0; i < slots; ++i) {
    const int32_t slot = next[scratch_.expert_ids[i]]++;
    scratch_.slot_of[i] = slot;
    scratch_.slot_row[slot] = static_cast<int32_t>(i / top_k);
  }
  while (static_cast<int64_t>(scratch_.iota.size()) < slots)
    scratch_.iota.push_back(static_cast<int32_t>(scratch_.iota.size()));
}

}  // namespace fathom
