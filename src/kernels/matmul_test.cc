#include "kernels/matmul.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>

#include "kernels/matmul_internal.h"
#include "kernels/matmul_ref.h"
#include "kernels/matmul_testing.h"

namespace fathom {
namespace {

std::vector<const KernelTable*> SupportedTables() {
  std::vector<const KernelTable*> tables;
  for (const KernelTable* table : AllKernelTables()) {
    if (table->supported()) tables.push_back(table);
  }
  return tables;
}

// Products are exact in int32; what is left are the roundings of one f32 multiplication and addition or two for each
// block of 16 or 32 columns, relative to the sum of magnitudes.
constexpr double kTolerance = 2e-6;

struct Case {
  int64_t n, k, m;
  int64_t x_col = 0;
  bool gather = false;
  int64_t ldy_extra = 0;
};

std::vector<Case> CasesFor(DType dtype) {
  const int64_t block = TraitsOf(dtype).block_size;
  const int64_t b = std::max<int64_t>(block, 32);
  std::vector<Case> cases = {
      {1, b, 1},          {16, b, 1},          {17, b, 1},         {33, 2 * b, 2},           {31, 3 * b, 3},
      {64, b, 4},         {5, 5 * b, 5},       {47, b, 6},         {40, 2 * b, 7},           {32, b, 8},
      {96, 3 * b, 13},    {3, b, 19},          {65, b, 40},        {48, b, 1, 32, true, 5},
      {50, 2 * b, 11, 64, true, 3},
      {130, 5 * b, 2, 96, true, 1},            {289, 512 + b, 1},  {289, 512 + b, 6},        {20, 1024 + b, 24},
  };
  if (block == 1) {  // any k
    for (Case c : {Case{1, 1, 1}, {18, 7, 3}, {33, 31, 1}, {40, 33, 9}, {16, 129, 1}, {37, 161, 7, 32, true, 2}}) {
      cases.push_back(c);
    }
  }
  return cases;
}

struct Product {
  Product(const KernelTable& table, DType dtype, const Case& c, ThreadPool& pool, uint32_t seed)
      : w(dtype, c.n, c.k, seed), x_rows(c.gather ? std::max<int64_t>(1, c.m - 1) : c.m), x_cols(c.x_col + c.k + 40),
        x(RandomFloats(x_rows * x_cols, seed + 1)), ldy(c.n + c.ldy_extra), y(c.m * ldy, kUntouched) {
    EXPECT_TRUE(SetActivations(table, {x.data(), x_rows, x_cols, x_cols}, true, pool, activations));
    std::mt19937 rng(seed);
    for (int64_t i = 0; i < c.m; ++i) rows.push_back(static_cast<int32_t>(rng() % x_rows));
    job = {.w = w.view, .x = &activations, .x_col = c.x_col, .row_index = c.gather ? rows.data() : nullptr, .m = c.m,
           .y = y.data(), .ldy = ldy};
  }
  static constexpr float kUntouched = -12345;
  RandomWeight w;
  int64_t x_rows, x_cols;
  std::vector<float> x;
  int64_t ldy;
  std::vector<float> y;
  std::vector<int32_t> rows;
  Activations activations;
  MatmulJob job;
};

using Param = std::tuple<const KernelTable*, DType>;
class MatmulTest : public testing::TestWithParam<Param> {};

TEST_P(MatmulTest, EqualsReference) {
  const auto [table, dtype] = GetParam();
  ThreadPool pool(2);
  MatmulWorkspace workspace;
  uint32_t seed = 1;
  for (const Case& c : CasesFor(dtype)) {
    SCOPED_TRACE(testing::Message() << "n " << c.n << " k " << c.k << " m " << c.m);
    Product p(*table, dtype, c, pool, ++seed);
    MatmulWith(*table, std::span(&p.job, 1), workspace, pool);
    std::vector<float> expected(c.m * c.n);
    std::vector<double> magnitude(c.m * c.n);
    MatmulJob reference = p.job;
    reference.y = expected.data();
    reference.ldy = c.n;
    MatmulRef(reference, magnitude.data());
    double worst = 0;
    for (int64_t i = 0; i < c.m; ++i) {
      for (int64_t j = 0; j < c.n; ++j) {
        ASSERT_TRUE(std::isfinite(p.y[i * p.ldy + j]));
        const double error = std::abs(double{p.y[i * p.ldy + j]} - expected[i * c.n + j]);
        worst = std::max(worst, error / (magnitude[i * c.n + j] + 1e-30));
      }
      for (int64_t j = c.n; j < p.ldy; ++j) ASSERT_EQ(p.y[i * p.ldy + j], Product::kUntouched);
    }
    EXPECT_LE(worst, kTolerance);
  }
}

// "Alone or in company", "in one piece or token by token": the same row gives the same bits.
TEST_P(MatmulTest, RowsDoNotDependOnTheirCompany) {
  const auto [table, dtype] = GetParam();
  ThreadPool one(1), two(2);
  MatmulWorkspace workspace;
  const Case c{.n = 83, .k = 1536, .m = 15};
  Product p(*table, dtype, c, two, 7);
  MatmulWith(*table, std::span(&p.job, 1), workspace, two);
  std::vector<float> alone(c.n);
  for (int32_t row = 0; row < c.m; ++row) {
    MatmulJob job = p.job;
    job.m = 1;
    job.row_index = &row;
    job.y = alone.data();
    MatmulWith(*table, std::span(&job, 1), workspace, one);
    ASSERT_EQ(std::memcmp(alone.data(), p.y.data() + row * p.ldy, c.n * sizeof(float)), 0) << "row " << row;
  }
  for (int64_t m = 2; m < c.m; ++m) {
    std::vector<float> part(m * c.n);
    MatmulJob job = p.job;
    job.m = m;
    job.y = part.data();
    job.ldy = c.n;
    MatmulWith(*table, std::span(&job, 1), workspace, one);
    ASSERT_EQ(std::memcmp(part.data(), p.y.data(), part.size() * sizeof(float)), 0) << m << " rows";
  }
}

// Instruction sets with a fused multiply-add do the same operations in the same order.
TEST_P(MatmulTest, FusedInstructionSetsAgreeToTheBit) {
  const auto [table, dtype] = GetParam();
  const KernelTable& best = *SupportedTables().front();
  if (std::strcmp(table->name, "generic") == 0) GTEST_SKIP() << "generic code has no fused multiply-add";
  ThreadPool pool(1);
  MatmulWorkspace workspace;
  for (int64_t m : {1, 9}) {
    const Case c{.n = 70, .k = 768, .m = m};
    Product a(best, dtype, c, pool, 11), b(*table, dtype, c, pool, 11);
    MatmulWith(best, std::span(&a.job, 1), workspace, pool);
    MatmulWith(*table, std::span(&b.job, 1), workspace, pool);
    EXPECT_EQ(std::memcmp(a.y.data(), b.y.data(), a.y.size() * sizeof(float)), 0);
  }
}

std::string ParamName(const testing::TestParamInfo<Param>& info) {
  std::string name = std::string(std::get<0>(info.param)->name) + "_" + std::string(DTypeName(std::get<1>(info.param)));
  for (char& c : name) {
    if (c == '-') c = '_';
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, MatmulTest,
                         testing::Combine(testing::ValuesIn(SupportedTables()), testing::ValuesIn(kWeightTypes)),
                         ParamName);

TEST(Matmul, ManyJobsInOneCall) {
  ThreadPool pool(3);
  MatmulWorkspace workspace;
  const KernelTable& table = ActiveKernels();
  std::vector<std::unique_ptr<Product>> products;
  std::vector<MatmulJob> jobs;
  uint32_t seed = 100;
  for (DType dtype : kWeightTypes) {
    for (int64_t m : {1, 0, 5}) {
      products.push_back(std::make_unique<Product>(
          table, dtype, Case{.n = 97 + 64 * m, .k = 512, .m = m, .gather = m > 1}, pool, ++seed));
      jobs.push_back(products.back()->job);
    }
  }
  Matmul(jobs, workspace, pool);
  for (size_t j = 0; j < jobs.size(); ++j) {
    std::vector<float> expected(jobs[j].m * jobs[j].ldy);
    std::vector<double> magnitude(expected.size());
    MatmulJob reference = jobs[j];
    reference.y = expected.data();
    MatmulRef(reference, magnitude.data());
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_NEAR(products[j]->y[i], expected[i], kTolerance * magnitude[i] + 1e-30) << "job " << j << " at " << i;
    }
  }
}

TEST(Matmul, EmptyCallsDoNothing) {
  ThreadPool pool(2);
  MatmulWorkspace workspace;
  Matmul({}, workspace, pool);
  Activations none;
  ASSERT_TRUE(none.Set({nullptr, 0, 64, 64}, true, pool));
  RandomWeight w(DType::kQ4_0, 3, 64, 1);
  const MatmulJob job{.w = w.view, .x = &none, .m = 0};
  Matmul(std::span(&job, 1), workspace, pool);
}

class ActivationsTest : public testing::TestWithParam<const KernelTable*> {};

TEST_P(ActivationsTest, EqualTheReferenceToTheBit) {
  ThreadPool pool(2);
  const int64_t rows = 3, cols = 32 * 5 + 9, stride = cols + 4;
  std::vector<float> x = RandomFloats(rows * stride, 3);
  for (int64_t i = 0; i < 32; ++i) x[i] = 0;                    // a block of zeros
  for (int64_t i = 0; i < 32; ++i) x[32 + i] *= 1e-42f;         // subnormal, 127 / amax overflows
  for (int64_t i = 0; i < 32; ++i) x[64 + i] = i == 5 ? 3e38f : x[64 + i] * 1e38f;
  for (int64_t i = 0; i < 32; ++i) x[96 + i] = static_cast<float>(i) + 0.5f;  // ties
  x[stride + 40] = std::numeric_limits<float>::infinity();
  x[stride + 80] = -std::numeric_limits<float>::quiet_NaN();
  Activations activations;
  ASSERT_TRUE(SetActivations(*GetParam(), {x.data(), rows, cols, stride}, true, pool, activations));
  ASSERT_EQ(activations.groups, 6);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t g = 0; g < activations.groups; ++g) {
      ActivationBlock expected;
      QuantizeActivationsRef(x.data() + r * stride + g * 32, std::min<int64_t>(32, cols - g * 32), &expected);
      const ActivationBlock& block = activations.row(r)[g];
      EXPECT_EQ(std::memcmp(block.q, expected.q, 32), 0) << r << ' ' << g;
      EXPECT_EQ(block.neg_sum, expected.neg_sum);
      EXPECT_EQ(block.neg_sum_high, expected.neg_sum_high);
      if (std::isnan(expected.scale)) {
        EXPECT_TRUE(std::isnan(block.scale) && std::isnan(block.scaled_sum));
      } else {
        EXPECT_EQ(block.scale, expected.scale);
        EXPECT_EQ(block.scaled_sum, expected.scaled_sum);
      }
    }
  }
  EXPECT_TRUE(std::isnan(activations.row(1)[1].scale));
  EXPECT_TRUE(std::isnan(activations.row(1)[2].scale));
}

