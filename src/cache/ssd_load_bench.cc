// How fast known rows come from the SSD, against the device itself: the V2-Lite shape (27 layers of 576 bf16 values), 64
// blocks (4096 tokens, 137 MB), all past the page cache. Each round reads the same bytes three times: raw (the same
// AsyncIo, whole slots in pieces of 1 MiB, nothing verified, memory touched before), through the tier, and through the
// cache manager from Acquire to the last layer (also with fresh memory, as after a start). GB/s of each, and what the tier
// and the cache reach of the raw rate. FATHOM_BENCH_DIR names a folder on the device to be measured (default: /tmp).
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <latch>

#include "base/aligned_buffer.h"
#include "cache/kv_cache.h"
#include "cache/segment_format.h"
#include "cache/ssd_tier.h"
#include "io/env.h"

namespace fathom {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kBlocks = 64;
const KvSpace kSpace = {.model_fingerprint = "bench",
                        .rope = "",
                        .layout = {.dtype = DType::kBF16, .layers = 27, .row_values = 576}};

double Seconds(Clock::time_point since) { return std::chrono::duration<double>(Clock::now() - since).count(); }
double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

std::vector<int32_t> Tokens() {
  std::vector<int32_t> tokens(kBlocks * KvLayout::kBlockTokens);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * 7919 % 100000);
  return tokens;
}

/// Seconds to read all slots of the segment files as they lie.
double ReadRaw(AsyncIo& io, const std::vector<std::unique_ptr<DirectFile>>& files, AlignedBuffer& memory, int64_t bytes) {
  constexpr int64_t kPiece = int64_t{1} << 20;
  const auto start = Clock::now();
  std::vector<AsyncIoRequest> requests;
  std::latch left((bytes + kPiece - 1) / kPiece);
  int64_t file_bytes = *files[0]->Size() / kPiece * kPiece;
  for (int64_t at = 0; at < bytes; at += kPiece) {
    DirectFile* file = files[static_cast<size_t>(at / file_bytes) % files.size()].get();
    requests.push_back({file, false, at % file_bytes, memory.data() + at, std::min(kPiece, bytes - at), 0, [&](Status status) {
                          if (!status) std::abort();
                          left.count_down();
                        }});
  }
  io.Submit(std::move(requests));
  left.wait();
  return Seconds(start);
}

void LoadFromSsd(benchmark::State& state, bool encrypted) {
  const char* named = std::getenv("FATHOM_BENCH_DIR");
  const std::filesystem::path folder =
      std::filesystem::path(named != nullptr ? named : "/tmp") / ("fathom-ssd-bench-" + std::to_string(getpid()));
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  const std::string key_file = (folder / "key").string();
  CacheOptions options;
  options.directory = (folder / "cache").string();
  options.disk_bytes = int64_t{1} << 30;
  if (encrypted) {
    std::FILE* key = std::fopen(key_file.c_str(), "wb");
    std::fputs(std::string(64, '7').c_str(), key);
    std::fclose(key);
    options.key_file = key_file;
  }
  const auto tokens = Tokens();
  const auto fail = [&](const Error& error) { state.SkipWithError(error.message.c_str()); };
  {
    KvPool pool(kSpace.layout);
    auto cache = KvCache::Create(Env::Default(), kSpace, pool, options);
    if (!cache) return fail(cache.error());
    KvSequence sequence(pool);
    if (auto status = sequence.Reserve(std::ssize(tokens)); !status) return fail(status.error());
    for (const KvBlockRef& block : sequence.blocks())
      for (int64_t i = 0; i < kSpace.layout.block_bytes(); i += 8)
        std::memcpy(block->data() + i, &i, 8);
    sequence.SetLength(std::ssize(tokens));
    (*cache)->Keep("", tokens, sequence.blocks(), true, nullptr);
    if (auto status = (*cache)->Flush(); !status) return fail(status.error());
  }
  const int64_t bytes = kBlocks * kSpace.layout.block_bytes();
  std::vector<std::unique_ptr<DirectFile>> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(options.directory))
    if (entry.path().extension() == ".seg") files.push_back(*Env::Default().OpenDirect(entry.path().string(), {}));
  auto memory = *AlignedBuffer::Allocate(static_cast<size_t>(bytes));  // huge pages, as the pool's
  std::memset(memory.data(), 1, memory.size());

  std::vector<double> raw, tier_seconds, cache_seconds;
  for (auto _ : state) {
    {
      auto io = *AsyncIo::Create({});
      raw.push_back(ReadRaw(*io, files, memory, bytes));
    }
    {
      KvPool pool(kSpace.layout);
      auto io = *AsyncIo::Create({});
      std::vector<StoredBlock> stored;
      SsdTierOptions disk;
      disk.directory = options.directory;
      disk.capacity_bytes = options.disk_bytes;
      disk.key_file = options.key_file;
      auto tier = SsdTier::Open(Env::Default(), *io, kSpace, disk, [&](const StoredBlock& b) { stored.push_back(b); });
      if (!tier) return fail(tier.error());
      std::vector<KvBlockRef> into;
      for (size_t i = 0; i < stored.size(); ++i) {
        into.push_back(*pool.Take());
        std::memset(into.back()->data(), 1, static_cast<size_t>(kSpace.layout.block_bytes()));
      }
      pool.OnSlab([&](std::span<std::byte> slab) { io->Register(slab); });
      const auto start = Clock::now();
      std::latch left(std::ssize(stored));
      std::vector<TierRead> reads;
      for (size_t i = 0; i < stored.size(); ++i)
        reads.push_back({stored[i].handle, stored[i].meta, into[i], 0, kSpace.layout.layers, [&](Status status) {
                           if (!status) std::abort();
                           left.count_down();
                         }});
      (*tier)->Get(std::move(reads), IoPriority::kDemand);
      left.wait();
      tier_seconds.push_back(Seconds(start));
      pool.OnSlab({});
    }
    {
      KvPool pool(kSpace.layout);
      auto cache = KvCache::Create(Env::Default(), kSpace, pool, options);
      if (!cache) return fail(cache.error());
      const auto start = Clock::now();
      const KvPrefix prefix = (*cache)->Acquire("", tokens, std::ssize(tokens));
      if (prefix.load == nullptr || !prefix.load->WaitLayer(kSpace.layout.layers - 1)) return state.SkipWithError("lost");
      cache_seconds.push_back(Seconds(start));
    }
  }
  const auto rate = [&](const std::vector<double>& seconds) { return static_cast<double>(bytes) / Median(seconds) / 1e9; };
  state.counters["raw_GBps"] = rate(raw);
  state.counters["tier_GBps"] = rate(tier_seconds);
  state.counters["cache_GBps"] = rate(cache_seconds);
  state.counters["tier_of_raw"] = rate(tier_seconds) / rate(raw);
  state.counters["cache_of_raw"] = rate(cache_seconds) / rate(raw);
  std::filesystem::remove_all(folder);
}

BENCHMARK_CAPTURE(LoadFromSsd, plain, false)->Iterations(7)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(LoadFromSsd, encrypted, true)->Iterations(7)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace fathom

