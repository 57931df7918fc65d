#include "engine/synth_tensors.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace fathom {
namespace {

class Lister {
 public:
  Lister(const ModelConfig& config, const SynthRecipe& recipe, SynthLayout layout)
      : config_(config), recipe_(recipe), layout_(layout) {
    // Tied embeddings are also the head, whose rows must be small; the stream then starts small, too.
    stream_ = config.tie_word_embeddings ? kLogits / std::sqrt(static_cast<float>(config.hidden_size)) : 1.0f;
    write_gain_ = 1.5f * stream_ / std::sqrt(2.0f * static_cast<float>(config.num_hidden_layers));
  }

  std::vector<SynthTensor> List() {
    const int64_t hidden = config_.hidden_size;
    if (config_.rope.scaling == RopeScaling::kLlama3) {
      const auto factors = Llama3FrequencyFactors(config_.rope);
      Add("rope_freqs.weight", {static_cast<int64_t>(factors.size())}, 0);
      tensors_.back().values = factors;
    }
    Add("token_embd.weight", {config_.vocab_size, hidden}, stream_);
    Norm("output_norm.weight", hidden);
    if (!config_.tie_word_embeddings) Matrix("output.weight", {config_.vocab_size, hidden}, kLogits);
    for (layer_ = 0; layer_ < config_.num_hidden_layers; ++layer_) {
      Norm(Name("attn_norm.weight"), hidden);
      config_.is_mla() ? Mla() : Gqa();
      Norm(Name("ffn_norm.weight"), hidden);
      config_.is_moe_layer(layer_) ? Moe() : Dense();
    }
    return std::move(tensors_);
  }

 private:
  static constexpr float kLogits = 3.0f;   // standard deviation of the logits
  static constexpr float kRouter = 1.0f;   // of the router's logits: spread, but no expert is certain
  static constexpr float kBias = 0.02f;    // of the correction bias, small beside the sigmoid's spread of 0.2

  std::string Name(std::string_view rest) const { return fmt::format("blk.{}.{}", layer_, rest); }

  void Add(std::string name, std::vector<int64_t> shape, float std, float mean = 0.0f) {
    SynthTensor tensor{.name = std::move(name), .shape = std::move(shape), .mean = mean, .std = std};
    tensor.dtype = SynthTensorType(recipe_, config_, tensor.name, tensor.shape.back(),
                                   static_cast<int>(tensor.shape.size()), layer_);
    tensors_.push_back(std::move(tensor));
  }
  void Norm(std::string name, int64_t size) { Add(std::move(name), {size}, 0.1f, 1.0f); }
  // A matrix whose outputs are `gain` times as large as its inputs; inputs defaults to the row's length.
  void Matrix(std::string name, std::vector<int64_t> shape, float gain = 1.0f, int64_t inputs = 0) {
    const float fan_in = static_cast<float>(inputs > 0 ? inputs : shape.back());
    Add(std::move(name), std::move(shape), gain / std::sqrt(fan_in));
  }

  void Mla() {
    const MlaConfig& mla = config_.mla;
    const int64_t hidden = config_.hidden_size, heads = config_.num_attention_heads, rank = mla.kv_lora_rank;
    const int64_t nope = mla.qk_nope_head_dim, v = mla.v_head_dim;
    if (mla.q_lora_rank > 0) {
      Matrix(Name("attn_q_a.weight"), {mla.q_lora_rank, hidden});
      Norm(Name("attn_q_a_norm.weight"), mla.q_lora_rank);
      Matrix(Name("attn_q_b.weight"), {heads * mla.qk_head_dim(), mla.q_lora_rank});
    } else {
      Matrix(Name("attn_q.weight"), {heads * mla.qk_head_dim(), hidden});
    }
    Matrix(Name("attn_kv_a_mqa.weight"), {mla.latent_dim(), hidden});
    Norm(Name("attn_kv_a_norm.weight"), rank);
    if (layout_ == SynthLayout::kMainline) {
      Matrix(Name("attn_k_b.weight"), {heads, rank, nope}, 1.0f, rank);  // stored transposed: keys from the latent
      Matrix(Name("attn_v_b.weight"), {heads, v, rank});
    } else {
      Matrix(Name("attn_kv_b.weight"), {heads * (nope + v), rank});
    }
    Matrix(Name("attn_output.weight"), {hidden, heads * v}, write_gain_);
  }

  void Gqa() {
    const int64_t hidden = config_.hidden_size, dim = config_.head_dim;
    const int64_t q = config_.num_attention_heads * dim, kv = config_.num_key_value_heads * dim;
    const auto projection = [&](std::string_view which, int64_t rows) {
      Matrix(Name(fmt::format("attn_{}.weight", which)), {rows, hidden});
      if (config_.attention_bias) Add(Name(fmt::format("attn_{}.bias", which)), {rows}, 0.1f);
    };
    projection("q", q);
    projection("k", kv);
    projection("v", kv);
    Matrix(Name("attn_output.weight"), {hidden, q}, write_gain_);
  }

  void Dense() {
    const int64_t hidden = config_.hidden_size, width = config_.intermediate_size;
    Matrix(Name("ffn_gate.weight"), {width, hidden});
    Matrix(Name("ffn_up.weight"), {width, hidden});
    Matrix(Name("ffn_down.weight"), {hidden, width}, write_gain_);
  }

  void Moe() {
    const MoeConfig& moe = config_.moe;
    const int64_t hidden = config_.hidden_size, experts = moe.n_routed_experts, width = moe.moe_intermediate_size;
    Matrix(Name("ffn_gate_inp.weight"), {experts, hidden}, kRouter);
    if (moe.has_correction_bias) Add(Name("exp_probs_b.bias"), {experts}, kBias);
    Matrix(Name("ffn_gate_exps.weight"), {experts, width, hidden});
    Matrix(Name("ffn_up_exps.weight"), {experts, width, hidden});
    Matrix(Name("ffn_down_exps.weight"), {experts, hidden, width}, write_gain_);
    if (moe.n_shared_experts == 0) return;
    const int64_t shared = width * moe.n_shared_experts;
    Matrix(Name("ffn_gate_shexp.weight"), {shared, hidden});
    Matrix(Name("ffn_up_shexp.weight"), {shared, hidden});
    Matrix(Name("ffn_down_shexp.weight"), {hidden, shared}, write_gain_);
  }

  const ModelConfig& config_;
  const SynthRecipe& recipe_;
  const SynthLayout layout_;
  float stream_ = 1.0f, write_gain_ = 1.0f;
  int layer_ = -1;
  std::vector<SynthTensor> tensors_;
};

}  // namespace

std::vector<SynthTensor> ListSynthTensors(const ModelConfig& config, const SynthRecipe& recipe, SynthLayout layout) {
  return Lister(config, recipe, layout).List();
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
