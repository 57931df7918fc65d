// The two attention blocks. Shapes in comments: T rows of the batch, H heads.
#include <array>
#include <cmath>
#include <cstring>

#include "kernels/vec_ops.h"
#include "model/model.h"

namespace fathom {
namespace {

bool AnyQuantized(std::span<const WeightView> weights) {
  return !weights.empty() && NeedsQuantizedActivations(weights.front().dtype);
}

MatrixView<const float> Const(const MatrixView<float>& m) { return {m.data, m.rows, m.cols, m.stride}; }

}  // namespace

// Multi-head latent attention in absorbed form (DeepSeek-V2, arXiv 2405.04434, §2.1): the cache holds, per token,
// norm(c) of kv_lora values and one rotated key of rope values; W_UK is multiplied into the queries and W_UV into the
// outputs, so that attention itself is multi-query over the latent rows.
Status Model::MlaBlock(const LayerWeights& w, int kv_layer, std::span<const Segment> segments) {
  const MlaConfig& mla = config_.mla;
  const int64_t tokens = x_.rows, heads = config_.num_attention_heads;
  const int64_t nope = mla.qk_nope_head_dim, rope = mla.qk_rope_head_dim, rank = mla.kv_lora_rank;
  const int64_t qk = mla.qk_head_dim(), latent = mla.latent_dim(), v_dim = mla.v_head_dim;
  const bool interleaved = config_.rope.layout == RopeLayout::kInterleaved;

  // q = W_q h, or W_qb norm(W_qa h);  [c, k_pe] = W_kva h
  FATHOM_CHECK_OK(NormInput(w.attn_norm, {&w.q, &w.q_a, &w.kv_a}));
  Lap(Stage::kQuantize);
  FATHOM_TRY(MatrixView<float> q, scratch_.q.Matrix(tokens, heads * qk));
  FATHOM_TRY(MatrixView<float> kv, scratch_.kv.Matrix(tokens, latent));
  const MatmulJob kv_job{.w = w.kv_a, .x = &scratch_.in, .m = tokens, .y = kv.data, .ldy = latent};
  if (mla.q_lora_rank > 0) {
    FATHOM_TRY(MatrixView<float> q_a, scratch_.q_a.Matrix(tokens, mla.q_lora_rank));
    const MatmulJob q_a_job{.w = w.q_a, .x = &scratch_.in, .m = tokens, .y = q_a.data, .ldy = mla.q_lora_rank};
    Matmul(std::array{q_a_job, kv_job}, scratch_.matmul, pool_);
    Rows(Const(q_a), w.q_a_norm, config_.mla_norm_eps, q_a);
    FATHOM_CHECK_OK(scratch_.mid.Set(Const(q_a), NeedsQuantizedActivations(w.q_b.dtype), pool_));
    FATHOM_CHECK_OK(Multiply(w.q_b, scratch_.mid, q));
  } else {
    const MatmulJob q_job{.w = w.q, .x = &scratch_.in, .m = tokens, .y = q.data, .ldy = heads * qk};
    Matmul(std::array{q_job, kv_job}, scratch_.matmul, pool_);
  }
  Lap(Stage::kProjections);

  // Rotate; cache norm(c) and k_pe; the rotated query parts go behind the latent ones.
  FATHOM_TRY(MatrixView<float> q_latent, scratch_.q_latent.Matrix(tokens, heads * latent));
  pool_.ParallelFor(tokens, 4, [&](int64_t t, int) {
    float* row = kv.row(t);
    RmsNorm(row, w.kv_a_norm.data(), rank, config_.mla_norm_eps, row);
    Rope(row + rank, rope, interleaved, cos_.row(t), sin_.row(t));
    StoreKv(kv_layer, t, row, latent, 0);
    for (int64_t h = 0; h < heads; ++h) {
      float* q_pe = q.row(t) + h * qk + nope;
      Rope(q_pe, rope, interleaved, cos_.row(t), sin_.row(t));
      std::memcpy(q_latent.row(t) + h * latent + rank, q_pe, rope * sizeof(float));
    }
  });
  Lap(Stage::kStoreKv);

  // q̃_h = W_UK,hᵀ q_nope,h
  FATHOM_CHECK_OK(scratch_.mid.Set(Const(q), AnyQuantized(w.k_b), pool_));
  Lap(Stage::kQuantize);
  scratch_.jobs.clear();
  for (int64_t h = 0; h < heads; ++h)
    scratch_.jobs.push_back({.w = w.k_b[h], .x = &scratch_.mid, .x_col = h * qk, .m = tokens,
                             .y = q_latent.data + h * latent, .ldy = heads * latent});
  Matmul(scratch_.jobs, scratch_.matmul, pool_);
  Lap(Stage::kAbsorb);

  FATHOM_TRY(MatrixView<float> o_latent, scratch_.o_latent.Matrix(tokens, heads * rank));
  const float scale = rope_.softmax_factor() / std::sqrt(static_cast<float>(qk));
  FATHOM_CHECK_OK(Attend(kv_layer, segments, Const(q_latent), o_latent, 1, latent, rank, 0, scale));
  Lap(Stage::kAttention);

  // o_h = W_UV,h (Σ p c);  x += W_o o
  FATHOM_TRY(MatrixView<float> o, scratch_.o.Matrix(tokens, heads * v_dim));
  FATHOM_CHECK_OK(scratch_.mid.Set(Const(o_latent), AnyQuantized(w.v_b), pool_));
  Lap(Stage::kQuantize);
  scratch_.jobs.clear();
  for (int64_t h = 0; h < heads; ++h)
    scratch_.jobs.push_back({.w = w.v_b[h], .x = &scratch_.mid, .x_col = h * rank, .m = tokens,
                             .y = o.data + h * v_dim, .ldy = heads * v_dim});
  Matmul(scratch_.jobs, scratch_.matmul, pool_);
  Lap(Stage::kAbsorb);
  FATHOM_CHECK_OK(scratch_.in.Set(Const(o), NeedsQuantizedActivations(w.o.dtype), pool_));
  Lap(Stage::kQuantize);
  FATHOM_TRY(MatrixView<float> update, scratch_.update.Matrix(tokens, config_.hidden_size));
  FATHOM_CHECK_OK(Multiply(w.o, scratch_.in, update));
  Lap(Stage::kOutput);
  AddToResidual(Const(update));
  Lap(Stage::kResidual);
  return {};
}

// Grouped-query attention (arXiv 2305.13245), with optional biases on Q, K and V. A cache row is the keys of all KV
// heads, then their values.
Status Model::GqaBlock(const LayerWeights& w, int kv_layer, std::span<const Segment> segments) {
  const int64_t tokens = x_.rows, heads = config_.num_attention_heads, kv_heads = config_.num_key_value_heads;
  const int64_t dim = config_.head_dim, q_dim = heads * dim, kv_dim = kv_heads * dim;
  const int64_t rotated = config_.rope.dim;
  const bool interleaved = config_.rope.layout == RopeLayout::kInterleaved;

  FATHOM_CHECK_OK(NormInput(w.attn_norm, {&w.q, &w.k, &w.v}));
  Lap(Stage::kQuantize);
  FATHOM_TRY(MatrixView<float> q, scratch_.q.Matrix(tokens, q_dim));
  FATHOM_TRY(MatrixView<float> k, scratch_.k.Matrix(tokens, kv_dim));
  FATHOM_TRY(MatrixView<float> v, scratch_.v.Matrix(tokens, kv_dim));
  const MatmulJob q_job{.w = w.q, .x = &scratch_.in, .m = tokens, .y = q.data, .ldy = q_dim};
  const MatmulJob k_job{.w = w.k, .x = &scratch_.in, .m = tokens, .y = k.data, .ldy = kv_dim};
  const MatmulJob v_job{.w = w.v, .x = &scratch_.in, .m = tokens, .y = v.data, .ldy = kv_dim};
  Matmul(std::array{q_job, k_job, v_job}, scratch_.matmul, pool_);
  Lap(Stage::kProjections);

  pool_.ParallelFor(tokens, 4, [&](int64_t t, int) {
    if (!w.q_bias.empty()) {
      AddTo(w.q_bias.data(), q_dim, q.row(t));
      AddTo(w.k_bias.data(), kv_dim, k.row(t));
      AddTo(w.v_bias.data(), kv_dim, v.row(t));
    }
    for (int64_t h = 0; h < heads; ++h) Rope(q.row(t) + h * dim, rotated, interleaved, cos_.row(t), sin_.row(t));
    for (int64_t h = 0; h < kv_heads; ++h) Rope(k.row(t) + h * dim, rotated, interleaved, cos_.row(t), sin_.row(t));
    StoreKv(kv_layer, t, k.row(t), kv_dim, 0);
    StoreKv(kv_layer, t, v.row(t), kv_dim, kv_dim);
  });
  Lap(Stage::kStoreKv);

  FATHOM_TRY(MatrixView<float> o, scratch_.o.Matrix(tokens, q_dim));
  const float scale = rope_.softmax_factor() / std::sqrt(static_cast<float>(dim));
  FATHOM_CHECK_OK(Attend(kv_layer, segments, Const(q), o, kv_heads, dim, dim, kv_dim, scale));
  Lap(Stage::kAttention);

  FATHOM_CHECK_OK(scratch_.in.Set(Const(o), NeedsQuantizedActivations(w.o.dtype), pool_));
  Lap(Stage::kQuantize);
  FATHOM_TRY(MatrixView<float> update, scratch_.update.Matrix(tokens, config_.hidden_size));
  FATHOM_CHECK_OK(Multiply(w.o, scratch_.in, update));
  Lap(Stage::kOutput);
  AddToResidual(Const(update));
  Lap(Stage::kResidual);
  return {};
}

}  // namespace fathom
