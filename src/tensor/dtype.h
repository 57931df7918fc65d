// Element types of stored tensors and their block layouts.
//
// Values equal the GGUF/ggml type numbers (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md) where ggml has
// the type; the others (HF-only) start at 1000. Plain data, thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace fathom {

enum class DType : int32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kIQ4_XS = 23,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kBF16 = 30,
  kMXFP4 = 39,
  kF8_E4M3 = 1000,  // HF float8_e4m3fn with one F32 weight_scale_inv per 128x128 block (DeepSeek-V3)
};

/// How a type stores a row: `block_size` elements in `block_bytes` bytes.
struct DTypeTraits {
  DType dtype;
  std::string_view name;  // as users write it: "q4_k", "bf16"
  int32_t block_size;     // elements per block, a power of two
  int32_t block_bytes;    // bytes per block
  bool quantized;         // false for plain numbers
};

/// Traits of a known type; nullptr otherwise (e.g. a number read from a file).
const DTypeTraits* FindTraits(DType dtype);
/// REQUIRES: dtype is one of the enumerators.
const DTypeTraits& TraitsOf(DType dtype);
/// Case-insensitive: "Q4_K", "q4_k", "f32", "fp8" ...
std::optional<DType> ParseDType(std::string_view name);
inline std::string_view DTypeName(DType dtype) { return TraitsOf(dtype).name; }

/// Bytes of a row of `elements`; nullopt when the count is not a multiple of the block size, negative, or overflows.
std::optional<int64_t> RowBytes(DType dtype, int64_t elements);

}  // namespace fathom
