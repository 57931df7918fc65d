#include "engine/gguf_layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace fathom {
namespace {

class Lister {
 public:
  Lister(const ModelConfig& config, const GgufListOptions& options) : config_(config), options_(options) {}

  std::vector<GgufTensorShape> List() {
    const int64_t hidden = config_.hidden_size, vocab = config_.vocab_size;
    if (config_.rope.scaling == RopeScaling::kLlama3 || !config_.rope.freq_factors.empty())
      Add("rope_freqs.weight", {config_.rope.dim / 2}, GgufRole::kRopeFactors);
    Add("token_embd.weight", {vocab, hidden}, GgufRole::kEmbedding);
    Add("output_norm.weight", {hidden}, GgufRole::kNorm);
    if (!config_.tie_word_embeddings) Add("output.weight", {vocab, hidden}, GgufRole::kHead);
    const int layers = config_.num_hidden_layers + (options_.mtp ? config_.num_nextn_predict_layers : 0);
    for (layer_ = 0; layer_ < layers; ++layer_) {
      In("attn_norm.weight", {hidden}, GgufRole::kNorm);
      config_.is_mla() ? Mla() : Gqa();
      In("ffn_norm.weight", {hidden}, GgufRole::kNorm);
      config_.is_moe_layer(layer_) ? Moe() : Dense();
      if (layer_ >= config_.num_hidden_layers) Mtp();
    }
    return std::move(tensors_);
  }

 private:
  void Add(std::string name, std::vector<int64_t> shape, GgufRole role) {
    tensors_.push_back({std::move(name), std::move(shape), role, layer_});
  }
  void In(std::string_view rest, std::vector<int64_t> shape, GgufRole role = GgufRole::kMatrix) {
    Add(fmt::format("blk.{}.{}", layer_, rest), std::move(shape), role);
  }

  void Mla() {
    const MlaConfig& mla = config_.mla;
    const int64_t hidden = config_.hidden_size, heads = config_.num_attention_heads, rank = mla.kv_lora_rank;
    const int64_t nope = mla.qk_nope_head_dim, v = mla.v_head_dim;
    if (mla.q_lora_rank > 0) {
      In("attn_q_a.weight", {mla.q_lora_rank, hidden});
      In("attn_q_a_norm.weight", {mla.q_lora_rank}, GgufRole::kNorm);
      In("attn_q_b.weight", {heads * mla.qk_head_dim(), mla.q_lora_rank});
    } else {
      In("attn_q.weight", {heads * mla.qk_head_dim(), hidden});
    }
    In("attn_kv_a_mqa.weight", {mla.latent_dim(), hidden});
    In("attn_kv_a_norm.weight", {rank}, GgufRole::kNorm);
    if (options_.layout == GgufLayout::kMainline) {
      In("attn_k_b.weight", {heads, rank, nope}, GgufRole::kKeyUp);
      In("attn_v_b.weight", {heads, v, rank}, GgufRole::kValueUp);
    } else {
      In("attn_kv_b.weight", {heads * (nope + v), rank});
    }
    In("attn_output.weight", {hidden, heads * v}, GgufRole::kResidual);
  }

  void Gqa() {
    const int64_t hidden = config_.hidden_size, dim = config_.head_dim;
    const int64_t q = config_.num_attention_heads * dim, kv = config_.num_key_value_heads * dim;
    const auto projection = [&](std::string_view which, int64_t rows) {
      In(fmt::format("attn_{}.weight", which), {rows, hidden});
      if (config_.attention_bias) In(fmt::format("attn_{}.bias", which), {rows}, GgufRole::kBias);
    };
    projection("q", q);
    projection("k", kv);
    projection("v", kv);
    In("attn_output.weight", {hidden, q}, GgufRole::kResidual);
  }

  void Dense() {
    const int64_t hidden = config_.hidden_size, width = config_.intermediate_size;
    In("ffn_gate.weight", {width, hidden});
    In("ffn_up.weight", {width, hidden});
    In("ffn_down.weight", {hidden, width}, GgufRole::kResidual);
  }

  void Moe() {
    const MoeConfig& moe = config_.moe;
    const int64_t hidden = config_.hidden_size, experts = moe.n_routed_experts, width = moe.moe_intermediate_size;
    In("ffn_gate_inp.weight", {experts, hidden}, GgufRole::kRouter);
    if (moe.has_correction_bias) In("exp_probs_b.bias", {experts}, GgufRole::kRouterBias);
    In("ffn_gate_exps.weight", {experts, width, hidden});
    In("ffn_up_exps.weight", {experts, width, hidden});
    In("ffn_down_exps.weight", {experts, hidden, width}, GgufRole::kResidual);
    if (moe.n_shared_experts == 0) return;
    const int64_t shared = width * moe.n_shared_experts;
    In("ffn_gate_shexp.weight", {shared, hidden});
    In("ffn_up_shexp.weight", {shared, hidden});
    In("ffn_down_shexp.weight", {hidden, shared}, GgufRole::kResidual);
  }

  void Mtp() {
    const int64_t hidden = config_.hidden_size, vocab = config_.vocab_size;
    In("nextn.eh_proj.weight", {hidden, 2 * hidden}, GgufRole::kMtp);
    if (options_.mtp_embeddings) In("nextn.embed_tokens.weight", {vocab, hidden}, GgufRole::kMtpEmbedding);
    In("nextn.enorm.weight", {hidden}, GgufRole::kNorm);
    In("nextn.hnorm.weight", {hidden}, GgufRole::kNorm);
    if (options_.mtp_embeddings) In("nextn.shared_head_head.weight", {vocab, hidden}, GgufRole::kMtpHead);
    In("nextn.shared_head_norm.weight", {hidden}, GgufRole::kNorm);
  }

  const ModelConfig& config_;
  const GgufListOptions& options_;
  int layer_ = -1;
  std::vector<GgufTensorShape> tensors_;
};

}  // namespace

std::vector<GgufTensorShape> ListGgufTensors(const ModelConfig& config, const GgufListOptions& options) {
  return Lister(config, options).List();
}

std::vector<float> Llama3FrequencyFactors(const RopeConfig& rope) {
  // Long waves are slowed by `factor`, short ones kept, those between blended (transformers modeling_rope_utils,
  // "llama3").
  std::vector<float> factors;
  for (int i = 0; i < rope.dim / 2; ++i) {
    const double frequency = std::pow(static_cast<double>(rope.theta), -2.0 * i / rope.dim);
    const double turns = rope.original_max_position_embeddings * frequency / (2 * std::numbers::pi);
    const double blend = std::clamp((turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor), 0.0,
                                    1.0);
    factors.push_back(static_cast<float>(1 / ((1 - blend) / rope.factor + blend)));
  }
  return factors;
}

}  // namespace fathom
