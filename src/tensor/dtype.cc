#include "tensor/dtype.h"

#include <cassert>
#include <string>

namespace fathom {
namespace {

constexpr DTypeTraits kTraits[] = {
    {DType::kF32, "f32", 1, 4, false},      {DType::kF16, "f16", 1, 2, false},
    {DType::kQ4_0, "q4_0", 32, 18, true},   {DType::kQ4_1, "q4_1", 32, 20, true},
    {DType::kQ5_0, "q5_0", 32, 22, true},   {DType::kQ5_1, "q5_1", 32, 24, true},
    {DType::kQ8_0, "q8_0", 32, 34, true},   {DType::kQ2_K, "q2_k", 256, 84, true},
    {DType::kQ3_K, "q3_k", 256, 110, true}, {DType::kQ4_K, "q4_k", 256, 144, true},
    {DType::kQ5_K, "q5_k", 256, 176, true}, {DType::kQ6_K, "q6_k", 256, 210, true},
    {DType::kIQ4_NL, "iq4_nl", 32, 18, true}, {DType::kIQ4_XS, "iq4_xs", 256, 136, true},
    {DType::kI8, "i8", 1, 1, false},        {DType::kI16, "i16", 1, 2, false},
    {DType::kI32, "i32", 1, 4, false},      {DType::kI64, "i64", 1, 8, false},
    {DType::kF64, "f64", 1, 8, false},      {DType::kBF16, "bf16", 1, 2, false},
    {DType::kMXFP4, "mxfp4", 32, 17, true}, {DType::kF8_E4M3, "f8_e4m3", 1, 1, true},
};

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = (c >= 'A' && c <= 'Z') ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

}  // namespace

const DTypeTraits* FindTraits(DType dtype) {
  for (const auto& traits : kTraits)
    if (traits.dtype == dtype) return &traits;
  return nullptr;
}

const DTypeTraits& TraitsOf(DType dtype) {
  const DTypeTraits* traits = FindTraits(dtype);
  assert(traits != nullptr);
  return *traits;
}

std::optional<DType> ParseDType(std::string_view name) {
  const std::string lower = Lower(name);
  if (lower == "fp8") return DType::kF8_E4M3;
  for (const auto& traits : kTraits)
    if (traits.name == lower) return traits.dtype;
  return std::nullopt;
}

std::optional<int64_t> RowBytes(DType dtype, int64_t elements) {
  const DTypeTraits* traits = FindTraits(dtype);
  if (traits == nullptr || elements < 0 || elements % traits->block_size != 0) return std::nullopt;
  int64_t bytes = 0;
  if (__builtin_mul_overflow(elements / traits->block_size, int64_t{traits->block_bytes}, &bytes)) return std::nullopt;
  return bytes;
}

}  // namespace fathom
