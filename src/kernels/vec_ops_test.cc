#include "kernels/vec_ops.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "tensor/float16.h"

namespace fathom {
namespace {

std::vector<float> Random(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> x(n);
  for (float& v : x) v = normal(random);
  return x;
}

class VecOps : public testing::TestWithParam<int> {};

TEST_P(VecOps, RmsNorm) {
  const int n = GetParam();
  const auto x = Random(n, 1), w = Random(n, 2);
  double sum = 0;
  for (float v : x) sum += double(v) * v;
  std::vector<float> out(n);
  RmsNorm(x.data(), w.data(), n, 1e-6f, out.data());
  for (int i = 0; i < n; ++i) EXPECT_NEAR(out[i], x[i] / std::sqrt(sum / n + 1e-6) * w[i], 1e-5);
}

TEST_P(VecOps, SiluMul) {
  const int n = GetParam();
  auto gate = Random(n, 3);
  const auto up = Random(n, 4);
  gate[0] = -200;  // exp overflows: the result is 0, not NaN
  std::vector<float> out(n);
  SiluMul(gate.data(), up.data(), n, out.data());
  for (int i = 0; i < n; ++i) EXPECT_NEAR(out[i], gate[i] / (1 + std::exp(-double(gate[i]))) * up[i], 1e-5);
}

TEST_P(VecOps, AddAxpyExp) {
  const int n = GetParam();
  const auto x = Random(n, 5), y0 = Random(n, 6);
  auto y = y0;
  AddTo(x.data(), n, y.data());
  for (int i = 0; i < n; ++i) EXPECT_EQ(y[i], x[i] + y0[i]);
  y = y0;
  Axpy(0.5f, x.data(), n, y.data());
  for (int i = 0; i < n; ++i) EXPECT_NEAR(y[i], 0.5f * x[i] + y0[i], 1e-6);
  auto e = x;
  const float max = x[ArgMax(x.data(), n)];
  const float sum = ExpMinusMax(e.data(), n, max);
  double total = 0;
  for (int i = 0; i < n; ++i) {
    EXPECT_NEAR(e[i], std::exp(double(x[i]) - max), 1e-6);
    total += e[i];
  }
  EXPECT_NEAR(sum, total, 1e-4);
}

TEST_P(VecOps, SixteenBitConversions) {
  const int n = GetParam();
  auto x = Random(n, 7);
  x[0] = 65504.0f;
  if (n > 1) x[1] = 1e-7f;  // subnormal half
  std::vector<uint16_t> b(n), h(n);
  std::vector<float> fb(n), fh(n);
  FloatsToBF16(x.data(), n, b.data());
  FloatsToF16(x.data(), n, h.data());
  BF16ToFloats(b.data(), n, fb.data());
  F16ToFloats(h.data(), n, fh.data());
  for (int i = 0; i < n; ++i) {
    EXPECT_EQ(b[i], FloatToBF16(x[i]));
    EXPECT_EQ(h[i], FloatToF16(x[i])) << x[i];
    EXPECT_EQ(fb[i], BF16ToFloat(b[i]));
    EXPECT_EQ(fh[i], F16ToFloat(h[i]));
  }
}

INSTANTIATE_TEST_SUITE_P(Lengths, VecOps, testing::Values(1, 3, 16, 31, 64, 577));

TEST(VecOps, RopeRotatesPairs) {
  const float cos[2] = {std::cos(0.3f), std::cos(0.7f)}, sin[2] = {std::sin(0.3f), std::sin(0.7f)};
  float adjacent[4] = {1, 2, 3, 4}, halves[4] = {1, 3, 2, 4};
  Rope(adjacent, 4, true, cos, sin);
  Rope(halves, 4, false, cos, sin);
  EXPECT_FLOAT_EQ(adjacent[0], 1 * cos[0] - 2 * sin[0]);
  EXPECT_FLOAT_EQ(adjacent[1], 1 * sin[0] + 2 * cos[0]);
  EXPECT_FLOAT_EQ(halves[0], adjacent[0]);
  EXPECT_FLOAT_EQ(halves[2], adjacent[1]);
  EXPECT_FLOAT_EQ(halves[1], adjacent[2]);
  EXPECT_FLOAT_EQ(halves[3], adjacent[3]);
}

TEST(VecOps, ArgMaxTakesTheFirst) {
  const float x[] = {1, NAN, 5, 5, 2};
  EXPECT_EQ(ArgMax(x, 5), 2);
}

}  // namespace
}  // namespace fathom
