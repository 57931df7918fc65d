#include "model/weights.h"

#include <algorithm>
#include <cstring>

#include "format/packed_experts.h"
#include "kernels/dequant.h"
#include "kernels/quantize.h"

namespace fathom {
namespace {

// One tensor's name in GGUF ("blk.N." before it inside layers) and in Hugging Face files ("model.layers.N.").
struct Name {
  const char* gguf;
  const char* hf;
};

std::string ShapeText(std::span<const int64_t> shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

class Loader {
 public:
  Loader(const ModelFile& file, ThreadPool& pool) : file_(file), config_(file.config()), pool_(pool) {}

  Result<ModelWeights> Load();
  Result<MtpWeights> LoadMtp(const ModelWeights& main);

 private:
  bool gguf() const { return file_.format() == ModelFormat::kGguf; }
  std::string Full(const Name& name, const char* suffix = ".weight") const {
    return std::string(gguf() ? name.gguf : name.hf) + suffix;
  }
  std::string InLayer(int layer, const Name& name, const char* suffix = ".weight") const {
    return fmt::format("{}{}.{}{}", gguf() ? "blk." : "model.layers.", layer, gguf() ? name.gguf : name.hf, suffix);
  }
  bool Has(const std::string& name) const { return file_.Find(name) != nullptr; }

  /// A matrix [rows, cols], or a stack [count, rows, cols] when count > 0 (seen as [count * rows, cols]).
  Result<WeightView> Matrix(const std::string& name, int64_t rows, int64_t cols, int64_t count = 0);
  Result<std::vector<float>> Vector(const std::string& name, int64_t size) const;
  /// The tensor's bytes, or an aligned copy of them: safetensors promises no alignment.
  Result<const std::byte*> Aligned(const TensorInfo& info, int64_t alignment);
  Result<WeightView> Derive(DType dtype, int64_t rows, int64_t cols);

  Status LoadLayer(int layer, LayerWeights& out);
  Status LoadMla(int layer, LayerWeights& out);
  Status LoadKvB(int layer, LayerWeights& out);
  Status DeriveKvB(const WeightView& kv_b, LayerWeights& out);
  Status LoadGqa(int layer, LayerWeights& out);
  Status LoadDense(int layer, LayerWeights& out);
  Status LoadMoe(int layer, LayerWeights& out);
  Status LoadExperts(int layer, LayerWeights& out);

  const ModelFile& file_;
  const ModelConfig& config_;
  ThreadPool& pool_;
  ModelWeights weights_;
};

Result<WeightView> Loader::Matrix(const std::string& name, int64_t rows, int64_t cols, int64_t count) {
  const TensorInfo* info = file_.Find(name);
  if (info == nullptr) return Fail(ErrorCode::kCorrupt, "tensor {} is missing", name);
  std::vector<int64_t> want = {rows, cols};
  if (count > 0) want.insert(want.begin(), count);
  if (info->shape != want) {
    return Fail(ErrorCode::kCorrupt, "tensor {} has shape {}, the configuration asks for {}", name,
                ShapeText(info->shape), ShapeText(want));
  }
  const auto row_bytes = RowBytes(info->dtype, cols);
  if (!row_bytes || info->dtype == DType::kI8 || info->dtype == DType::kI16 || info->dtype == DType::kI32 ||
      info->dtype == DType::kI64 || info->dtype == DType::kF64) {
    return Fail(ErrorCode::kUnsupported, "tensor {} has type {}, which cannot be multiplied with", name,
                DTypeName(info->dtype));
  }
  WeightView view{info->dtype, info->data, rows * std::max<int64_t>(count, 1), cols, *row_bytes, nullptr, 0};
  if (info->dtype == DType::kF8_E4M3) {
    const std::string scale_name = name + "_scale_inv";
    const TensorInfo* scale = file_.Find(scale_name);
    const std::vector<int64_t> scale_shape = {(rows + 127) / 128, (cols + 127) / 128};
    if (scale == nullptr) return Fail(ErrorCode::kCorrupt, "tensor {} is missing", scale_name);
    if (scale->dtype != DType::kF32 || scale->shape != scale_shape) {
      return Fail(ErrorCode::kCorrupt, "tensor {} is {} {}, expected f32 {}", scale_name, DTypeName(scale->dtype),
                  ShapeText(scale->shape), ShapeText(scale_shape));
    }
    FATHOM_TRY(const std::byte* scales, Aligned(*scale, 4));
    view.scale_inv = reinterpret_cast<const float*>(scales);
    view.scale_cols = scale_shape[1];
  }
  const int64_t element = info->dtype == DType::kF32 ? 4 : TraitsOf(info->dtype).quantized ? 1 : 2;
  FATHOM_TRY(view.data, Aligned(*info, element));
  return view;
}

Result<std::vector<float>> Loader::Vector(const std::string& name, int64_t size) const {
  const TensorInfo* info = file_.Find(name);
  if (info == nullptr) return Fail(ErrorCode::kCorrupt, "tensor {} is missing", name);
  if (info->shape != std::vector<int64_t>{size}) {
    return Fail(ErrorCode::kCorrupt, "tensor {} has shape {}, the configuration asks for [{}]", name,
                ShapeText(info->shape), size);
  }
  if (info->dtype != DType::kF32 && info->dtype != DType::kF16 && info->dtype != DType::kBF16)
    return Fail(ErrorCode::kUnsupported, "tensor {} has type {}", name, DTypeName(info->dtype));
  std::vector<float> out(size);
  DequantizeRow(info->dtype, info->data, size, out.data());
  return out;
}

Result<const std::byte*> Loader::Aligned(const TensorInfo& info, int64_t alignment) {
  if (reinterpret_cast<uintptr_t>(info.data) % alignment == 0) return info.data;
  FATHOM_TRY(AlignedBuffer buffer, AlignedBuffer::Allocate(info.bytes));
  std::memcpy(buffer.data(), info.data, info.bytes);
  const std::byte* data = buffer.data();
  weights_.derived.push_back(std::move(buffer));
  weights_.derived_bytes += info.bytes;
  return data;
}

Result<WeightView> Loader::Derive(DType dtype, int64_t rows, int64_t cols) {
  const int64_t row_bytes = *RowBytes(dtype, cols);
  FATHOM_TRY(AlignedBuffer buffer, AlignedBuffer::Allocate(rows * row_bytes));
  const WeightView view{dtype, buffer.data(), rows, cols, row_bytes, nullptr, 0};
  weights_.derived.push_back(std::move(buffer));
  weights_.derived_bytes += rows * row_bytes;
  return view;
}

Result<ModelWeights> Loader::Load() {
  const int64_t vocab = config_.vocab_size, hidden = config_.hidden_size;
  FATHOM_TRY(weights_.embedding, Matrix(Full({"token_embd", "model.embed_tokens"}), vocab, hidden));
  FATHOM_TRY(weights_.output_norm, Vector(Full({"output_norm", "model.norm"}), hidden));
  if (config_.tie_word_embeddings) {
    weights_.head = weights_.embedding;
  } else {
    FATHOM_TRY(weights_.head, Matrix(Full({"output", "lm_head"}), vocab, hidden));
  }
  weights_.layers.resize(config_.num_hidden_layers);
  for (int layer = 0; layer < config_.num_hidden_layers; ++layer)
    FATHOM_CHECK_OK(LoadLayer(layer, weights_.layers[layer]));
  return std::move(weights_);
}

Status Loader::LoadLayer(int layer, LayerWeights& out) {
  FATHOM_TRY(out.attn_norm, Vector(InLayer(layer, {"attn_norm", "input_layernorm"}), config_.hidden_size));
  FATHOM_TRY(out.ffn_norm, Vector(InLayer(layer, {"ffn_norm", "post_attention_layernorm"}), config_.hidden_size));
  FATHOM_CHECK_OK(config_.is_mla() ? LoadMla(layer, out) : LoadGqa(layer, out));
  return config_.is_moe_layer(layer) ? LoadMoe(layer, out) : LoadDense(layer, out);
}

Result<MtpWeights> Loader::LoadMtp(const ModelWeights& main) {
  const int layer = config_.num_hidden_layers;
  const int64_t vocab = config_.vocab_size, hidden = config_.hidden_size;
  const std::string joined = InLayer(layer, {"nextn.eh_proj", "eh_proj"});
  if (config_.num_nextn_predict_layers < 1 || !Has(joined)) {
    return Fail(ErrorCode::kNotFound, "the model's files hold no MTP layer");
  }
  MtpWeights out;
  FATHOM_TRY(out.eh_proj, Matrix(joined, hidden, 2 * hidden));
  FATHOM_TRY(out.enorm, Vector(InLayer(layer, {"nextn.enorm", "enorm"}), hidden));
  FATHOM_TRY(out.hnorm, Vector(InLayer(layer, {"nextn.hnorm", "hnorm"}), hidden));
  FATHOM_TRY(out.norm, Vector(InLayer(layer, {"nextn.shared_head_norm", "shared_head.norm"}), hidden));
  out.embedding = main.embedding;
  out.head = main.head;
  if (const std::string name = InLayer(layer, {"nextn.embed_tokens", "embed_tokens"}); Has(name)) {
    FATHOM_TRY(out.embedding, Matrix(name, vocab, hidden));
  }
  if (const std::string name = InLayer(layer, {"nextn.shared_head_head", "shared_head.head"}); Has(name)) {
    FATHOM_TRY(out.head, Matrix(name, vocab, hidden));
  }
  FATHOM_CHECK_OK(LoadLayer(layer, out.layer));
  out.derived = std::move(weights_.derived);
  out.derived_bytes = weights_.derived_bytes;
  return out;
}

Status Loader::LoadMla(int layer, LayerWeights& out) {
  const MlaConfig& mla = config_.mla;
  const int64_t hidden = config_.hidden_size, heads = config_.num_attention_heads;
  const int64_t q_rows = heads * mla.qk_head_dim();
  if (mla.q_lora_rank > 0) {
    FATHOM_TRY(out.q_a, Matrix(InLayer(layer, {"attn_q_a", "self_attn.q_a_proj"}), mla.q_lora_rank, hidden));
    FATHOM_TRY(out.q_a_norm, Vector(InLayer(layer, {"attn_q_a_norm", "self_attn.q_a_layernorm"}), mla.q_lora_rank));
    FATHOM_TRY(out.q_b, Matrix(InLayer(layer, {"attn_q_b", "self_attn.q_b_proj"}), q_rows, mla.q_lora_rank));
  } else {
    FATHOM_TRY(out.q, Matrix(InLayer(layer, {"attn_q", "self_attn.q_proj"}), q_rows, hidden));
  }
  FATHOM_TRY(out.kv_a,
             Matrix(InLayer(layer, {"attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"}), mla.latent_dim(), hidden));
  FATHOM_TRY(out.kv_a_norm, Vector(InLayer(layer, {"attn_kv_a_norm", "self_attn.kv_a_layernorm"}), mla.kv_lora_rank));
  FATHOM_TRY(out.o, Matrix(InLayer(layer, {"attn_output", "self_attn.o_proj"}), hidden, heads * mla.v_head_dim));
  return LoadKvB(layer, out);
}

Status Loader::LoadKvB(int layer, LayerWeights& out) {
  const MlaConfig& mla = config_.mla;
  const int64_t heads = config_.num_attention_heads, rank = mla.kv_lora_rank;
  const std::string k_b = InLayer(layer, {"attn_k_b", ""}), v_b = InLayer(layer, {"attn_v_b", ""});
  if (gguf() && Has(k_b) && Has(v_b)) {
    // The mainline GGUF layout has W_UK transposed already, so both are used in place.
    FATHOM_TRY(WeightView keys, Matrix(k_b, rank, mla.qk_nope_head_dim, heads));
    FATHOM_TRY(WeightView values, Matrix(v_b, mla.v_head_dim, rank, heads));
    for (int64_t h = 0; h < heads; ++h) {
      out.k_b.push_back(keys.Rows(h * rank, rank));
      out.v_b.push_back(values.Rows(h * mla.v_head_dim, mla.v_head_dim));
    }
    // Quantised products start at multiples of 32 columns of the queries.
    if (!TraitsOf(keys.dtype).quantized || mla.qk_head_dim() % 32 == 0) return {};
    for (WeightView& view : out.k_b) {
      FATHOM_TRY(WeightView wide, Derive(DType::kF32, view.rows, view.cols));
      for (int64_t r = 0; r < view.rows; ++r)
        DequantizeWeightRow(view, r, reinterpret_cast<float*>(const_cast<std::byte*>(wide.row(r))));
      view = wide;
    }
    return {};
  }
  const int64_t rows = heads * (mla.qk_nope_head_dim + mla.v_head_dim);
  FATHOM_TRY(WeightView kv_b, Matrix(InLayer(layer, {"attn_kv_b", "self_attn.kv_b_proj"}), rows, rank));
  return DeriveKvB(kv_b, out);
}

// kv_b holds per head [nope | v] rows of kv_lora values. The absorbed form needs the key part transposed, which must be
// made here; the value part is used in place unless its rows cannot be viewed (FP8 blocks span heads).
Status Loader::DeriveKvB(const WeightView& kv_b, LayerWeights& out) {
  const MlaConfig& mla = config_.mla;
  const int64_t heads = config_.num_attention_heads, rank = mla.kv_lora_rank;
  const int64_t nope = mla.qk_nope_head_dim, per_head = nope + mla.v_head_dim;
  // As exact as the source where that is affordable: f32 from floats, int8 blocks from quantised weights.
  const bool block_quantized = TraitsOf(kv_b.dtype).quantized && kv_b.dtype != DType::kF8_E4M3;
  const bool int8 = block_quantized && nope % 32 == 0 && mla.qk_head_dim() % 32 == 0;
  const DType key_type = int8 ? DType::kQ8_0 : kv_b.dtype == DType::kBF16 ? DType::kBF16 : DType::kF32;
  FATHOM_TRY(WeightView keys, Derive(key_type, heads * rank, nope));
  const bool copy_values = kv_b.dtype == DType::kF8_E4M3;
  WeightView values;
  if (copy_values) {
    FATHOM_TRY(values, Derive(DType::kF32, heads * mla.v_head_dim, rank));
  }
  pool_.ParallelFor(heads, 1, [&](int64_t h, int) {
    std::vector<float> head(nope * rank), column(nope);
    for (int64_t r = 0; r < nope; ++r) DequantizeWeightRow(kv_b, h * per_head + r, head.data() + r * rank);
    for (int64_t c = 0; c < rank; ++c) {
      for (int64_t r = 0; r < nope; ++r) column[r] = head[r * rank + c];
      QuantizeRow(key_type, column.data(), nope, const_cast<std::byte*>(keys.row(h * rank + c)));
    }
    for (int64_t r = 0; copy_values && r < mla.v_head_dim; ++r) {
      auto* row = const_cast<std::byte*>(values.row(h * mla.v_head_dim + r));
      DequantizeWeightRow(kv_b, h * per_head + nope + r, reinterpret_cast<float*>(row));
    }
  });
  for (int64_t h = 0; h < heads; ++h) {
    out.k_b.push_back(keys.Rows(h * rank, rank));
    out.v_b.push_back(copy_values ? values.Rows(h * mla.v_head_dim, mla.v_head_dim)
                                  : kv_b.Rows(h * per_head + nope, mla.v_head_dim));
  }
  return {};
}

Status Loader::LoadGqa(int layer, LayerWeights& out) {
  const int64_t hidden = config_.hidden_size;
  const int64_t q_rows = int64_t{config_.num_attention_heads} * config_.head_dim;
  const int64_t kv_rows = int64_t{config_.num_key_value_heads} * config_.head_dim;
  const Name q = {"attn_q", "self_attn.q_proj"}, k = {"attn_k", "self_attn.k_proj"}, v = {"attn_v", "self_attn.v_proj"};
  FATHOM_TRY(out.q, Matrix(InLayer(layer, q), q_rows, hidden));
  FATHOM_TRY(out.k, Matrix(InLayer(layer, k), kv_rows, hidden));
  FATHOM_TRY(out.v, Matrix(InLayer(layer, v), kv_rows, hidden));
  FATHOM_TRY(out.o, Matrix(InLayer(layer, {"attn_output", "self_attn.o_proj"}), hidden, q_rows));
  if (config_.attention_bias || Has(InLayer(layer, q, ".bias"))) {
    FATHOM_TRY(out.q_bias, Vector(InLayer(layer, q, ".bias"), q_rows));
    FATHOM_TRY(out.k_bias, Vector(InLayer(layer, k, ".bias"), kv_rows));
    FATHOM_TRY(out.v_bias, Vector(InLayer(layer, v, ".bias"), kv_rows));
  }
  return {};
}

Status Loader::LoadDense(int layer, LayerWeights& out) {
  const int64_t hidden = config_.hidden_size, inner = config_.intermediate_size;
  FATHOM_TRY(out.dense.gate, Matrix(InLayer(layer, {"ffn_gate", "mlp.gate_proj"}), inner, hidden));
  FATHOM_TRY(out.dense.up, Matrix(InLayer(layer, {"ffn_up", "mlp.up_proj"}), inner, hidden));
  FATHOM_TRY(out.dense.down, Matrix(InLayer(layer, {"ffn_down", "mlp.down_proj"}), hidden, inner));
  return {};
}

Status Loader::LoadMoe(int layer, LayerWeights& out) {
  const MoeConfig& moe = config_.moe;
  const int64_t hidden = config_.hidden_size;
  FATHOM_TRY(out.router, Matrix(InLayer(layer, {"ffn_gate_inp", "mlp.gate"}), moe.n_routed_experts, hidden));
  // GGUF writers have used both spellings of the bias.
  std::string bias = InLayer(layer, {"exp_probs_b", "mlp.gate.e_score_correction_bias"}, gguf() ? ".bias" : "");
  if (gguf() && !Has(bias)) bias = InLayer(layer, {"exp_probs_b", ""}, "");
  if (moe.has_correction_bias || Has(bias)) {
    FATHOM_TRY(out.router_bias, Vector(bias, moe.n_routed_experts));
  }
  if (moe.n_shared_experts > 0) {
    const int64_t inner = int64_t{moe.n_shared_experts} * moe.moe_intermediate_size;
    FATHOM_TRY(out.shared.gate, Matrix(InLayer(layer, {"ffn_gate_shexp", "mlp.shared_experts.gate_proj"}), inner, hidden));
    FATHOM_TRY(out.shared.up, Matrix(InLayer(layer, {"ffn_up_shexp", "mlp.shared_experts.up_proj"}), inner, hidden));
    FATHOM_TRY(out.shared.down, Matrix(InLayer(layer, {"ffn_down_shexp", "mlp.shared_experts.down_proj"}), hidden, inner));
  }
  return LoadExperts(layer, out);
}

Status Loader::LoadExperts(int layer, LayerWeights& out) {
  const MoeConfig& moe = config_.moe;
  const int64_t hidden = config_.hidden_size, inner = moe.moe_intermediate_size, count = moe.n_routed_experts;
  out.experts.resize(count);
  if (const bool packed = HasPackedExperts(file_, layer); packed || !gguf()) {
    for (int64_t e = 0; e < count; ++e) {
      const auto name = [&](const char* part) {
        return packed ? PackedExpertName(layer, e, part)
                      : fmt::format("model.layers.{}.mlp.experts.{}.{}_proj.weight", layer, e, part);
      };
      FATHOM_TRY(out.experts[e].gate, Matrix(name("gate"), inner, hidden));
      FATHOM_TRY(out.experts[e].up, Matrix(name("up"), inner, hidden));
      FATHOM_TRY(out.experts[e].down, Matrix(name("down"), hidden, inner));
    }
    return {};
  }
  const std::string fused = InLayer(layer, {"ffn_gate_up_exps", ""});
  FATHOM_TRY(WeightView down, Matrix(InLayer(layer, {"ffn_down_exps", ""}), hidden, inner, count));
  WeightView gate, up, gate_up;
  if (Has(fused)) {
    FATHOM_TRY(gate_up, Matrix(fused, 2 * inner, hidden, count));
  } else {
    FATHOM_TRY(gate, Matrix(InLayer(layer, {"ffn_gate_exps", ""}), inner, hidden, count));
    FATHOM_TRY(up, Matrix(InLayer(layer, {"ffn_up_exps", ""}), inner, hidden, count));
  }
  for (int64_t e = 0; e < count; ++e) {
    FeedForwardWeights& expert = out.experts[e];
    expert.gate = gate.empty() ? gate_up.Rows(e * 2 * inner, inner) : gate.Rows(e * inner, inner);
    expert.up = gate.empty() ? gate_up.Rows(e * 2 * inner + inner, inner) : up.Rows(e * inner, inner);
    expert.down = down.Rows(e * hidden, hidden);
  }
  return {};
}

}  // namespace

Result<ModelWeights> LoadWeights(const ModelFile& file, ThreadPool& pool) { return Loader(file, pool).Load(); }

Result<MtpWeights> LoadMtpWeights(const ModelFile& file, const ModelWeights& main, ThreadPool& pool) {
  return Loader(file, pool).LoadMtp(main);
}

}  // namespace fathom
