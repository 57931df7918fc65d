#include "experts/expert_layout.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "format/packed_experts.h"

namespace fathom {
namespace {

// Layers whose experts are smaller than a class's slots by less than this part share it.
constexpr int64_t kSlotWaste = 32;

int64_t Down(int64_t offset) { return offset / ExpertLayout::kPage * ExpertLayout::kPage; }
int64_t Up(int64_t offset) { return Down(offset + ExpertLayout::kPage - 1); }

/// A tensor of the right shape, and the type's row size.
struct Found {
  const TensorInfo* info = nullptr;
  int64_t row_bytes = 0;
};

Result<Found> Find(const ModelFile& file, const std::string& name, const std::vector<int64_t>& shape) {
  const TensorInfo* info = file.Find(name);
  if (info == nullptr) return Fail(ErrorCode::kCorrupt, "tensor {} is missing", name);
  if (info->shape != shape) {
    return Fail(ErrorCode::kCorrupt, "tensor {} has shape [{}], the configuration asks for [{}]", name,
                fmt::join(info->shape, ", "), fmt::join(shape, ", "));
  }
  const auto row_bytes = RowBytes(info->dtype, shape.back());
  const DTypeTraits& traits = TraitsOf(info->dtype);
  const bool number = info->dtype == DType::kF32 || info->dtype == DType::kF16 || info->dtype == DType::kBF16;
  if (!row_bytes || (!traits.quantized && !number && info->dtype != DType::kF8_E4M3))
    return Fail(ErrorCode::kUnsupported, "tensor {} has type {}, which cannot be multiplied with", name, traits.name);
  const int64_t element = info->dtype == DType::kF32 ? 4 : number ? 2 : 1;
  if (info->offset % element != 0) {
    return Fail(ErrorCode::kUnsupported, "tensor {} lies at byte {}, which {} cannot be read at in place; convert the model",
                name, info->offset, traits.name);
  }
  return Found{info, *row_bytes};
}

}  // namespace

struct ExpertLayout::Source {
  Found tensor;
  int64_t first_row = 0, rows = 0;  // of the tensor's stack that are this matrix
  const TensorInfo* scale = nullptr;

  Part part() const {
    return {tensor.info->file, tensor.info->offset + first_row * tensor.row_bytes, rows * tensor.row_bytes};
  }
};

Result<ExpertLayout> ExpertLayout::Create(const ModelFile& file) {
  const ModelConfig& config = file.config();
  const MoeConfig& moe = config.moe;
  if (moe.n_routed_experts == 0) return Fail(ErrorCode::kUnsupported, "a dense model has no experts");
  ExpertLayout layout;
  layout.first_layer_ = std::max(moe.first_k_dense_replace, 0);
  layout.geometry_ = {config.num_hidden_layers - layout.first_layer_, moe.n_routed_experts, moe.num_experts_per_tok};
  FATHOM_CHECK_OK(layout.geometry_.Check());
  layout.files_.assign(file.files().begin(), file.files().end());
  layout.first_read_.push_back(0);
  const int64_t inner = moe.moe_intermediate_size, hidden = config.hidden_size, count = moe.n_routed_experts;
  std::vector<int64_t> layer_bytes(layout.geometry_.layers, 0);  // of a slot that each of the layer's experts fits in

  for (int32_t l = 0; l < layout.geometry_.layers; ++l) {
    const int32_t layer = layout.first_layer_ + l;
    const bool packed = HasPackedExperts(file, layer);
    const bool stacks = file.format() == ModelFormat::kGguf && !packed;
    auto stack = [&](const char* name, int64_t rows, int64_t cols) {
      return Find(file, fmt::format("blk.{}.{}.weight", layer, name), {count, rows, cols});
    };
    Found gate, up, down;
    const bool fused = stacks && file.Find(fmt::format("blk.{}.ffn_gate_up_exps.weight", layer)) != nullptr;
    if (stacks) {
      FATHOM_TRY(down, stack("ffn_down_exps", hidden, inner));
      if (fused) {
        FATHOM_TRY(gate, stack("ffn_gate_up_exps", 2 * inner, hidden));
        up = gate;
      } else {
        FATHOM_TRY(gate, stack("ffn_gate_exps", inner, hidden));
        FATHOM_TRY(up, stack("ffn_up_exps", inner, hidden));
      }
    }
    LayerShape& shape = layout.shapes_.emplace_back();
    for (int64_t e = 0; e < count; ++e) {
      std::array<Source, 3> sources;  // gate, up, down
      if (stacks) {
        const int64_t step = fused ? 2 * inner : inner;
        sources = {Source{gate, e * step, inner}, Source{up, e * step + (fused ? inner : 0), inner},
                   Source{down, e * hidden, hidden}};
      } else {
        const std::array<const char*, 3> names = {"gate", "up", "down"};
        for (int m = 0; m < 3; ++m) {
          const int64_t rows = m == 2 ? hidden : inner, cols = m == 2 ? inner : hidden;
          const std::string name =
              packed ? PackedExpertName(layer, e, names[m])
                     : fmt::format("model.layers.{}.mlp.experts.{}.{}_proj.weight", layer, e, names[m]);
          FATHOM_TRY(sources[m].tensor, Find(file, name, {rows, cols}));
          sources[m].rows = rows;
          if (sources[m].tensor.info->dtype != DType::kF8_E4M3) continue;
          const std::string scale = name + "_scale_inv";
          sources[m].scale = file.Find(scale);
          if (sources[m].scale == nullptr) return Fail(ErrorCode::kCorrupt, "tensor {} is missing", scale);
          if (sources[m].scale->dtype != DType::kF32 ||
              sources[m].scale->shape != std::vector<int64_t>{(rows + 127) / 128, (cols + 127) / 128}) {
            return Fail(ErrorCode::kCorrupt, "tensor {} has the wrong type or shape", scale);
          }
          if (sources[m].scale->offset % 4 != 0)
            return Fail(ErrorCode::kUnsupported, "tensor {} is not aligned; convert the model", scale);
        }
      }
      std::vector<Part> parts;
      std::array<int, 3> scale_part = {-1, -1, -1};
      for (const Source& source : sources) parts.push_back(source.part());
      for (int m = 0; m < 3; ++m) {
        const TensorInfo* scale = sources[m].scale;
        if (scale == nullptr) continue;
        scale_part[m] = static_cast<int>(parts.size());
        parts.push_back({scale->file, scale->offset, scale->bytes});
      }
      std::array<WeightView*, 3> views = {&shape.gate, &shape.up, &shape.down};
      for (int m = 0; m < 3; ++m) {
        const int64_t cols = m == 2 ? inner : hidden;
        const WeightView view{sources[m].tensor.info->dtype, nullptr, sources[m].rows, cols, sources[m].tensor.row_bytes,
                              nullptr, sources[m].scale != nullptr ? (cols + 127) / 128 : 0};
        if (e > 0 && view.dtype != views[m]->dtype) {
          return Fail(ErrorCode::kUnsupported, "layer {}: expert {} has type {}, others {}", layer, e,
                      DTypeName(view.dtype), DTypeName(views[m]->dtype));
        }
        *views[m] = view;
      }
      std::vector<int64_t> at;
      layer_bytes[l] = std::max(layer_bytes[l], layout.AddExpert(parts, &at));
      auto scale_at = [&](int m) { return scale_part[m] < 0 ? int64_t{-1} : at[scale_part[m]]; };
      layout.places_.push_back({at[0], at[1], at[2], scale_at(0), scale_at(1), scale_at(2)});
    }
  }
  layout.MakeSlotClasses(layer_bytes);
  return layout;
}

void ExpertLayout::MakeSlotClasses(std::span<const int64_t> layer_bytes) {
  const auto layers = static_cast<int32_t>(layer_bytes.size());
  std::vector<int32_t> order(layers);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return layer_bytes[a] > layer_bytes[b]; });
  // A class of so few layers that top_k slots hold none for it would leave them without.
  const auto large_enough = [&](int32_t count) { return int64_t{geometry_.top_k} * count >= layers; };
  class_of_.assign(layers, 0);
  classes_.clear();
  for (int32_t i = 0; i < layers; ++i) {
    const int64_t bytes = layer_bytes[order[i]];
    const bool smaller = classes_.empty() || bytes < classes_.back().slot_bytes - classes_.back().slot_bytes / kSlotWaste;
    if (classes_.empty() || (smaller && large_enough(classes_.back().layers) && large_enough(layers - i)))
      classes_.push_back({.slot_bytes = bytes});
    class_of_[order[i]] = static_cast<int32_t>(classes_.size()) - 1;
    ++classes_.back().layers;
  }
  int64_t sum = 0;
  for (const SlotClass& c : classes_) sum += c.slot_bytes * c.layers;
  slot_bytes_ = Up((sum + layers - 1) / layers);
}

