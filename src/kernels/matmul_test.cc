#include "kernels/matmul.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kernels/matmul_ref.h"

namespace fathom {
namespace {

TEST(Matmul, F32EqualsReferenceWithGatherAndOffsets) {
  ThreadPool pool(2);
  MatmulWorkspace workspace;
  std::mt19937 rng(1);
  std::normal_distribution<float> normal;
  const int64_t n = 19, k = 72, m = 5, x_rows = 4, x_cols = 112, ldy = 23;
  std::vector<float> w(n * k), x(x_rows * x_cols), y(m * ldy, -7), expected(m * ldy, -7);
  for (float& v : w) v = normal(rng);
  for (float& v : x) v = normal(rng);
  Activations activations;
  ASSERT_TRUE(activations.Set({x.data(), x_rows, x_cols, x_cols}, true, pool));
  const int32_t rows[m] = {3, 0, 0, 2, 1};
  MatmulJob job{.w = {.dtype = DType::kF32, .data = reinterpret_cast<const std::byte*>(w.data()), .rows = n, .cols = k,
                      .row_bytes = k * 4},
                .x = &activations, .x_col = 32, .row_index = rows, .m = m, .y = y.data(), .ldy = ldy};
  Matmul(std::span(&job, 1), workspace, pool);
  std::vector<double> magnitude(m * n);
  job.y = expected.data();
  MatmulRef(job, magnitude.data());
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      EXPECT_NEAR(y[i * ldy + j], expected[i * ldy + j], 1e-6 * magnitude[i * n + j]) << i << ' ' << j;
    }
    for (int64_t j = n; j < ldy; ++j) EXPECT_EQ(y[i * ldy + j], -7);
  }
}

}  // namespace
}  // namespace fathom