INSTANTIATE_TEST_SUITE_P(All, ActivationsTest, testing::ValuesIn(SupportedTables()), [](const auto& info) {
  std::string name = info.param->name;
  for (char& c : name) {
    if (c == '-') c = '_';
  }
  return name;
});

TEST(Matmul, CountsWhatItHadToDo) {
  ThreadPool pool(1);
  MatmulWorkspace workspace;
  WorkCount count;
  workspace.count = &count;
  const std::vector<float> w(6 * 4, 1.0f), x(3 * 4, 1.0f);
  std::vector<float> y(3 * 6);
  Activations activations;
  ASSERT_TRUE(activations.Set({x.data(), 3, 4, 4}, false, pool));
  const MatmulJob job{.w = {.dtype = DType::kF32, .data = reinterpret_cast<const std::byte*>(w.data()), .rows = 6,
                            .cols = 4, .row_bytes = 16},
                      .x = &activations, .m = 3, .y = y.data(), .ldy = 6};
  const MatmulJob nothing{.w = job.w, .x = &activations, .m = 0, .y = y.data(), .ldy = 6};
  const MatmulJob jobs[] = {job, nothing};
  Matmul(jobs, workspace, pool);
  EXPECT_EQ(y[17], 4.0f);
  EXPECT_EQ(count.bytes, 96);
  EXPECT_EQ(count.f32, 2.0 * 6 * 4 * 3);
  EXPECT_EQ(count.int8, 0);
}

