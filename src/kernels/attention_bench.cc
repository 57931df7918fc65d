// Attention over an MLA cache of the DeepSeek-V2-Lite shape: 16 heads, 576 key and 512 value dimensions.
// Prints multiply-adds per second; the ceiling is bf16's or f32's (see docs/performance.md). Rows in 8 bits are those that
// the engine makes: fp8 in groups of 128, int8 of 32, the rope part in bf16.
#include <benchmark/benchmark.h>

#include <random>

#include "kernels/attention.h"
#include "kernels/kv_rows.h"

namespace fathom {
namespace {

void Mla(benchmark::State& state, DType dtype) {
  const int64_t tokens = state.range(0), depth = state.range(1), heads = 16, k_dim = 576, v_dim = 512;
  KvRowFormat format{dtype, k_dim};
  if (format.packed()) format.tail = k_dim - v_dim, format.group = dtype == DType::kI8 ? 32 : 128;
  const int64_t bytes = (format.bytes() + 63) / 64 * 64;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<std::vector<std::byte>> blocks;
  std::vector<const std::byte*> pointers;
  std::vector<float> row(k_dim);
  for (int64_t r = 0; r < depth + tokens; ++r) {
    if (r % 64 == 0) blocks.emplace_back(64 * bytes);
    for (float& x : row) x = normal(random);
    StoreKvRow(format, row.data(), 0, k_dim, blocks.back().data() + r % 64 * bytes);
  }
  for (auto& block : blocks) pointers.push_back(block.data());
  std::vector<float> q(tokens * heads * k_dim), out(tokens * heads * v_dim);
  for (float& x : q) x = normal(random);
  const AttentionJob job{.kv = {dtype, pointers.data(), 0, bytes, 64, 0, k_dim, format.tail, format.group},
                         .tokens = tokens, .first_position = depth,
                         .heads = heads, .kv_heads = 1, .k_dim = k_dim, .v_dim = v_dim, .scale = 0.07f, .q = q.data(),
                         .out = out.data()};
  ThreadPool pool;
  AttentionWorkspace workspace;
  for (auto _ : state) {
    auto status = Attention({&job, 1}, workspace, pool);
    benchmark::DoNotOptimize(status);
  }
  const double rows = static_cast<double>(tokens) * (depth + (tokens + 1) / 2.0);
  state.counters["Gop/s"] = benchmark::Counter(2 * rows * heads * (k_dim + v_dim) * 1e-9,
                                               benchmark::Counter::kIsIterationInvariantRate);
}

BENCHMARK_CAPTURE(Mla, bf16, DType::kBF16)->Args({1, 4096})->Args({512, 0})->Args({512, 3584})->UseRealTime();
BENCHMARK_CAPTURE(Mla, fp8, DType::kF8_E4M3)->Args({1, 4096})->Args({512, 0})->Args({512, 3584})->UseRealTime();
BENCHMARK_CAPTURE(Mla, int8, DType::kI8)->Args({1, 4096})->Args({512, 0})->Args({512, 3584})->UseRealTime();
BENCHMARK_CAPTURE(Mla, f16, DType::kF16)->Args({1, 4096})->Args({512, 0})->UseRealTime();
BENCHMARK_CAPTURE(Mla, f32, DType::kF32)->Args({1, 4096})->Args({512, 0})->UseRealTime();

}  // namespace
}  // namespace fathom
