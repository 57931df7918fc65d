#include "kernels/kv_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/kv_rows_ref.h"
#include "tensor/float16.h"

namespace fathom {
namespace {

// FlashMLA's, the same in int8, a grouped-query row, and shapes that no vector length divides.
const KvRowFormat kFormats[] = {
    {DType::kF8_E4M3, 576, 64, 128}, {DType::kI8, 576, 64, 32}, {DType::kF8_E4M3, 384, 0, 64},
    {DType::kI8, 384, 0, 64},        {DType::kI8, 107, 5, 33},  {DType::kF8_E4M3, 107, 5, 33},
    {DType::kF8_E4M3, 3, 2, 1},      {DType::kF32, 33},         {DType::kF16, 33},
    {DType::kBF16, 33}};

std::vector<std::byte> Row(const KvRowFormat& format) {
  return std::vector<std::byte>(static_cast<size_t>(format.bytes()), std::byte{0xee});
}

// Values whose magnitudes span many powers of two, as activations' do, and now and then an outlier.
std::vector<float> Values(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(count));
  for (float& v : x) v = normal(random) * std::exp2(std::round(3 * normal(random))) * (random() % 64 == 0 ? 50.0f : 1.0f);
  return x;
}

TEST(KvRows, FlashMlaRowsHave656Bytes) {
  const KvRowFormat row{DType::kF8_E4M3, 576, 64, 128};
  EXPECT_EQ(row.scales_at(), 512);
  EXPECT_EQ(row.tail_at(), 528);
  EXPECT_EQ(row.bytes(), 656);
  EXPECT_EQ((KvRowFormat{DType::kI8, 576, 64, 32}.bytes()), 704);
  EXPECT_EQ((KvRowFormat{DType::kBF16, 576}.bytes()), 1152);
  EXPECT_EQ((KvRowFormat{DType::kI8, 107, 5, 33}.bytes()), 104 + 4 * 4 + 2 * 5);
}

TEST(KvRows, SameBytesAsTheNaiveTwin) {
  for (const KvRowFormat& format : kFormats) {
    for (uint32_t seed = 0; seed < 20; ++seed) {
      const auto x = Values(format.values, seed);
      auto row = Row(format), expected = Row(format);
      StoreKvRow(format, x.data(), 0, format.values, row.data());
      StoreKvRowRef(format, x.data(), 0, format.values, expected.data());
      for (size_t i = 0; i < row.size(); ++i)
        ASSERT_EQ(row[i], expected[i]) << DTypeName(format.dtype) << " " << format.values << ", byte " << i;
      std::vector<float> back(x.size());
      LoadKvRow(format, row.data(), 0, format.values, back.data());
      for (int64_t i = 0; i < format.values; ++i)
        ASSERT_EQ(back[static_cast<size_t>(i)], static_cast<float>(KvValueRef(format, row.data(), i))) << i;
    }
  }
}

// The bounds of tensor/kv_row.h, against the values in f64. A scale and a product are rounded to f32 on the way.
TEST(KvRows, ErrorsStayWithinTheStatedBounds) {
  constexpr double kRounding = 1 + 1e-6;
  for (const KvRowFormat& format : kFormats) {
    if (!format.packed()) continue;
    double worst = 0;
    for (uint32_t seed = 0; seed < 200; ++seed) {
      const auto x = Values(format.values, 1000 + seed);
      auto row = Row(format);
      StoreKvRow(format, x.data(), 0, format.values, row.data());
      std::vector<float> back(x.size());
      LoadKvRow(format, row.data(), 0, format.values, back.data());
      for (size_t i = 0; i < x.size(); ++i) {
        const double error = std::fabs(static_cast<double>(back[i]) - x[i]), value = std::fabs(x[i]);
        double bound = value / 256;  // bf16: half of 2^-7
        if (static_cast<int64_t>(i) < format.codes()) {
          const auto begin = i / static_cast<size_t>(format.group) * static_cast<size_t>(format.group);
          const auto end = std::min(begin + static_cast<size_t>(format.group), static_cast<size_t>(format.codes()));
          double most = 0;
          for (size_t j = begin; j < end; ++j) most = std::max<double>(most, std::fabs(x[j]));
          bound = format.dtype == DType::kI8 ? most / 254 : std::max(value / 16, most / 458752);
        }
        ASSERT_LE(error, bound * kRounding) << DTypeName(format.dtype) << " value " << i << " of seed " << seed;
        worst = std::max(worst, error / bound);
      }
    }
    if (format.codes() > 1) {
      EXPECT_GT(worst, 0.9) << "the bound is not tight";
    }
  }
}

TEST(KvRows, PiecesGiveWhatTheWholeGives) {
  const KvRowFormat gqa{DType::kI8, 384, 0, 64}, mla{DType::kF8_E4M3, 576, 64, 128};
  const auto x = Values(576, 7);
  auto whole = Row(gqa), pieces = Row(gqa);
  StoreKvRow(gqa, x.data(), 0, 384, whole.data());
  StoreKvRow(gqa, x.data() + 192, 192, 192, pieces.data());  // values and keys apart, as a grouped-query block does
  StoreKvRow(gqa, x.data(), 0, 192, pieces.data());
  EXPECT_EQ(whole, pieces);
  for (const KvRowFormat& format : {gqa, mla}) {
    auto row = Row(format);
    StoreKvRow(format, x.data(), 0, format.values, row.data());
    std::vector<float> all(static_cast<size_t>(format.values)), some(all.size());
    LoadKvRow(format, row.data(), 0, format.values, all.data());
    for (const auto& [first, count] : {std::pair{0, 1}, {1, 200}, {127, 2}, {128, 64}, {300, 84}}) {
      LoadKvRow(format, row.data(), first, count, some.data());
      EXPECT_TRUE(std::equal(some.begin(), some.begin() + count, all.begin() + first)) << first << " " << count;
    }
  }
  auto row = Row(mla);
  StoreKvRow(mla, x.data(), 0, 576, row.data());
  std::vector<float> tail(70);
  LoadKvRow(mla, row.data(), 506, 70, tail.data());
  for (size_t i = 6; i < 70; ++i) EXPECT_EQ(tail[i], BF16ToFloat(FloatToBF16(x[506 + i])));
}

TEST(KvRows, EveryE4m3CodeComesBackAsItself) {
  const KvRowFormat format{DType::kF8_E4M3, 256, 0, 256};
  std::vector<float> x(256);
  for (int i = 0; i < 256; ++i) x[static_cast<size_t>(i)] = F8E4M3ToFloat(static_cast<uint8_t>(i == 0x7f || i == 0xff ? 0 : i));
  auto row = Row(format);
  StoreKvRow(format, x.data(), 0, 256, row.data());
  for (size_t i = 0; i < 256; ++i) EXPECT_EQ(row[i], std::byte{static_cast<uint8_t>(i == 0x7f || i == 0xff ? 0 : i)});
  std::vector<float> back(256);
  LoadKvRow(format, row.data(), 0, 256, back.data());
  EXPECT_EQ(back, x);
}

TEST(KvRows, ZerosStayZerosAndWhatIsNotFiniteIsSeen) {
  for (const DType dtype : {DType::kF8_E4M3, DType::kI8}) {
    const KvRowFormat format{dtype, 128, 0, 32};
    auto x = Values(128, 3);
    std::fill_n(x.begin(), 32, 0.0f);
    std::fill_n(x.begin() + 32, 32, 1e-38f);
    x[70] = INFINITY;
    auto row = Row(format);
    StoreKvRow(format, x.data(), 0, 128, row.data());
    std::vector<float> back(128);
    LoadKvRow(format, row.data(), 0, 128, back.data());
    for (size_t i = 0; i < 64; ++i) EXPECT_EQ(back[i], 0) << i;
    for (size_t i = 64; i < 96; ++i) EXPECT_TRUE(std::isnan(back[i])) << i;
    for (size_t i = 96; i < 128; ++i) EXPECT_TRUE(std::isfinite(back[i])) << i;
    x[70] = NAN;
    StoreKvRow(format, x.data(), 0, 128, row.data());
    LoadKvRow(format, row.data(), 0, 128, back.data());
    EXPECT_TRUE(std::isnan(back[64]));
  }
}

}  // namespace
}  // namespace fathom
