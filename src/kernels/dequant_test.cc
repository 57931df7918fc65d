#include "kernels/dequant.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "base/source_dir_for_test.h"
#include "kernels/kquant_scales.h"
#include "tensor/blocks.h"
#include "tensor/float16.h"

namespace fathom {
namespace {

// The value of an IEEE-like small float, from its definition.
float Ieee(uint32_t bits, int exponent_bits, int mantissa_bits, bool has_infinity) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const uint32_t mantissa = bits & ((1u << mantissa_bits) - 1);
  const uint32_t exponent = (bits >> mantissa_bits) & ((1u << exponent_bits) - 1);
  const double sign = (bits >> (mantissa_bits + exponent_bits)) & 1 ? -1.0 : 1.0;
  const uint32_t top = (1u << exponent_bits) - 1;
  if (has_infinity && exponent == top) return mantissa ? std::nanf("") : static_cast<float>(sign * INFINITY);
  if (!has_infinity && exponent == top && mantissa == (1u << mantissa_bits) - 1) return std::nanf("");
  const double fraction = mantissa * std::ldexp(1.0, -mantissa_bits);
  const double value = exponent == 0 ? std::ldexp(fraction, 1 - bias)
                                     : std::ldexp(1.0 + fraction, static_cast<int>(exponent) - bias);
  return static_cast<float>(sign * value);
}

bool SameValue(float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}

template <typename T>
std::vector<float> DequantizeAll(DType dtype) {
  const int count = 1 << (8 * sizeof(T));
  std::vector<T> stored(count);
  for (int i = 0; i < count; ++i) stored[i] = static_cast<T>(i);
  std::vector<float> out(count);
  DequantizeRow(dtype, reinterpret_cast<const std::byte*>(stored.data()), count, out.data());
  return out;
}

TEST(DequantFloats, EveryF16IsWhatItsBitsMean) {
  const auto out = DequantizeAll<uint16_t>(DType::kF16);
  for (uint32_t i = 0; i < 65536; ++i) {
    ASSERT_TRUE(SameValue(out[i], Ieee(i, 5, 10, true))) << i;
    ASSERT_TRUE(SameValue(F16ToFloat(static_cast<uint16_t>(i)), out[i])) << i;
    if (!std::isnan(out[i])) {
      ASSERT_EQ(FloatToF16(out[i]), i);
    }
  }
}

TEST(DequantFloats, EveryBF16IsWhatItsBitsMean) {
  const auto out = DequantizeAll<uint16_t>(DType::kBF16);
  for (uint32_t i = 0; i < 65536; ++i) {
    ASSERT_TRUE(SameValue(out[i], Ieee(i, 8, 7, true))) << i;
    if (!std::isnan(out[i])) {
      ASSERT_EQ(FloatToBF16(out[i]), i);
    }
  }
}

TEST(DequantFloats, EveryF8IsWhatItsBitsMean) {
  const auto out = DequantizeAll<uint8_t>(DType::kF8_E4M3);
  for (uint32_t i = 0; i < 256; ++i) ASSERT_TRUE(SameValue(out[i], Ieee(i, 4, 3, false))) << i;
  EXPECT_EQ(out[0x7e], 448.0f);
  EXPECT_TRUE(std::isnan(out[0x7f]));
}

// Rounding is to the nearest, and to the even one of two: checked against the two neighbours in exact arithmetic.
template <typename ToSmall, typename ToFloat>
void CheckRounding(int small_max, ToSmall to_small, ToFloat to_float) {
  std::mt19937 random(7);
  for (int i = 0; i < 200000; ++i) {
    const uint32_t s = random() % static_cast<uint32_t>(small_max);
    const float low = to_float(static_cast<uint16_t>(s)), high = to_float(static_cast<uint16_t>(s + 1));
    const double middle = (static_cast<double>(low) + high) / 2;
    const float f = i % 3 == 0 ? static_cast<float>(middle)
                               : static_cast<float>(low + (static_cast<double>(high) - low) * (random() / 4294967296.0));
    const uint32_t expected = f < middle ? s : f > middle ? s + 1 : s + (s & 1);
    ASSERT_EQ(to_small(f), expected) << "between " << low << " and " << high << ": " << f;
    ASSERT_EQ(to_small(-f), expected | 0x8000) << -f;
  }
}

TEST(DequantFloats, RoundingIsToNearestEven) {
  CheckRounding(0x7bff, FloatToF16, F16ToFloat);
  CheckRounding(0x7f7f, FloatToBF16, BF16ToFloat);
  EXPECT_EQ(FloatToF16(65519.996f), 0x7bff);
  EXPECT_EQ(FloatToF16(65520.0f), 0x7c00);  // the middle rounds to even: infinity
}

TEST(DequantFloats, UnalignedF32AndF64) {
  std::byte bytes[1 + 3 * 8];
  const float f[3] = {1.5f, -0.0f, 3e-42f};
  const double d[3] = {1.5, -2.25, 1e-30};
  float out[3];
  std::memcpy(bytes + 1, f, sizeof(f));
  DequantizeRow(DType::kF32, bytes + 1, 3, out);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(SameValue(out[i], f[i]));
  std::memcpy(bytes + 1, d, sizeof(d));
  DequantizeRow(DType::kF64, bytes + 1, 3, out);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(out[i], static_cast<float>(d[i]));
}

TEST(DequantFloats, WeightRowAppliesTheScaleOfItsTile) {
  constexpr int kRows = 130, kCols = 300, kScaleCols = 3;
  std::vector<uint8_t> weights(kRows * kCols);
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<uint8_t>(i * 37 % 127);  // no NaN
  const float scales[2 * kScaleCols] = {0.5f, 3.0f, 0.1f, 7.0f, 1e-3f, 11.0f};
  WeightView w{.dtype = DType::kF8_E4M3, .data = reinterpret_cast<const std::byte*>(weights.data()), .rows = kRows,
               .cols = kCols, .row_bytes = kCols, .scale_inv = scales, .scale_cols = kScaleCols};
  std::vector<float> out(kCols);
  for (int r : {0, 127, 128, 129}) {
    DequantizeWeightRow(w, r, out.data());
    for (int c = 0; c < kCols; ++c)
      ASSERT_EQ(out[c], Ieee(weights[r * kCols + c], 4, 3, false) * scales[r / 128 * 3 + c / 128]) << r << "," << c;
  }
}

// The `gguf` package's values, bit for bit (tests/golden/README.md, section dequant).
class DequantGolden : public testing::TestWithParam<DType> {};

std::vector<char> ReadGolden(const std::string& name) {
  std::ifstream in(std::string(SourceDirForTest()) + "/tests/golden/dequant/" + name, std::ios::binary);
  EXPECT_TRUE(in) << name;
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST_P(DequantGolden, ValuesEqualTheGgufPackagesBitForBit) {
  const auto manifest_text = ReadGolden("manifest.json");
  const auto manifest = nlohmann::json::parse(manifest_text.begin(), manifest_text.end());
  std::string key(DTypeName(GetParam()));
  for (char& c : key) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  ASSERT_TRUE(manifest["types"].contains(key)) << key;
  const auto& entry = manifest["types"][key];
  const auto& traits = TraitsOf(GetParam());
  ASSERT_EQ(entry["block_values"], traits.block_size);
  ASSERT_EQ(entry["block_bytes"], traits.block_bytes);
  const int64_t count = entry["values"], offset = entry["values_offset"];
  const auto data = ReadGolden(entry["file"]);
  ASSERT_GE(static_cast<int64_t>(data.size()), offset + 4 * count);
  std::vector<float> expected(count), out(count);
  std::memcpy(expected.data(), data.data() + offset, 4 * count);
  DequantizeRow(GetParam(), reinterpret_cast<const std::byte*>(data.data()), count, out.data());
  for (int64_t i = 0; i < count; ++i) ASSERT_TRUE(SameValue(out[i], expected[i])) << i;
}

INSTANTIATE_TEST_SUITE_P(Types, DequantGolden,
                         testing::Values(DType::kF16, DType::kBF16, DType::kF8_E4M3, DType::kQ4_0, DType::kQ4_1,
                                         DType::kQ5_0, DType::kQ5_1, DType::kQ8_0, DType::kQ2_K, DType::kQ3_K,
                                         DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kIQ4_NL, DType::kIQ4_XS,
                                         DType::kMXFP4),
                         [](const auto& info) { return std::string(DTypeName(info.param)); });

TEST(KquantScales, PackingIsTheInverseOfUnpacking) {
  std::mt19937 random(3);
  for (int trial = 0; trial < 1000; ++trial) {
    uint8_t packed[12], again[12], scale[8], min[8];
    for (auto& byte : packed) byte = static_cast<uint8_t>(random());
    UnpackScalesQ4K(packed, scale, min);
    PackScalesQ4K(scale, min, again);
    ASSERT_EQ(std::memcmp(packed, again, 12), 0);
    int8_t signed_scale[16];
    UnpackScalesQ3K(packed, signed_scale);
    PackScalesQ3K(signed_scale, again);
    ASSERT_EQ(std::memcmp(packed, again, 12), 0);
    BlockIQ4_XS block{}, other{};
    std::memcpy(&block.scales_h, packed, 6);
    UnpackScalesIQ4XS(block, signed_scale);
    PackScalesIQ4XS(signed_scale, other);
    ASSERT_EQ(std::memcmp(&block, &other, sizeof(block)), 0);
  }
}

}  // namespace
}  // namespace fathom
