#include "model/memory_needs.h"

#include <algorithm>

#include "kernels/matmul.h"
#include "tensor/dtype.h"

namespace fathom {
namespace {

/// Of one layer; as Loader::LoadKvB and DeriveKvB in model/weights.cc do it.
int64_t DerivedOfLayer(const ModelFile& file, int layer) {
  const ModelConfig& config = file.config();
  const MlaConfig& mla = config.mla;
  const int64_t heads = config.num_attention_heads, rank = mla.kv_lora_rank, nope = mla.qk_nope_head_dim;
  const bool gguf = file.format() == ModelFormat::kGguf;
  const bool whole = mla.qk_head_dim() % 32 == 0;
  if (gguf) {
    const TensorInfo* keys = file.Find(fmt::format("blk.{}.attn_k_b.weight", layer));
    if (keys != nullptr && file.Find(fmt::format("blk.{}.attn_v_b.weight", layer)) != nullptr) {
      return TraitsOf(keys->dtype).quantized && !whole ? heads * rank * nope * 4 : 0;
    }
  }
  const TensorInfo* kv_b = file.Find(fmt::format("{}.{}.{}.weight", gguf ? "blk" : "model.layers", layer,
                                                 gguf ? "attn_kv_b" : "self_attn.kv_b_proj"));
  if (kv_b == nullptr) return 0;  // loading will say so
  const bool fp8 = kv_b->dtype == DType::kF8_E4M3;
  const bool int8 = TraitsOf(kv_b->dtype).quantized && !fp8 && nope % 32 == 0 && whole;
  const DType key_type = int8 ? DType::kQ8_0 : kv_b->dtype == DType::kBF16 ? DType::kBF16 : DType::kF32;
  return heads * rank * RowBytes(key_type, nope).value_or(4 * nope) + (fp8 ? heads * mla.v_head_dim * rank * 4 : 0);
}

/// Activations: int8 blocks of 32 values, rounded up.
int64_t Quantized(int64_t rows, int64_t cols) {
  return rows * ((cols + 31) / 32) * static_cast<int64_t>(sizeof(ActivationBlock));
}

}  // namespace

int64_t DerivedBytes(const ModelFile& file) {
  if (!file.config().is_mla()) return 0;
  int64_t bytes = 0;
  for (int layer = 0; layer < file.config().num_hidden_layers; ++layer) bytes += DerivedOfLayer(file, layer);
  return bytes;
}

int64_t EarlyRouterBytes(const ModelConfig& config) {
  const auto row = RowBytes(DType::kQ8_0, config.hidden_size);
  if (config.moe.n_routed_experts == 0 || !row) return 0;
  int64_t bytes = 0;
  for (int layer = 0; layer < config.num_hidden_layers; ++layer)
    if (config.is_moe_layer(layer)) bytes += config.moe.n_routed_experts * *row;
  return bytes;
}

int64_t ScratchBytes(const ModelConfig& config, const PassShape& shape) {
  const int64_t rows = shape.rows, hidden = config.hidden_size, heads = config.num_attention_heads;
  const MlaConfig& mla = config.mla;
  const MoeConfig& moe = config.moe;
  int64_t floats = 3 * hidden + config.rope.dim;  // a row: x, h, update; cos and sin
  int64_t widest = hidden;                        // that activations are made of
  int64_t k_dim = config.head_dim, v_dim = config.head_dim;
  if (config.is_mla()) {
    floats += mla.q_lora_rank + heads * mla.qk_head_dim() + mla.latent_dim() + heads * mla.latent_dim() +
              heads * mla.kv_lora_rank + heads * mla.v_head_dim;
    widest = std::max({widest, heads * mla.qk_head_dim(), heads * int64_t{mla.kv_lora_rank}, heads * mla.v_head_dim});
    k_dim = mla.latent_dim();
    v_dim = mla.kv_lora_rank;
  } else {
    floats += 2 * heads * config.head_dim + 2 * config.num_key_value_heads * config.head_dim;
    widest = std::max(widest, heads * config.head_dim);
  }
  // Feed-forward: the dense layers' buffers are the experts' too. mid and mid_shared hold the product of gate and up.
  int64_t inner = config.intermediate_size, shared = 0, mid = Quantized(1, inner);
  if (moe.n_routed_experts > 0) {
    const int64_t top_k = moe.num_experts_per_tok;
    shared = int64_t{moe.n_shared_experts} * moe.moe_intermediate_size;
    inner = std::max(inner, top_k * moe.moe_intermediate_size);
    floats += top_k * hidden + moe.n_routed_experts;  // down, router
    mid = std::max(mid, top_k * Quantized(1, moe.moe_intermediate_size));
  }
  floats += 2 * inner + 2 * shared;
  int64_t bytes = rows * (4 * floats + Quantized(1, hidden) + std::max(mid, Quantized(1, widest)) + Quantized(1, shared) +
                          // Lists of (token, choice) pairs and of rows, and of activations by job.
                          int64_t{40} * std::max(moe.num_experts_per_tok, 1));
  bytes += shape.logit_rows * (4 * hidden + Quantized(1, hidden)) + 2 * Quantized(1, std::max(widest, inner));
  // Attention: 16 tiles of 16 lanes a thread (queries, states), one block of 64 rows unpacked, and the states of a long
  // context's segments, which are computed apart while tiles are few. And what a thread's stack and allocator come to.
  const int64_t lanes = 16, state = (v_dim + 3) * lanes * 4;
  bytes += shape.threads * (16 * lanes * (k_dim + 64) * 6 + 32 * state + 64 * (k_dim + v_dim) * 8 + (int64_t{2} << 20));
  bytes += shape.sequences * shape.threads * (shape.context / 1024 + 8) * state;
  // About fifty buffers, each of whole huge pages when it is large.
  return bytes + std::min<int64_t>(bytes / 4, int64_t{32} << 20);
}

}  // namespace fathom
