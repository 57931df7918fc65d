#include "model/kv_layout.h"

#include <algorithm>
#include <utility>

namespace fathom {
namespace {

constexpr std::pair<std::string_view, DType> kTypes[] = {{"f32", DType::kF32},
                                                         {"f16", DType::kF16},
                                                         {"bf16", DType::kBF16},
                                                         {"fp8", DType::kF8_E4M3},
                                                         {"int8", DType::kI8}};
constexpr int64_t kMostGroup = 128, kLeastGroup = 32;

// A group never straddles two heads, nor keys and values.
int64_t GroupOf(int64_t head) {
  int64_t group = std::clamp<int64_t>(head, 1, kMostGroup);
  while (head % group != 0) --group;
  return group;
}

}  // namespace

KvLayout KvLayoutOf(const ModelConfig& config, DType dtype) {
  KvLayout layout{.dtype = dtype, .layers = config.num_hidden_layers, .row_values = config.kv_values_per_token_layer()};
  if (!layout.row().packed()) return layout;
  layout.row_tail = config.is_mla() ? config.mla.qk_rope_head_dim : 0;
  layout.row_group = config.is_mla() ? std::min<int64_t>(config.mla.kv_lora_rank, kMostGroup) : GroupOf(config.head_dim);
  if (dtype != DType::kI8) return layout;
  for (KvLayout finer = layout; finer.row_group % 2 == 0 && finer.row_group / 2 >= kLeastGroup;) {
    finer.row_group /= 2;
    if (finer.row_bytes() > layout.row_bytes()) break;
    layout = finer;
  }
  return layout;
}

std::string_view KvTypeName(DType dtype) {
  for (const auto& [name, type] : kTypes)
    if (type == dtype) return name;
  return "unknown";
}

std::optional<DType> ParseKvType(std::string_view name) {
  for (const auto& [known, type] : kTypes)
    if (known == name) return type;
  return std::nullopt;
}

}  // namespace fathom
