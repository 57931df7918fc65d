#include "format/check.h"

#include <fmt/ranges.h>

#include <unordered_set>

#include "format/packed_experts.h"
#include "format/printable.h"
#include "io/env.h"

namespace fathom {
namespace {

// A tensor's name inside a layer, in GGUF and in Hugging Face files.
struct Name {
  const char* gguf;
  const char* hf;
};

class Checker {
 public:
  explicit Checker(const ModelFile& model) : model_(model), config_(model.config()) {}
  CheckReport Run(const CheckOptions& options);

 private:
  bool gguf() const { return model_.format() == ModelFormat::kGguf; }
  bool full() const { return report_.problems.size() >= CheckReport::kMaxProblems; }
  std::string InLayer(int layer, const Name& name, const char* suffix = ".weight") const {
    return fmt::format("{}{}.{}{}", gguf() ? "blk." : "model.layers.", layer, gguf() ? name.gguf : name.hf, suffix);
  }
  bool Has(const std::string& name) const { return model_.Find(name) != nullptr; }
  void Problem(std::string line) {
    if (!full()) report_.problems.push_back(std::move(line));
  }

  void Need(const std::string& name, std::vector<int64_t> shape, bool is_matrix);
  void Matrix(const std::string& name, int64_t rows, int64_t cols) { Need(name, {rows, cols}, true); }
  void Stack(const std::string& name, int64_t count, int64_t rows, int64_t cols) {
    Need(name, {count, rows, cols}, true);
  }
  void Vector(const std::string& name, int64_t size) { Need(name, {size}, false); }
  void NeedMla(int layer);
  void NeedGqa(int layer);
  void NeedMoe(int layer);
  void NeedExperts(int layer);
  void Scan(const CheckOptions& options);

