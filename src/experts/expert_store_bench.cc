// Experts read cold through the store, against raw O_DIRECT reads of the same sizes, batch by batch in turn: the disk's
// speed swings, the ratio does not.
//
//   FATHOM_BENCH_MODEL=model.gguf expert_store_bench
//
// Cold/N: N random experts of one layer at a time, as decoding asks for them. Layer: all experts of a layer in file
// order, as a long prefill does, while the ones before are given back. No expert is read twice in a run, by either side.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <numeric>
#include <random>

#include "experts/expert_store.h"
#include "experts/slot_memory.h"

namespace fathom {
namespace {

using Clock = std::chrono::steady_clock;

struct Side {
  double seconds = 0, bytes = 0;
  double rate() const { return seconds > 0 ? bytes / seconds : 0; }
};

double Useful(const ExpertLayout& layout) {
  return static_cast<double>(layout.total_bytes()) / layout.geometry().count();
}

/// All reads of these experts at once, straight from the disk.
Status Raw(const ExpertLayout& layout, AsyncIo& io, std::span<const std::unique_ptr<DirectFile>> files,
           SlotMemory& memory, std::span<const ExpertId> ids) {
  std::mutex mutex;
  std::condition_variable done;
  int64_t left = 0;
  Status status;
  std::vector<AsyncIoRequest> requests;
  for (size_t i = 0; i < ids.size(); ++i) {
    for (const ExpertRead& read : layout.Reads(ids[i])) {
      AsyncIoRequest request{.file = files[read.file].get(), .offset = read.offset,
                             .memory = memory.slot(static_cast<int64_t>(i)) + read.slot_offset, .bytes = read.bytes};
      request.done = [&](Status result) {
        const std::lock_guard lock(mutex);
        if (!result) status = std::move(result);
        if (--left == 0) done.notify_one();
      };
      requests.push_back(std::move(request));
    }
  }
  left = static_cast<int64_t>(requests.size());
  io.Submit(std::move(requests));
  std::unique_lock lock(mutex);
  done.wait(lock, [&] { return left == 0; });
  return status;
}

Status Through(ExpertStore& store, int32_t layer, std::span<const int32_t> experts) {
  ExpertBatch batch = store.Fetch(layer, experts);
  for (;;) {
    FATHOM_TRY(auto lease, batch.Next());
    if (!lease) return {};
    benchmark::DoNotOptimize(lease->views().gate.data);
  }
}

struct Batch {
  int32_t layer;
  std::vector<int32_t> experts;
};

/// Every expert once, `size` of a layer together, in random order (or by layer, in file order).
std::vector<Batch> Batches(const ExpertGeometry& geometry, int64_t size, bool shuffled) {
  std::mt19937_64 random(static_cast<uint64_t>(Clock::now().time_since_epoch().count()));
  std::vector<Batch> batches;
  for (int32_t layer = 0; layer < geometry.layers; ++layer) {
    std::vector<int32_t> experts(geometry.experts);
    std::iota(experts.begin(), experts.end(), 0);
    if (shuffled) std::shuffle(experts.begin(), experts.end(), random);
    for (int64_t at = 0; at + size <= geometry.experts; at += size)
      batches.push_back({layer, {experts.begin() + at, experts.begin() + at + size}});
  }
  std::shuffle(batches.begin(), batches.end(), random);
  return batches;
}

Status Measure(const std::string& path, int64_t size, bool shuffled, bool registered, benchmark::State& state) {
  FATHOM_TRY(const auto model, ModelFile::Open(path));
  const int64_t slots = shuffled ? std::max<int64_t>(2 * size, 12) : size;
  FATHOM_TRY(const auto store, ExpertStore::Create(*model, Env::Default(), nullptr,
                                                   {.slots = slots, .resizable = !registered}));
  const ExpertLayout& layout = store->layout();
  const ExpertGeometry& geometry = layout.geometry();
  std::vector<std::unique_ptr<DirectFile>> files;
  for (const std::string& name : layout.files()) {
    FATHOM_TRY(files.emplace_back(), Env::Default().OpenDirect(name, {}));
  }
  FATHOM_TRY(const auto io, AsyncIo::Create({.depth = 64, .threads = 8}));
  FATHOM_TRY(const auto memory, SlotMemory::Reserve(layout.largest_slot_bytes(), size));
  FATHOM_CHECK_OK(memory->Resize(size));
  if (registered) io->Register({memory->slot(0), static_cast<size_t>(memory->bytes())});
  // The first touch of memory is not the disk's time, on either side.
  std::fill_n(memory->slot(0), memory->bytes(), std::byte{0});
  auto batches = Batches(geometry, size, shuffled);
  size_t at = 0;
  const double useful = Useful(layout) * static_cast<double>(size);
  for (; at * static_cast<size_t>(size) <= static_cast<size_t>(slots); ++at) FATHOM_CHECK_OK(Through(*store, batches[at].layer, batches[at].experts));

  Side raw, through;
  std::vector<double> ratios;
  for (auto _ : state) {
    if (at + 2 > batches.size()) break;
    double seconds[2];
    for (int turn = 0; turn < 2; ++turn) {
      const Batch& batch = batches[at + turn];
      const bool is_raw = (turn == 0) == (at / 2 % 2 == 0);
      std::vector<ExpertId> ids;
      for (const int32_t expert : batch.experts) ids.push_back(geometry.Id(batch.layer, expert));
      const auto start = Clock::now();
      FATHOM_CHECK_OK(is_raw ? Raw(layout, *io, files, *memory, ids) : Through(*store, batch.layer, batch.experts));
      seconds[is_raw ? 0 : 1] = std::chrono::duration<double>(Clock::now() - start).count();
    }
    at += 2;
    raw.seconds += seconds[0], raw.bytes += useful;
    through.seconds += seconds[1], through.bytes += useful;
    ratios.push_back(seconds[0] / seconds[1]);
  }
  std::sort(ratios.begin(), ratios.end());
  state.counters["raw_GB/s"] = raw.rate() * 1e-9;
  state.counters["store_GB/s"] = through.rate() * 1e-9;
  state.counters["of_raw"] = raw.rate() > 0 ? through.rate() / raw.rate() : 0;
  state.counters["of_raw_median"] = ratios.empty() ? 0 : ratios[ratios.size() / 2];
  state.counters["expert_MB"] = Useful(layout) * 1e-6;
  state.SetLabel(std::string(io->kind()));
  return {};
}

void Run(benchmark::State& state, int64_t size, bool shuffled, bool registered) {
  const char* path = std::getenv("FATHOM_BENCH_MODEL");
  if (path == nullptr) return state.SkipWithError("FATHOM_BENCH_MODEL names no model");
  if (const Status status = Measure(path, size, shuffled, registered, state); !status)
    state.SkipWithError(status.error().message.c_str());
}

BENCHMARK_CAPTURE(Run, cold_6, 6, true, false)->Iterations(60)->UseRealTime();
BENCHMARK_CAPTURE(Run, cold_6_registered, 6, true, true)->Iterations(60)->UseRealTime();
BENCHMARK_CAPTURE(Run, cold_1, 1, true, false)->Iterations(200)->UseRealTime();
BENCHMARK_CAPTURE(Run, layer, 64, false, false)->Iterations(11)->UseRealTime();

}  // namespace
}  // namespace fathom