std::vector<int64_t> ExpertLayout::SlotsByClass(int64_t slots) const {
  std::vector<int64_t> by_class;
  int64_t left = slots;
  for (size_t c = 0; c + 1 < classes_.size(); ++c)
    left -= by_class.emplace_back(slots * classes_[c].layers / geometry_.layers);  // rounded to the larger ones' disadvantage
  by_class.push_back(std::min(left, int64_t{classes_.back().layers} * geometry_.experts));
  return by_class;
}

int64_t ExpertLayout::AddExpert(const std::vector<Part>& parts, std::vector<int64_t>* at) {
  std::vector<size_t> order(parts.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::pair(parts[a].file, parts[a].offset) < std::pair(parts[b].file, parts[b].offset);
  });
  at->assign(parts.size(), 0);
  const size_t first = reads_.size();
  int64_t slot_end = 0;
  for (const size_t p : order) {
    const Part& part = parts[p];
    const int64_t end = Up(part.offset + part.bytes);
    if (reads_.size() > first && reads_.back().file == part.file &&
        part.offset <= reads_.back().offset + reads_.back().bytes + kGap) {
      ExpertRead& read = reads_.back();
      read.bytes = std::max(read.bytes, end - read.offset);
      slot_end = read.slot_offset + read.bytes;
    } else {
      const int64_t begin = Down(part.offset);
      reads_.push_back({part.file, begin, end - begin, slot_end});
      slot_end += end - begin;
    }
    (*at)[p] = reads_.back().slot_offset + part.offset - reads_.back().offset;
    total_bytes_ += part.bytes;
  }
  first_read_.push_back(static_cast<int32_t>(reads_.size()));
  return slot_end;
}

ExpertViews ExpertLayout::Views(ExpertId id, const std::byte* slot) const {
  const LayerShape& shape = shapes_[geometry_.LayerOf(id)];
  const Place& place = places_[id];
  auto view = [&](WeightView matrix, int64_t at, int64_t scale) {
    matrix.data = slot + at;
    if (scale >= 0) matrix.scale_inv = reinterpret_cast<const float*>(slot + scale);
    return matrix;
  };
  return {view(shape.gate, place.gate, place.gate_scale), view(shape.up, place.up, place.up_scale),
          view(shape.down, place.down, place.down_scale)};
}

}  // namespace fathom