// What every bit pattern of FP8 becomes, NaN and subnormals included.
TEST(Matmul, EveryFp8ValueIsExact) {
  ThreadPool pool(1);
  MatmulWorkspace workspace;
  std::vector<uint8_t> w(256);
  for (int i = 0; i < 256; ++i) w[i] = static_cast<uint8_t>(i);
  const float one = 1;
  for (const KernelTable* table : SupportedTables()) {
    Activations x;
    ASSERT_TRUE(SetActivations(*table, {&one, 1, 1, 1}, false, pool, x));
    std::vector<float> y(256), expected(256);
    MatmulJob job{.w = {.dtype = DType::kF8_E4M3, .data = reinterpret_cast<const std::byte*>(w.data()), .rows = 256,
                        .cols = 1, .row_bytes = 1},
                  .x = &x, .m = 1, .y = y.data(), .ldy = 256};
    MatmulWith(*table, std::span(&job, 1), workspace, pool);
    job.y = expected.data();
    MatmulRef(job);
    for (int i = 0; i < 256; ++i) {
      if (std::isnan(expected[i])) {
        EXPECT_TRUE(std::isnan(y[i])) << table->name << ' ' << i;
      } else {
        EXPECT_EQ(y[i], expected[i]) << table->name << ' ' << i;
      }
    }
  }
}

TEST(Matmul, TheBestInstructionSetIsChosen) {
  if (std::getenv("FATHOM_ISA") != nullptr) GTEST_SKIP() << "FATHOM_ISA chooses";
  EXPECT_EQ(&ActiveKernels(), SupportedTables().front());
  EXPECT_STREQ(MatmulIsa(), ActiveKernels().name);
}

}  // namespace
}  // namespace fathom
