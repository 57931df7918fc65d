#include "engine/convert_sources.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>

#include "kernels/dequant.h"
#include "kernels/quantize.h"

namespace fathom {
namespace {

std::string ShapeText(std::span<const int64_t> shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

Status StoreRow(DType type, std::span<const float> row, std::byte* out) {
  for (const float value : row) {
    if (!std::isfinite(value)) return Fail(ErrorCode::kCorrupt, "a value is NaN or infinite");
  }
  QuantizeRow(type, row.data(), static_cast<int64_t>(row.size()), out);
  return {};
}

RowSource Whole(const WeightView& view) { return RowSource(std::vector<WeightView>{view}); }

bool CanRead(DType type) {
  switch (type) {
    case DType::kI8:
    case DType::kI16:
    case DType::kI32:
    case DType::kI64:
    case DType::kF64:
      return false;
    default:
      return true;
  }
}

/// A tensor as rows of its last dimension. shape: what it must have.
Result<WeightView> ViewOf(const ModelFile& file, const std::string& name, const std::vector<int64_t>& shape) {
  const TensorInfo* info = file.Find(name);
  if (info == nullptr) return Fail(ErrorCode::kCorrupt, "tensor {} is missing", name);
  if (info->shape != shape) {
    return Fail(ErrorCode::kCorrupt, "tensor {} has shape {}, the configuration asks for {}", name,
                ShapeText(info->shape), ShapeText(shape));
  }
  const int64_t cols = shape.empty() ? 1 : shape.back();
  const auto row_bytes = RowBytes(info->dtype, cols);
  if (!CanRead(info->dtype) || !row_bytes) {
    return Fail(ErrorCode::kUnsupported, "tensor {} has type {}, which cannot be converted", name,
                DTypeName(info->dtype));
  }
  WeightView view{info->dtype, info->data, *row_bytes > 0 ? info->bytes / *row_bytes : 0, cols, *row_bytes, nullptr, 0};
  if (info->dtype != DType::kF8_E4M3) return view;
  const std::string scale_name = name + "_scale_inv";
  const TensorInfo* scale = file.Find(scale_name);
  const std::vector<int64_t> scale_shape = {(view.rows + 127) / 128, (cols + 127) / 128};
  if (scale == nullptr) return Fail(ErrorCode::kCorrupt, "tensor {} is missing", scale_name);
  if (scale->dtype != DType::kF32 || scale->shape != scale_shape) {
    return Fail(ErrorCode::kCorrupt, "tensor {} is {} {}, expected f32 {}", scale_name, DTypeName(scale->dtype),
                ShapeText(scale->shape), ShapeText(scale_shape));
  }
  view.scale_inv = reinterpret_cast<const float*>(scale->data);
  view.scale_cols = scale_shape[1];
  return view;
}

/// The name inside a layer, without ".weight" or ".bias"; empty when there is none.
std::string_view HfNameInLayer(std::string_view gguf) {
  static constexpr std::pair<std::string_view, std::string_view> kNames[] = {
      {"attn_norm", "input_layernorm"},
      {"ffn_norm", "post_attention_layernorm"},
      {"attn_q_a", "self_attn.q_a_proj"},
      {"attn_q_a_norm", "self_attn.q_a_layernorm"},
      {"attn_q_b", "self_attn.q_b_proj"},
      {"attn_q", "self_attn.q_proj"},
      {"attn_k", "self_attn.k_proj"},
      {"attn_v", "self_attn.v_proj"},
      {"attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"},
      {"attn_kv_a_norm", "self_attn.kv_a_layernorm"},
      {"attn_output", "self_attn.o_proj"},
      {"ffn_gate", "mlp.gate_proj"},
      {"ffn_up", "mlp.up_proj"},
      {"ffn_down", "mlp.down_proj"},
      {"ffn_gate_inp", "mlp.gate"},
      {"ffn_gate_shexp", "mlp.shared_experts.gate_proj"},
      {"ffn_up_shexp", "mlp.shared_experts.up_proj"},
      {"ffn_down_shexp", "mlp.shared_experts.down_proj"},
      {"nextn.eh_proj", "eh_proj"},
      {"nextn.embed_tokens", "embed_tokens"},
      {"nextn.enorm", "enorm"},
      {"nextn.hnorm", "hnorm"},
      {"nextn.shared_head_head", "shared_head.head"},
      {"nextn.shared_head_norm", "shared_head.norm"},
  };
  for (const auto& [from, to] : kNames) {
    if (from == gguf) return to;
  }
  return {};
}

// From halves (x0 … x[d/2]) to pairs (x0, x[d/2]), …: the row of the source for row r of `width` rotated rows.
int64_t FromHalves(int64_t r, int64_t width) { return r % 2 * (width / 2) + r / 2; }

class HfReader {
 public:
  HfReader(const ModelFile& file, bool mtp) : file_(file), config_(file.config()), mtp_(mtp) {}

  Result<HfSources> Read() {
    HfSources out;
    const int first = config_.num_hidden_layers;
    GgufListOptions options{.mtp = mtp_ && config_.num_nextn_predict_layers > 0};
    if (options.mtp && file_.Find(InLayer(first, "eh_proj.weight")) == nullptr) {
      options.mtp = false;
      out.notes.push_back(fmt::format("The configuration has {} MTP layer(s), but the files hold no weights of them: "
                                      "they are left out.", config_.num_nextn_predict_layers));
    }
    out.mtp = options.mtp;
    options.mtp_embeddings = options.mtp && OwnMtpEmbeddings(first);
    for (GgufTensorShape& shape : ListGgufTensors(config_, options)) {
      auto rows = Rows(shape);
      if (!rows) return std::unexpected(rows.error());
      out.tensors.push_back({std::move(shape), std::move(*rows)});
    }
    return out;
  }

 private:
  static std::string InLayer(int layer, std::string_view name) {
    return fmt::format("model.layers.{}.{}", layer, name);
  }

  bool SameBytes(const std::string& a, const std::string& b) const {
    const TensorInfo *x = file_.Find(a), *y = file_.Find(b);
    return x != nullptr && y != nullptr && x->dtype == y->dtype && x->shape == y->shape &&
           std::memcmp(x->data, y->data, static_cast<size_t>(x->bytes)) == 0;
  }

  // DeepSeek's files repeat the embedding and the head in the MTP layer. Copies are left out: every reader takes the
  // model's own where a layer has none.
  bool OwnMtpEmbeddings(int first) const {
    const std::string head = config_.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight";
    for (int layer = first; layer < first + config_.num_nextn_predict_layers; ++layer) {
      const std::string embedding = InLayer(layer, "embed_tokens.weight");
      const std::string own = InLayer(layer, "shared_head.head.weight");
      if (file_.Find(embedding) != nullptr && !SameBytes(embedding, "model.embed_tokens.weight")) return true;
      if (file_.Find(own) != nullptr && !SameBytes(own, head)) return true;
    }
    return false;
  }

  Result<RowSource> Rows(const GgufTensorShape& shape) const {
    if (shape.role == GgufRole::kRopeFactors) {
      return RowSource(config_.rope.freq_factors.empty() ? Llama3FrequencyFactors(config_.rope)
                                                         : config_.rope.freq_factors);
    }
    if (shape.layer < 0) {
      const char* name = shape.role == GgufRole::kEmbedding ? "model.embed_tokens.weight"
                         : shape.role == GgufRole::kHead    ? "lm_head.weight"
                                                            : "model.norm.weight";
      FATHOM_TRY(const WeightView view, ViewOf(file_, name, shape.shape));
      return Whole(view);
    }
    if (shape.role == GgufRole::kKeyUp || shape.role == GgufRole::kValueUp) return KvB(shape);
    if (shape.role == GgufRole::kRouterBias) {
      FATHOM_TRY(const WeightView view,
                 ViewOf(file_, InLayer(shape.layer, "mlp.gate.e_score_correction_bias"), shape.shape));
      return Whole(view);
    }
    const std::string_view rest = std::string_view(shape.name).substr(shape.name.find('.', 4) + 1);  // after "blk.N."
    const std::string_view stem = rest.substr(0, rest.rfind('.')), suffix = rest.substr(rest.rfind('.'));
    if (stem.ends_with("_exps")) return Experts(shape, stem);
    const std::string_view name = HfNameInLayer(stem);
    if (name.empty()) return Fail(ErrorCode::kInternal, "no Hugging Face name for tensor {}", shape.name);
    FATHOM_TRY(const WeightView view,
               ViewOf(file_, fmt::format("{}{}", InLayer(shape.layer, name), suffix), shape.shape));
    return Reordered(view, stem);
  }

  Result<RowSource> KvB(const GgufTensorShape& shape) const {
    const MlaConfig& mla = config_.mla;
    const int64_t nope = mla.qk_nope_head_dim, v = mla.v_head_dim, per_head = nope + v;
    FATHOM_TRY(const WeightView kv_b, ViewOf(file_, InLayer(shape.layer, "self_attn.kv_b_proj.weight"),
                                             {config_.num_attention_heads * per_head, mla.kv_lora_rank}));
    if (shape.role == GgufRole::kKeyUp) return RowSource::Transposed(kv_b, per_head, nope);
    return RowSource(kv_b, [=](int64_t r) { return r / v * per_head + nope + r % v; });
  }

  Result<RowSource> Experts(const GgufTensorShape& shape, std::string_view stem) const {
    const std::string_view part = stem.substr(4, stem.size() - 9);  // "ffn_gate_exps": gate
    std::vector<WeightView> parts;
    for (int64_t e = 0; e < shape.shape[0]; ++e) {
      FATHOM_TRY(const WeightView view,
                 ViewOf(file_, InLayer(shape.layer, fmt::format("mlp.experts.{}.{}_proj.weight", e, part)),
                        {shape.shape[1], shape.shape[2]}));
      if (!parts.empty() && view.dtype != parts.front().dtype) {
        return Fail(ErrorCode::kUnsupported, "{}: the experts are of different types", shape.name);
      }
      parts.push_back(view);
    }
    return RowSource(std::move(parts));
  }

  // GGUF readers rotate adjacent rows of deepseek2 and llama; rows that are stored in halves are interleaved.
  RowSource Reordered(WeightView view, std::string_view stem) const {
    const bool rotated_in_pairs = config_.family != ArchFamily::kQwen2;
    if (!rotated_in_pairs || config_.rope.layout == RopeLayout::kInterleaved) return Whole(view);
    const int64_t width = config_.rope.dim;
    if (!config_.is_mla()) {
      if (stem != "attn_q" && stem != "attn_k") return Whole(view);
      const int64_t head = config_.head_dim;
      if (view.rows == 1 && view.cols > 1) return Whole(view);  // biases: none in this family
      return RowSource(view, [=](int64_t r) { return r / head * head + FromHalves(r % head, head); });
    }
    if (stem == "attn_q" || stem == "attn_q_b") {
      const int64_t head = config_.mla.qk_head_dim(), nope = config_.mla.qk_nope_head_dim;
      return RowSource(view, [=](int64_t r) {
        return r % head < nope ? r : r / head * head + nope + FromHalves(r % head - nope, width);
      });
    }
    if (stem == "attn_kv_a_mqa") {
      const int64_t rank = config_.mla.kv_lora_rank;
      return RowSource(view, [=](int64_t r) { return r < rank ? r : rank + FromHalves(r - rank, width); });
    }
    return Whole(view);
  }

  const ModelFile& file_;
  const ModelConfig& config_;
  const bool mtp_;
};

}  // namespace

RowSource RowSource::Transposed(WeightView part, int64_t per_head, int64_t nope) {
  RowSource source(std::vector<WeightView>{part});
  source.per_head_ = per_head;
  source.nope_ = nope;
  return source;
}

std::pair<const WeightView*, int64_t> RowSource::At(int64_t row) const {
  if (map_) return {&parts_.front(), map_(row)};
  const int64_t each = parts_.front().rows;
  return {&parts_[static_cast<size_t>(row / each)], row % each};
}

Status RowSource::Read(DType type, int64_t cols, int64_t row, int64_t count, std::byte* out) const {
  if (nope_ > 0) return ReadTransposed(type, cols, row, count, out);
  if (!values_.empty()) return StoreRow(type, values_, out);
  const int64_t row_bytes = *RowBytes(type, cols);
  const bool as_is = type == dtype() && type != DType::kF8_E4M3;
  std::vector<float> values(as_is ? 0 : static_cast<size_t>(cols));
  for (int64_t r = 0; r < count; ++r, out += row_bytes) {
    const auto [part, at] = At(row + r);
    if (as_is) {
      std::memcpy(out, part->row(at), static_cast<size_t>(row_bytes));
    } else {
      DequantizeWeightRow(*part, at, values.data());
      FATHOM_CHECK_OK(StoreRow(type, values, out));
    }
  }
  return {};
}

Status RowSource::ReadTransposed(DType type, int64_t cols, int64_t row, int64_t count, std::byte* out) const {
  const WeightView& part = parts_.front();
  const int64_t rank = part.cols, row_bytes = *RowBytes(type, cols);
  std::vector<float> head(static_cast<size_t>(nope_ * rank)), column(static_cast<size_t>(nope_));
  for (int64_t h = row / rank; h < (row + count) / rank; ++h) {
    for (int64_t r = 0; r < nope_; ++r) DequantizeWeightRow(part, h * per_head_ + r, head.data() + r * rank);
    for (int64_t c = 0; c < rank; ++c, out += row_bytes) {
      for (int64_t r = 0; r < nope_; ++r) column[static_cast<size_t>(r)] = head[static_cast<size_t>(r * rank + c)];
      FATHOM_CHECK_OK(StoreRow(type, column, out));
    }
  }
  return {};
}

Result<HfSources> SourcesFromHuggingFace(const ModelFile& file, bool mtp) { return HfReader(file, mtp).Read(); }

Result<std::vector<ConvertSource>> SourcesFromGguf(const ModelFile& file, bool mtp) {
  std::vector<ConvertSource> out;
  for (const TensorInfo& info : file.tensors()) {
    GgufTensorShape shape{.name = info.name, .shape = info.shape};
    if (info.name.starts_with("blk.")) shape.layer = std::atoi(info.name.c_str() + 4);
    if (!mtp && shape.layer >= file.config().num_hidden_layers) continue;
    FATHOM_TRY(const WeightView view, ViewOf(file, info.name, info.shape));
    out.push_back({std::move(shape), Whole(view)});
  }
  return out;
}

}  // namespace fathom
