// Attention over an MLA cache of the DeepSeek-V2-Lite shape: 16 heads, 576 key and 512 value dimensions.
// Prints multiply-adds per second; the ceiling is bf16's or f32's (see docs/performance.md). Rows in 8 bits are those that
// the engine makes: fp8 in groups of 128, int8 of 32, the rope part in bf16. One thread and CPU time, so that other
// programs on the machine disturb little; FATHOM_BENCH_THREADS=N takes N threads and wall time.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <random>
#include <tuple>

#include "kernels/attention.h"
#include "kernels/kv_rows.h"

namespace fathom {
namespace {

int Threads() {
  const char* text = std::getenv("FATHOM_BENCH_THREADS");
  return text == nullptr ? 1 : std::max(1, std::atoi(text));
}

void Mla(benchmark::State& state, DType dtype, bool int8) {
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
                         .heads = heads, .kv_heads = 1, .k_dim = k_dim, .v_dim = v_dim, .scale = 0.07f, .int8 = int8, .q = q.data(),
                         .out = out.data()};
  ThreadPool pool(Threads());
  AttentionWorkspace workspace;
  for (auto _ : state) {
    auto status = Attention({&job, 1}, workspace, pool);
    benchmark::DoNotOptimize(status);
  }
  const double rows = static_cast<double>(tokens) * (depth + (tokens + 1) / 2.0);
  state.counters["Gop/s"] = benchmark::Counter(2 * rows * heads * (k_dim + v_dim) * 1e-9,
                                               benchmark::Counter::kIsIterationInvariantRate);
}

int Register() {
  const std::tuple<const char*, DType, bool> kinds[] = {
      {"bf16", DType::kBF16, false}, {"bf16_by_int8", DType::kBF16, true}, {"fp8", DType::kF8_E4M3, false},
      {"int8", DType::kI8, true},    {"f16", DType::kF16, false},          {"f32", DType::kF32, false}};
  for (const auto& [name, dtype, int8] : kinds) {
    auto* bench = benchmark::RegisterBenchmark((std::string("Mla/") + name).c_str(), Mla, dtype, int8);
    bench->Args({1, 4096})->Args({1, 16384})->Args({512, 0})->Args({512, 3584});
    if (Threads() > 1) bench->UseRealTime();
  }
  return 0;
}
[[maybe_unused]] const int kRegistered = Register();

}  // namespace
}  // namespace fathom