  const ModelFile& model_;
  const ModelConfig& config_;
  std::unordered_set<const TensorInfo*> used_;
  CheckReport report_;
};

bool IsPlainFloat(DType dtype) { return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16; }

void Checker::Need(const std::string& name, std::vector<int64_t> shape, bool is_matrix) {
  const TensorInfo* tensor = model_.Find(name);
  if (tensor == nullptr) {
    Problem(fmt::format("tensor {} [{}] is missing", name, fmt::join(shape, ", ")));
    return;
  }
  if (used_.insert(tensor).second) report_.used_bytes += tensor->bytes;
  if (tensor->shape != shape) {
    Problem(fmt::format("tensor {} has shape [{}], the configuration asks for [{}]", name,
                        fmt::join(tensor->shape, ", "), fmt::join(shape, ", ")));
    return;
  }
  const bool usable = IsPlainFloat(tensor->dtype) || (is_matrix && TraitsOf(tensor->dtype).quantized);
  if (!usable) {
    Problem(fmt::format("tensor {} has type {}, which cannot be computed with", name, DTypeName(tensor->dtype)));
    return;
  }
  if (tensor->dtype != DType::kF8_E4M3 || shape.size() != 2) return;
  const std::string scale_name = name + "_scale_inv";
  const std::vector<int64_t> scale_shape = {(shape[0] + 127) / 128, (shape[1] + 127) / 128};
  const TensorInfo* scale = model_.Find(scale_name);
  if (scale == nullptr) {
    Problem(fmt::format("tensor {} [{}] is missing", scale_name, fmt::join(scale_shape, ", ")));
    return;
  }
  if (used_.insert(scale).second) report_.used_bytes += scale->bytes;
  if (scale->dtype != DType::kF32 || scale->shape != scale_shape) {
    Problem(fmt::format("tensor {} is {} [{}], expected f32 [{}]", scale_name, DTypeName(scale->dtype),
                        fmt::join(scale->shape, ", "), fmt::join(scale_shape, ", ")));
  }
}

void Checker::NeedMla(int layer) {
  const MlaConfig& mla = config_.mla;
  const int64_t hidden = config_.hidden_size, heads = config_.num_attention_heads, rank = mla.kv_lora_rank;
  const int64_t q_rows = heads * mla.qk_head_dim();
  if (mla.q_lora_rank > 0) {
    Matrix(InLayer(layer, {"attn_q_a", "self_attn.q_a_proj"}), mla.q_lora_rank, hidden);
    Vector(InLayer(layer, {"attn_q_a_norm", "self_attn.q_a_layernorm"}), mla.q_lora_rank);
    Matrix(InLayer(layer, {"attn_q_b", "self_attn.q_b_proj"}), q_rows, mla.q_lora_rank);
  } else {
    Matrix(InLayer(layer, {"attn_q", "self_attn.q_proj"}), q_rows, hidden);
  }
  Matrix(InLayer(layer, {"attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"}), mla.latent_dim(), hidden);
  Vector(InLayer(layer, {"attn_kv_a_norm", "self_attn.kv_a_layernorm"}), rank);
  Matrix(InLayer(layer, {"attn_output", "self_attn.o_proj"}), hidden, heads * mla.v_head_dim);
  const Name kv_b = {"attn_kv_b", "self_attn.kv_b_proj"};
  // The older GGUF layout, and Hugging Face, keep both halves in one matrix.
  if (gguf() && (Has(InLayer(layer, {"attn_k_b", ""})) || !Has(InLayer(layer, kv_b)))) {
    Stack(InLayer(layer, {"attn_k_b", ""}), heads, rank, mla.qk_nope_head_dim);
    Stack(InLayer(layer, {"attn_v_b", ""}), heads, mla.v_head_dim, rank);
  } else {
    Matrix(InLayer(layer, kv_b), heads * (int64_t{mla.qk_nope_head_dim} + mla.v_head_dim), rank);
  }
}

void Checker::NeedGqa(int layer) {
  const int64_t hidden = config_.hidden_size;
  const int64_t q_rows = int64_t{config_.num_attention_heads} * config_.head_dim;
  const int64_t kv_rows = int64_t{config_.num_key_value_heads} * config_.head_dim;
  const Name q = {"attn_q", "self_attn.q_proj"}, k = {"attn_k", "self_attn.k_proj"}, v = {"attn_v", "self_attn.v_proj"};
  Matrix(InLayer(layer, q), q_rows, hidden);
  Matrix(InLayer(layer, k), kv_rows, hidden);
  Matrix(InLayer(layer, v), kv_rows, hidden);
  Matrix(InLayer(layer, {"attn_output", "self_attn.o_proj"}), hidden, q_rows);
  if (!config_.attention_bias) return;
  Vector(InLayer(layer, q, ".bias"), q_rows);
  Vector(InLayer(layer, k, ".bias"), kv_rows);
  Vector(InLayer(layer, v, ".bias"), kv_rows);
}

void Checker::NeedMoe(int layer) {
  const MoeConfig& moe = config_.moe;
  const int64_t hidden = config_.hidden_size;
  Matrix(InLayer(layer, {"ffn_gate_inp", "mlp.gate"}), moe.n_routed_experts, hidden);
  if (moe.has_correction_bias) {
    std::string bias = InLayer(layer, {"exp_probs_b", "mlp.gate.e_score_correction_bias"}, gguf() ? ".bias" : "");
    if (gguf() && !Has(bias) && Has(InLayer(layer, {"exp_probs_b", ""}, "")))
      bias = InLayer(layer, {"exp_probs_b", ""}, "");
    Vector(bias, moe.n_routed_experts);
  }
  if (moe.n_shared_experts > 0) {
    const int64_t inner = int64_t{moe.n_shared_experts} * moe.moe_intermediate_size;
    Matrix(InLayer(layer, {"ffn_gate_shexp", "mlp.shared_experts.gate_proj"}), inner, hidden);
    Matrix(InLayer(layer, {"ffn_up_shexp", "mlp.shared_experts.up_proj"}), inner, hidden);
    Matrix(InLayer(layer, {"ffn_down_shexp", "mlp.shared_experts.down_proj"}), hidden, inner);
  }
  NeedExperts(layer);
}

void Checker::NeedExperts(int layer) {
  const MoeConfig& moe = config_.moe;
  const int64_t hidden = config_.hidden_size, inner = moe.moe_intermediate_size, count = moe.n_routed_experts;
  if (!gguf()) {
    for (int64_t e = 0; e < count && !full(); ++e) {
      const std::string prefix = fmt::format("model.layers.{}.mlp.experts.{}.", layer, e);
      Matrix(prefix + "gate_proj.weight", inner, hidden);
      Matrix(prefix + "up_proj.weight", inner, hidden);
      Matrix(prefix + "down_proj.weight", hidden, inner);
    }
    return;
  }
  if (HasPackedExperts(model_, layer)) {
    for (int64_t e = 0; e < count && !full(); ++e) {
      Matrix(PackedExpertName(layer, e, "gate"), inner, hidden);
      Matrix(PackedExpertName(layer, e, "up"), inner, hidden);
      Matrix(PackedExpertName(layer, e, "down"), hidden, inner);
    }
    return;
  }
  if (const std::string fused = InLayer(layer, {"ffn_gate_up_exps", ""}); Has(fused)) {
    Stack(fused, count, 2 * inner, hidden);
  } else {
    Stack(InLayer(layer, {"ffn_gate_exps", ""}), count, inner, hidden);
    Stack(InLayer(layer, {"ffn_up_exps", ""}), count, inner, hidden);
  }
  Stack(InLayer(layer, {"ffn_down_exps", ""}), count, hidden, inner);
}

void Checker::Scan(const CheckOptions& options) {
  const int64_t total = model_.tensor_bytes();
  int64_t done = 0;
  const auto tensors = model_.tensors();
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorInfo& tensor = tensors[i];
    if (full()) return;
    // The disk works on the next tensor while this one is looked at.
    if (i == 0) model_.Advise(tensor, MapAdvice::kWillNeed);
    if (i + 1 < tensors.size()) model_.Advise(tensors[i + 1], MapAdvice::kWillNeed);
    if (options.progress && !options.progress(done, total)) return;
    if (const int64_t at = FindNonFinite(tensor); at >= 0) {
      Problem(fmt::format("tensor {} holds a value that is not finite, at element {}: the file is damaged",
                          PrintableName(tensor.name), at));
    }
    done += tensor.bytes;
  }
  if (options.progress) (void)options.progress(done, total);
  report_.scanned = true;
}

CheckReport Checker::Run(const CheckOptions& options) {
  const int64_t vocab = config_.vocab_size, hidden = config_.hidden_size;
  Matrix(gguf() ? "token_embd.weight" : "model.embed_tokens.weight", vocab, hidden);
  Vector(gguf() ? "output_norm.weight" : "model.norm.weight", hidden);
  if (!config_.tie_word_embeddings) Matrix(gguf() ? "output.weight" : "lm_head.weight", vocab, hidden);
  for (int layer = 0; layer < config_.num_hidden_layers && !full(); ++layer) {
    Vector(InLayer(layer, {"attn_norm", "input_layernorm"}), hidden);
    Vector(InLayer(layer, {"ffn_norm", "post_attention_layernorm"}), hidden);
    config_.is_mla() ? NeedMla(layer) : NeedGqa(layer);
    if (config_.is_moe_layer(layer)) {
      NeedMoe(layer);
    } else {
      Matrix(InLayer(layer, {"ffn_gate", "mlp.gate_proj"}), config_.intermediate_size, hidden);
      Matrix(InLayer(layer, {"ffn_up", "mlp.up_proj"}), config_.intermediate_size, hidden);
      Matrix(InLayer(layer, {"ffn_down", "mlp.down_proj"}), hidden, config_.intermediate_size);
    }
  }
  for (const TensorInfo& tensor : model_.tensors()) {
    if (used_.contains(&tensor)) continue;
    if (tensor.name == "rope_freqs.weight") {  // went into the configuration
      report_.used_bytes += tensor.bytes;
      continue;
    }
    report_.unused.push_back(PrintableName(tensor.name));
    report_.unused_bytes += tensor.bytes;
  }
  if (options.scan_values) Scan(options);
  if (full()) report_.problems.push_back("… and perhaps more; the check stopped here");
  return std::move(report_);
}

}  // namespace

CheckReport CheckModel(const ModelFile& model, const CheckOptions& options) { return Checker(model).Run(options); }

}  // namespace fathom
