// A small mixture-of-experts model for tests: a file of known bytes and the tensors that lie in it.
#pragma once

#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "experts/expert_layout.h"

namespace fathom {

class ExpertModelForTest : public ModelFile {
 public:
  /// kUneven: stacks of four layers, in every other of which down takes twice as much.
  enum class Kind { kStacks, kFused, kPerExpert, kFp8, kUneven };
  static constexpr int64_t kInner = 96, kHidden = 160;

  explicit ExpertModelForTest(const std::string& path, Kind kind = Kind::kStacks, int layers = 3, int experts = 8,
                              int64_t begin = 1234 * 2)
      : kind_(kind), end_(begin), paths_{path} {
    if (kind == Kind::kUneven) layers = 4;
    config_.num_hidden_layers = layers + 1;  // the first is dense
    config_.hidden_size = kHidden;
    config_.moe = {.n_routed_experts = experts, .num_experts_per_tok = 2, .moe_intermediate_size = kInner,
                   .first_k_dense_replace = 1};
    for (int l = 1; l <= layers; ++l) {
      if (kind == Kind::kStacks || kind == Kind::kFused || kind == Kind::kUneven) {
        const std::string name = "blk." + std::to_string(l) + ".ffn_";
        if (kind != Kind::kFused) {
          Add(name + "gate_exps.weight", DType::kBF16, {experts, kInner, kHidden});
          Add(name + "up_exps.weight", DType::kBF16, {experts, kInner, kHidden});
        } else {
          Add(name + "gate_up_exps.weight", DType::kBF16, {experts, 2 * kInner, kHidden});
        }
        Add(name + "down_exps.weight", Large(l - 1) ? DType::kF32 : DType::kBF16, {experts, kHidden, kInner});
        continue;
      }
      for (int e = 0; e < experts; ++e) {
        const std::string name = "model.layers." + std::to_string(l) + ".mlp.experts." + std::to_string(e) + ".";
        for (const char* part : {"down_proj", "gate_proj", "up_proj"}) {
          const bool down = std::string_view(part) == "down_proj";
          const int64_t rows = down ? kHidden : kInner, cols = down ? kInner : kHidden;
          const bool fp8 = kind == Kind::kFp8;
          Add(name + part + ".weight", fp8 ? DType::kF8_E4M3 : DType::kBF16, {rows, cols});
          if (fp8) Add(name + part + ".weight_scale_inv", DType::kF32, {(rows + 127) / 128, (cols + 127) / 128});
        }
      }
    }
    Write();
  }

  /// What the file holds at an offset.
  static std::byte At(int64_t offset) {
    return static_cast<std::byte>((static_cast<uint64_t>(offset) * 0x9E3779B97F4A7C15u) >> 37);
  }
  void Write() const {
    std::string bytes(static_cast<size_t>(end_), '\0');
    for (int64_t i = 0; i < end_; ++i) bytes[i] = static_cast<char>(At(i));
    std::ofstream(paths_[0], std::ios::binary) << bytes;
  }
  /// Whether a matrix has the bytes that stand in the file from `offset` on.
  static bool Holds(const WeightView& view, int64_t offset) {
    for (int64_t i = 0; i < view.bytes(); ++i)
      if (view.data[i] != At(offset + i)) return false;
    return true;
  }
  /// Whether these are that expert's three matrices.
  bool Holds(const ExpertViews& views, int layer, int expert) const {
    const int64_t size = kInner * kHidden * (kind_ == Kind::kFp8 ? 1 : 2);
    const std::string blk = "blk." + std::to_string(layer + 1) + ".ffn_";
    const std::string hf =
        "model.layers." + std::to_string(layer + 1) + ".mlp.experts." + std::to_string(expert) + ".";
    auto at = [&](const std::string& name, int64_t skip) { return Find(name)->offset + skip; };
    auto scale = [&](const WeightView& view, const char* name) {
      if (kind_ != Kind::kFp8) return view.scale_inv == nullptr;
      const TensorInfo* info = Find(hf + name + ".weight_scale_inv");
      for (int64_t i = 0; i < info->bytes; ++i)
        if (reinterpret_cast<const std::byte*>(view.scale_inv)[i] != At(info->offset + i)) return false;
      return view.scale_cols == info->shape[1];
    };
    switch (kind_) {
      case Kind::kStacks:
      case Kind::kUneven:
        return Holds(views.gate, at(blk + "gate_exps.weight", expert * size)) &&
               Holds(views.up, at(blk + "up_exps.weight", expert * size)) &&
               Holds(views.down, at(blk + "down_exps.weight", expert * size * (Large(layer) ? 2 : 1)));
      case Kind::kFused:
        return Holds(views.gate, at(blk + "gate_up_exps.weight", 2 * expert * size)) &&
               Holds(views.up, at(blk + "gate_up_exps.weight", 2 * expert * size + size)) &&
               Holds(views.down, at(blk + "down_exps.weight", expert * size));
      default:
        return Holds(views.gate, at(hf + "gate_proj.weight", 0)) && Holds(views.up, at(hf + "up_proj.weight", 0)) &&
               Holds(views.down, at(hf + "down_proj.weight", 0)) && scale(views.gate, "gate_proj") &&
               scale(views.up, "up_proj") && scale(views.down, "down_proj");
    }
  }

  ModelFormat format() const override {
    return kind_ == Kind::kPerExpert || kind_ == Kind::kFp8 ? ModelFormat::kHuggingFace : ModelFormat::kGguf;
  }
  const ModelConfig& config() const override { return config_; }
  const TokenizerSource& tokenizer_source() const override { return source_; }
  std::span<const TensorInfo> tensors() const override { return tensors_; }
  const TensorInfo* Find(std::string_view name) const override {
    for (const TensorInfo& tensor : tensors_)
      if (tensor.name == name) return &tensor;
    return nullptr;
  }
  std::span<const std::string> files() const override { return paths_; }
  std::vector<std::pair<std::string, std::string>> Metadata() const override { return {}; }

  /// Whether the MoE layer's experts are larger than others'.
  bool Large(int layer) const { return kind_ == Kind::kUneven && layer % 2 == 0; }
  ModelConfig& config() { return config_; }
  std::vector<TensorInfo>& tensors() { return tensors_; }
  int64_t bytes() const { return end_; }

 private:
  void Add(const std::string& name, DType dtype, std::vector<int64_t> shape) {
    int64_t rows = 1;
    for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
    TensorInfo info{.name = name, .dtype = dtype, .shape = shape, .bytes = rows * *RowBytes(dtype, shape.back())};
    const int64_t align = dtype == DType::kF32 ? 4 : 2;
    info.offset = (end_ + align - 1) / align * align;
    end_ = info.offset + info.bytes;
    tensors_.push_back(std::move(info));
  }

  const Kind kind_;
  int64_t end_;
  std::vector<std::string> paths_;
  ModelConfig config_;
  TokenizerSource source_;
  std::vector<TensorInfo> tensors_;
};

}  // namespace fathom
