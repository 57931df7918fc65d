#include "kernels/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "kernels/attention_ref.h"
#include "kernels/kv_rows.h"

namespace fathom {
namespace {

struct Case {
  DType dtype;
  int64_t tokens, first, heads, kv_heads, k_dim, v_dim;
  bool shared;  // values are the keys' first part (MLA)
  int64_t tail = 0, group = 0;  // in 8 bits
  bool int8 = false;            // AttentionJob::int8
};

// A cache of random rows in paged blocks of 64, and a job over it.
struct Fixture {
  explicit Fixture(const Case& c) {
    std::mt19937 random(1234);
    std::normal_distribution<float> normal;
    const int64_t rows = c.first + c.tokens;
    const int64_t values = c.shared ? c.k_dim : c.kv_heads * (c.k_dim + c.v_dim);
    const KvRowFormat format{c.dtype, values, c.tail, c.group};
    const int64_t bytes = format.packed() ? (format.bytes() + 63) / 64 * 64 : format.bytes();
    const int64_t offset = 128;
    for (int64_t r = 0; r < rows; ++r) {
      if (r % 64 == 0) blocks.push_back(std::vector<std::byte>(offset + 64 * bytes));
      std::vector<float> row(values);
      for (float& x : row) x = normal(random);
      StoreKvRow(format, row.data(), 0, values, blocks.back().data() + offset + r % 64 * bytes);
    }
    for (auto& block : blocks) pointers.push_back(block.data());
    q.resize(c.tokens * c.heads * c.k_dim);
    for (float& x : q) x = normal(random);
    out.resize(c.tokens * c.heads * c.v_dim);
    job = {.kv = {c.dtype, pointers.data(), offset, bytes, 64, c.shared ? 0 : c.kv_heads * c.k_dim, values, c.tail,
                  c.group},
           .tokens = c.tokens, .first_position = c.first, .heads = c.heads, .kv_heads = c.kv_heads,
           .k_dim = c.k_dim, .v_dim = c.v_dim, .scale = 1.0f / std::sqrt(static_cast<float>(c.k_dim)), .int8 = c.int8,
           .q = q.data(), .out = out.data()};
  }
  std::vector<std::vector<std::byte>> blocks;
  std::vector<const std::byte*> pointers;
  std::vector<float> q, out;
  AttentionJob job;
};

class AttentionTest : public testing::TestWithParam<Case> {};

TEST_P(AttentionTest, EqualsNaiveTwin) {
  Fixture fixture(GetParam());
  AttentionRef(fixture.job);
  const std::vector<float> expected = fixture.out;
  // Queries, probabilities and unpacked rows are rounded to bf16 (2^-9) beside caches in bf16 and in 8 bits; everything
  // else is f32.
  const DType dtype = GetParam().dtype;
  const float tolerance = dtype == DType::kBF16 || KvRowFormat::IsPacked(dtype) ? 2e-2f : 2e-5f;
  for (int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    AttentionWorkspace workspace;
    std::fill(fixture.out.begin(), fixture.out.end(), NAN);
    ASSERT_TRUE(Attention({&fixture.job, 1}, workspace, pool));
    for (size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(fixture.out[i], expected[i], tolerance) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, AttentionTest,
    testing::Values(Case{DType::kF32, 1, 0, 4, 1, 80, 64, true}, Case{DType::kF32, 7, 3, 4, 1, 80, 64, true},
                    Case{DType::kF32, 70, 100, 16, 1, 48, 32, true}, Case{DType::kF32, 1, 1500, 16, 1, 48, 32, true},
                    Case{DType::kF32, 33, 61, 9, 3, 64, 64, false}, Case{DType::kF16, 5, 130, 20, 1, 72, 56, true},
                    Case{DType::kF16, 3, 64, 8, 2, 16, 24, false}, Case{DType::kBF16, 1, 0, 4, 1, 80, 64, true},
                    Case{DType::kBF16, 40, 200, 16, 1, 96, 72, true}, Case{DType::kBF16, 1, 700, 16, 1, 576, 512, true},
                    Case{DType::kBF16, 3, 1023, 9, 3, 64, 64, false}, Case{DType::kBF16, 2, 64, 6, 2, 34, 20, false},
                    Case{DType::kF8_E4M3, 1, 700, 16, 1, 576, 512, true, 64, 128},
                    Case{DType::kI8, 40, 200, 16, 1, 576, 512, true, 64, 32},
                    Case{DType::kF8_E4M3, 3, 1023, 9, 3, 64, 64, false, 0, 64},
                    Case{DType::kI8, 3, 64, 6, 2, 34, 20, false, 0, 17},
                    Case{DType::kI8, 3, 130, 6, 2, 35, 20, false, 0, 17},
                    Case{DType::kF8_E4M3, 7, 61, 4, 1, 80, 64, true, 16, 24},
                    Case{DType::kBF16, 1, 0, 4, 1, 80, 64, true, 0, 0, true},
                    Case{DType::kBF16, 40, 200, 16, 1, 98, 96, true, 0, 0, true},
                    Case{DType::kBF16, 7, 2100, 16, 1, 576, 512, true, 0, 0, true},
                    Case{DType::kBF16, 3, 130, 5, 1, 224, 160, true, 0, 0, true},
                    Case{DType::kBF16, 3, 130, 5, 1, 72, 40, true, 0, 0, true},  // not int8's shape
                    Case{DType::kI8, 1, 700, 16, 1, 576, 512, true, 64, 128, true},
                    Case{DType::kI8, 5, 300, 16, 1, 576, 512, true, 64, 32, true},
                    Case{DType::kI8, 9, 30, 4, 1, 288, 256, true, 32, 64, true},
                    Case{DType::kI8, 66, 61, 3, 1, 176, 160, true, 16, 32, true}));

// A row's result must not depend on what else is in the batch, on how a prompt was cut into pieces, or on the threads:
// answers are the same alone and in company.
TEST(Attention, ARowHasTheSameBitsInAnyCompany) {
  for (const Case& c : {Case{DType::kBF16, 40, 3100, 16, 1, 96, 72, true}, Case{DType::kF32, 30, 500, 9, 3, 32, 32, false},
                        Case{DType::kF16, 300, 0, 4, 2, 40, 24, false}, Case{DType::kBF16, 600, 0, 4, 1, 80, 64, true},
                        Case{DType::kF8_E4M3, 40, 1100, 16, 1, 96, 64, true, 32, 32},
                        Case{DType::kI8, 300, 0, 6, 2, 32, 32, false, 0, 32},
                        Case{DType::kBF16, 40, 1100, 16, 1, 576, 512, true, 0, 0, true},
                        Case{DType::kBF16, 330, 0, 5, 1, 98, 96, true, 0, 0, true},
                        Case{DType::kI8, 40, 1100, 16, 1, 192, 160, true, 32, 32, true}}) {
    Fixture whole(c);
    {
      ThreadPool pool(1);
      AttentionWorkspace workspace;
      ASSERT_TRUE(Attention({&whole.job, 1}, workspace, pool));
    }
    const std::vector<float> expected = whole.out;
    for (const int threads : {1, 2, 5}) {
      ThreadPool pool(threads);
      AttentionWorkspace workspace;
      for (const int64_t piece : {int64_t{1}, int64_t{3}, int64_t{17}}) {
        std::fill(whole.out.begin(), whole.out.end(), NAN);
        std::vector<AttentionJob> jobs;
        for (int64_t token = 0; token < c.tokens; token += piece) {
          AttentionJob job = whole.job;
          job.tokens = std::min(piece, c.tokens - token);
          job.first_position = c.first + token;
          job.q += token * c.heads * c.k_dim;
          job.out += token * c.heads * c.v_dim;
          jobs.push_back(job);
          if (piece == 3) {  // each alone
            ASSERT_TRUE(Attention(jobs, workspace, pool));
            jobs.clear();
          }
        }
        ASSERT_TRUE(Attention(jobs, workspace, pool));
        EXPECT_EQ(std::memcmp(whole.out.data(), expected.data(), expected.size() * sizeof(float)), 0)
            << threads << " threads, pieces of " << piece << ", first " << c.first;
      }
    }
  }
}

// Over a single row the output is its value: so what attention unpacks can be seen, code by code.
TEST(Attention, UnpacksEveryCode) {
  for (const DType dtype : {DType::kF8_E4M3, DType::kI8}) {
    for (const int64_t group : {int64_t{128}, int64_t{32}, int64_t{40}}) {
      const KvRowFormat format{dtype, 576, 64, group};
      std::vector<std::byte> row(704);
      std::vector<float> x(576, 1.0f), expected(512), q(576, 0.0f), out(512);
      StoreKvRow(format, x.data(), 0, 576, row.data());  // for the scales
      for (int i = 0; i < 512; ++i) {
        const int code = dtype == DType::kI8 ? i % 255 - 127 : (i % 127) | (i / 127 % 2 << 7);
        row[static_cast<size_t>(i)] = std::byte{static_cast<uint8_t>(code)};
      }
      LoadKvRow(format, row.data(), 0, 512, expected.data());
      const std::byte* block = row.data();
      const AttentionJob job{.kv = {dtype, &block, 0, 704, 64, 0, 576, 64, group}, .tokens = 1, .heads = 1, .kv_heads = 1,
                             .k_dim = 576, .v_dim = 512, .q = q.data(), .out = out.data()};
      ThreadPool pool(1);
      AttentionWorkspace workspace;
      ASSERT_TRUE(Attention({&job, 1}, workspace, pool));
      for (size_t i = 0; i < 512; ++i)
        ASSERT_LE(std::fabs(out[i] - expected[i]), std::fabs(expected[i]) / 256) << i << ", group " << group;
    }
  }
}

TEST(Attention, SeveralSequencesAtOnce) {
  Fixture a({DType::kF32, 5, 300, 8, 1, 80, 64, true}), b({DType::kF32, 1, 900, 8, 1, 80, 64, true});
  AttentionRef(a.job);
  AttentionRef(b.job);
  const auto expected_a = a.out, expected_b = b.out;
  ThreadPool pool(2);
  AttentionWorkspace workspace;
  const AttentionJob jobs[] = {a.job, b.job};
  ASSERT_TRUE(Attention(jobs, workspace, pool));
  for (size_t i = 0; i < expected_a.size(); ++i) ASSERT_NEAR(a.out[i], expected_a[i], 2e-5f);
  for (size_t i = 0; i < expected_b.size(); ++i) ASSERT_NEAR(b.out[i], expected_b[i], 2e-5f);
}

}  // namespace
}  // namespace fathom
