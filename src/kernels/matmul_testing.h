// Random weights of every type for tests and benchmarks: any bytes, with block scales that keep values near one.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/view.h"

namespace fathom {

inline constexpr DType kWeightTypes[] = {
    DType::kF32,  DType::kF16,  DType::kBF16, DType::kF8_E4M3, DType::kQ4_0,   DType::kQ4_1,
    DType::kQ5_0, DType::kQ5_1, DType::kQ8_0, DType::kQ2_K,    DType::kQ3_K,   DType::kQ4_K,
    DType::kQ5_K, DType::kQ6_K, DType::kIQ4_NL, DType::kIQ4_XS, DType::kMXFP4,
};

/// Owns the bytes behind a WeightView.
struct RandomWeight {
  RandomWeight(DType dtype, int64_t rows, int64_t cols, uint32_t seed);
  std::vector<std::byte> bytes;
  std::vector<float> scale_inv;
  WeightView view;
};

std::vector<float> RandomFloats(int64_t count, uint32_t seed);

}  // namespace fathom
