#include "engine/synth_weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "kernels/dequant.h"
#include "tensor/blocks.h"

namespace fathom {
namespace {

class SynthWeights : public testing::TestWithParam<DType> {
 protected:
  static constexpr int64_t kCols = 2048;

  std::vector<std::byte> Row(const SynthFiller& filler, int64_t row, int64_t cols = kCols) const {
    std::vector<std::byte> bytes(*RowBytes(GetParam(), cols));
    filler.FillRow(row, cols, bytes.data());
    return bytes;
  }
  std::vector<float> Values(const std::vector<std::byte>& bytes) const {
    const auto& traits = TraitsOf(GetParam());
    std::vector<float> values(static_cast<int64_t>(bytes.size()) / traits.block_bytes * traits.block_size);
    DequantizeRow(GetParam(), bytes.data(), static_cast<int64_t>(values.size()), values.data());
    return values;
  }
};

TEST_P(SynthWeights, HaveTheStandardDeviationAskedForAndNoMean) {
  for (const float std : {1.0f, 0.02f, 0.004f}) {
    const SynthFiller filler(GetParam(), 0.0f, std, SynthTensorKey(7, "blk.0.attn_q.weight"));
    double sum = 0, squares = 0, largest = 0;
    constexpr int kRows = 200;
    for (int r = 0; r < kRows; ++r) {
      for (const float v : Values(Row(filler, r))) {
        ASSERT_TRUE(std::isfinite(v));
        sum += v;
        squares += static_cast<double>(v) * v;
        largest = std::max(largest, std::fabs(static_cast<double>(v)));
      }
    }
    const double count = kRows * kCols;
    EXPECT_NEAR(std::sqrt(squares / count), std, 0.02 * std);
    // Block formats draw one sign for 16 elements or more, so the mean of so many blocks still moves a little.
    EXPECT_NEAR(sum / count, 0, 0.01 * std);
    EXPECT_GT(largest, 1.5 * std);
    EXPECT_LT(largest, 5.0 * std);
  }
}

TEST_P(SynthWeights, DependOnSeedNameAndRowOnly) {
  const auto make = [&](uint64_t seed, std::string_view name, int64_t row) {
    return Row(SynthFiller(GetParam(), 0.0f, 0.02f, SynthTensorKey(seed, name)), row);
  };
  const auto bytes = make(1, "a", 5);
  EXPECT_EQ(bytes, make(1, "a", 5));
  EXPECT_NE(bytes, make(2, "a", 5));
  EXPECT_NE(bytes, make(1, "b", 5));
  EXPECT_NE(bytes, make(1, "a", 6));
}

// Rows that share a random stream would make outputs of a layer alike.
TEST_P(SynthWeights, RowsAreNotAlike) {
  const SynthFiller filler(GetParam(), 0.0f, 1.0f, SynthTensorKey(3, "x"));
  std::vector<std::vector<float>> rows;
  for (int r = 0; r < 12; ++r) rows.push_back(Values(Row(filler, r)));
  for (size_t a = 0; a < rows.size(); ++a)
    for (size_t b = 0; b < a; ++b) {
      double product = 0;
      for (int i = 0; i < kCols; ++i) product += static_cast<double>(rows[a][i]) * rows[b][i];
      ASSERT_LT(std::fabs(product / kCols), 0.12) << a << " " << b;  // 5.4 standard deviations
    }
}

TEST_P(SynthWeights, RowsOfOneBlock) {
  const int64_t cols = TraitsOf(GetParam()).block_size;
  const SynthFiller filler(GetParam(), 0.0f, 1.0f, 42);
  for (const float v : Values(Row(filler, 0, cols))) ASSERT_LT(std::fabs(v), 5.0f);
}

INSTANTIATE_TEST_SUITE_P(Types, SynthWeights,
                         testing::Values(DType::kF32, DType::kF16, DType::kBF16, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0,
                                         DType::kQ5_1, DType::kQ8_0, DType::kQ2_K, DType::kQ3_K, DType::kQ4_K,
                                         DType::kQ5_K, DType::kQ6_K, DType::kIQ4_NL, DType::kIQ4_XS, DType::kMXFP4),
                         [](const auto& info) { return std::string(DTypeName(info.param)); });

TEST(SynthWeightsDetails, Q8NeverHoldsMinus128) {
  std::vector<BlockQ8_0> blocks(4096);
  SynthFiller(DType::kQ8_0, 0.0f, 1.0f, 9).FillRow(0, 32 * 4096, reinterpret_cast<std::byte*>(blocks.data()));
  for (const auto& block : blocks)
    for (const int8_t q : block.qs) ASSERT_NE(q, -128);
}

TEST(SynthWeightsDetails, NormsHaveTheirMean) {
  std::vector<float> values(4096);
  SynthFiller(DType::kF32, 1.0f, 0.1f, 11).FillRow(0, 4096, reinterpret_cast<std::byte*>(values.data()));
  double sum = 0;
  for (const float v : values) sum += v;
  EXPECT_NEAR(sum / 4096, 1.0, 0.01);
  EXPECT_THAT(values, testing::Each(testing::AllOf(testing::Gt(0.5f), testing::Lt(1.5f))));
}

// The bytes of a seed are a promise: caches and results may be keyed by them.
TEST(SynthWeightsDetails, BytesNeverChange) {
  std::vector<float> values(4);
  SynthFiller(DType::kF32, 0.0f, 1.0f, SynthTensorKey(1, "token_embd.weight"))
      .FillRow(3, 4, reinterpret_cast<std::byte*>(values.data()));
  EXPECT_THAT(values, testing::Pointwise(testing::FloatNear(1e-5f), {1.19266f, -0.373601f, -0.0222797f, 0.435286f}));
}

}  // namespace
}  // namespace fathom
