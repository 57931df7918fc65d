// Speed of the products beside the machine's ceilings.
//
//   matmul_bench [--benchmark_filter=q4_k]
//
// Two kinds of rows: decode (m = 1, weights far larger than the caches; GB/s of weight bytes and the share of the
// streaming bandwidth) and prefill (expert shapes of DeepSeek-V2-Lite; Gop/s and the share of the dot-product peak).
// One thread and CPU time, so that other programs on the machine disturb little; FATHOM_BENCH_THREADS=N takes N
// threads and wall time. FATHOM_ISA chooses the kernels.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>

#include "kernels/ceilings.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/matmul.h"
#include "kernels/matmul_testing.h"

namespace fathom {
namespace {

int Threads() {
  const char* text = std::getenv("FATHOM_BENCH_THREADS");
  return text != nullptr && std::atoi(text) > 0 ? std::atoi(text) : 1;
}

struct Ceilings {
  double read, int8, f32, bf16;
};
const Ceilings& MachineCeilings() {
  static const Ceilings ceilings = [] {
    ThreadPool pool(Threads());
    return Ceilings{MeasureReadBandwidth(pool).value_or(0), MeasureInt8Peak(pool), MeasureF32Peak(pool),
                    MeasureBf16Peak(pool)};
  }();
  return ceilings;
}

// One square of random rows, repeated: making gigabytes of random weights would take longer than multiplying them.
struct Weights {
  Weights(DType dtype, int64_t rows, int64_t cols) : seed(dtype, 256, cols, 1) {
    view = seed.view;
    view.rows = rows;
    const int64_t bytes = rows * view.row_bytes;
    buffer = *AlignedBuffer::Allocate(static_cast<size_t>(bytes));
    for (int64_t r = 0; r < rows; ++r) {
      std::copy_n(seed.view.row(r % 256), view.row_bytes, buffer.data() + r * view.row_bytes);
    }
    view.data = buffer.data();
    if (view.scale_inv != nullptr) {
      scale_inv.assign((rows + 127) / 128 * view.scale_cols, 0.01f);
      view.scale_inv = scale_inv.data();
    }
  }
  RandomWeight seed;
  AlignedBuffer buffer;
  std::vector<float> scale_inv;
  WeightView view;
};

void Decode(benchmark::State& state, DType dtype) {
  ThreadPool pool(Threads());
  MatmulWorkspace workspace;
  const int64_t k = 2048, rows = (int64_t{256} << 20) / *RowBytes(dtype, k) / 32 * 32;
  const Weights w(dtype, rows, k);
  const std::vector<float> x = RandomFloats(k, 2);
  std::vector<float> y(rows);
  Activations activations;
  (void)activations.Set({x.data(), 1, k, k}, true, pool);
  const MatmulJob job{.w = w.view, .x = &activations, .m = 1, .y = y.data(), .ldy = rows};
  for (auto _ : state) Matmul(std::span(&job, 1), workspace, pool);
  const double bytes = static_cast<double>(state.iterations()) * static_cast<double>(w.view.bytes());
  state.counters["B/s"] = benchmark::Counter(bytes, benchmark::Counter::kIsRate);
  const double share = bytes / MachineCeilings().read;
  state.counters["share_of_bandwidth"] = benchmark::Counter(share, benchmark::Counter::kIsRate);
}

void Prefill(benchmark::State& state, DType dtype, int64_t n, int64_t k) {
  ThreadPool pool(Threads());
  MatmulWorkspace workspace;
  const int64_t m = state.range(0);
  // Eight matrices in turn, so that weights come from memory as experts' do.
  const Weights w(dtype, 8 * n, k);
  const std::vector<float> x = RandomFloats(m * k, 2);
  std::vector<float> y(m * n);
  Activations activations;
  (void)activations.Set({x.data(), m, k, k}, true, pool);
  int64_t turn = 0;
  for (auto _ : state) {
    const MatmulJob job{.w = w.view.Rows(turn++ % 8 * n, n), .x = &activations, .m = m, .y = y.data(), .ldy = n};
    Matmul(std::span(&job, 1), workspace, pool);
  }
  const double ops = 2.0 * static_cast<double>(state.iterations()) * static_cast<double>(m * n * k);
  const double peak = NeedsQuantizedActivations(dtype) ? MachineCeilings().int8 : MachineCeilings().f32;
  state.counters["op/s"] = benchmark::Counter(ops, benchmark::Counter::kIsRate);
  state.counters["share_of_peak"] = benchmark::Counter(ops / peak, benchmark::Counter::kIsRate);
}

void Quantize(benchmark::State& state) {
  ThreadPool pool(Threads());
  const int64_t m = 64, k = 2048;
  const std::vector<float> x = RandomFloats(m * k, 2);
  Activations activations;
  for (auto _ : state) (void)activations.Set({x.data(), m, k, k}, true, pool);
  state.counters["values/s"] = benchmark::Counter(static_cast<double>(state.iterations() * m * k),
                                                  benchmark::Counter::kIsRate);
}

// What a call costs when there is next to nothing to do.
void TinyCall(benchmark::State& state) {
  ThreadPool pool(Threads());
  MatmulWorkspace workspace;
  const Weights w(DType::kQ8_0, 32, 32);
  const std::vector<float> x = RandomFloats(32, 2);
  std::vector<float> y(32);
  Activations activations;
  (void)activations.Set({x.data(), 1, 32, 32}, true, pool);
  const MatmulJob job{.w = w.view, .x = &activations, .m = 1, .y = y.data(), .ldy = 32};
  for (auto _ : state) Matmul(std::span(&job, 1), workspace, pool);
}

void Register() {
  const bool wall = Threads() > 1;
  auto timed = [wall](benchmark::internal::Benchmark* b) { return wall ? b->UseRealTime() : b; };
  for (DType dtype : kWeightTypes) {
    const std::string name(DTypeName(dtype));
    timed(benchmark::RegisterBenchmark(("decode/" + name).c_str(), Decode, dtype))->Unit(benchmark::kMillisecond);
  }
  for (DType dtype : kWeightTypes) {
    const std::string name(DTypeName(dtype));
    auto* b = benchmark::RegisterBenchmark(
        ("prefill/" + name).c_str(), [dtype](benchmark::State& state) { Prefill(state, dtype, 1408, 2048); });
    for (int m : {2, 4, 8, 16, 48, 512}) timed(b)->Arg(m);
    b->Unit(benchmark::kMicrosecond);
  }
  timed(benchmark::RegisterBenchmark("quantize", Quantize))->Unit(benchmark::kMicrosecond);
  timed(benchmark::RegisterBenchmark("tiny_call", TinyCall));
}

}  // namespace
}  // namespace fathom

int main(int argc, char** argv) {
  fathom::Register();
  benchmark::Initialize(&argc, argv);
  const auto& c = fathom::MachineCeilings();
  std::printf("%s, %d thread(s): read %.1f GB/s, int8 %.0f Gop/s, f32 %.0f, bf16 %.0f\n", fathom::MatmulIsa(),
              fathom::Threads(), c.read / 1e9, c.int8 / 1e9, c.f32 / 1e9, c.bf16 / 1e9);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
