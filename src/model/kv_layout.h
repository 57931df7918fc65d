// How a model's keys and values are laid out in each element type. Pure functions, thread-safe.
#pragma once

#include <optional>
#include <string_view>

#include "cache/kv_store.h"
#include "format/model_config.h"

namespace fathom {

/// dtype: kF32, kF16, kBF16, or in 8 bits kF8_E4M3 and kI8: of MLA the latent is quantised, and its rope key stays bf16
/// (it is a ninth of the row and carries the positions); of grouped-query heads all keys and values are. fp8 takes
/// groups of 128 as FlashMLA's rows, or of a head where that is less; int8, whose error grows with a group's largest
/// value, takes smaller ones where a row's padding to 64 bytes has room for their scales.
KvLayout KvLayoutOf(const ModelConfig& config, DType dtype);

/// An element type of rows as users write it: f32, f16, bf16, fp8, int8.
std::string_view KvTypeName(DType dtype);
std::optional<DType> ParseKvType(std::string_view name);

}  // namespace fathom
