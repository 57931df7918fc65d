// How long opening a cache folder takes: 100,000 blocks (FATHOM_BENCH_BLOCKS: another number) of the V2-Lite shape, in
// conversations of 6,400 tokens. Of a block's 2 MiB only the header is written, the files are holes elsewhere. With the
// headers of a file together, as they are since version 2 of the format, and as in version 1 each before its rows.
// FATHOM_BENCH_DIR names a folder on the device to be measured (default: /tmp).
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "cache/kv_cache.h"
#include "cache/segment_format.h"
#include "io/env.h"

namespace fathom {
namespace {

constexpr int64_t kFiles = 250, kConversation = 100;  // blocks
const KvSpace kSpace = {.model_fingerprint = "bench",
                        .rope = "",
                        .layout = {.dtype = DType::kBF16, .layers = 27, .row_values = 576}};

void Put(int file, std::span<const std::byte> bytes, int64_t offset) {
  if (::pwrite(file, bytes.data(), bytes.size(), offset) != std::ssize(bytes)) std::abort();
}

/// Bytes of all files.
int64_t WriteFolder(const std::filesystem::path& folder, uint32_t version, int64_t blocks) {
  SegmentInfo info;
  info.version = version;
  info.space = kSpace.Digest();
  info.dtype = kSpace.layout.dtype;
  info.layers = kSpace.layout.layers;
  info.row_values = kSpace.layout.row_values;
  info.row_bytes = kSpace.layout.row_bytes();
  info.slots = (blocks + kFiles - 1) / kFiles;
  const std::filesystem::path space = folder / ToHex(info.space);
  std::filesystem::create_directories(space);
  std::ofstream(folder / "fathom-kv.lock");

  const std::vector<std::byte> rows(static_cast<size_t>(info.layer_bytes()));  // a hole's
  std::vector<std::byte> page(static_cast<size_t>(info.header_bytes()));
  SlotHeader header{.state = SlotState::kBlock, .written_at = 1700000000};
  header.checks.checksums.assign(static_cast<size_t>(info.layers), RowsChecksum(rows));
  const BlockKey root = RootKey(kSpace, "");
  int file = -1;
  const auto end_file = [&] {
    if (file < 0) return;
    if (::fsync(file) != 0) std::abort();
    ::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    ::close(file);
  };
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t slot = block % info.slots;
    if (slot == 0) {
      end_file();
      ++info.number;
      file = ::open((space / fmt::format("kv-{:08}.seg", info.number)).c_str(), O_CREAT | O_RDWR, 0644);
      if (file < 0 || ::ftruncate(file, info.file_bytes()) != 0) std::abort();
      std::vector<std::byte> super(kSegmentPage);
      EncodeSuperblock(info, super);
      Put(file, super, 0);
    }
    BlockMeta& meta = header.meta;
    const int64_t place = block % kConversation;
    meta.parent = place == 0 ? root : meta.key;
    meta.root = root;
    meta.first_position = static_cast<int32_t>(place * KvLayout::kBlockTokens);
    meta.count = KvLayout::kBlockTokens;
    for (size_t i = 0; i < meta.tokens.size(); ++i)
      meta.tokens[i] = static_cast<int32_t>((block * 7919 + static_cast<int64_t>(i) * 31) % 100000);
    meta.key = ChainKey(meta.parent, meta.token_span());
    header.sequence = static_cast<uint64_t>(block) + 1;
    if (!EncodeSlotHeader(info, header, nullptr, page)) std::abort();
    Put(file, page, info.header_offset(slot));
  }
  end_file();
  return kFiles * info.file_bytes();
}

void OpenFolder(benchmark::State& state, uint32_t version) {
  const char* named = std::getenv("FATHOM_BENCH_DIR");
  const char* wanted = std::getenv("FATHOM_BENCH_BLOCKS");
  const int64_t blocks = wanted != nullptr ? std::max(std::atoll(wanted), 1LL) : 100000;
  const std::filesystem::path folder =
      std::filesystem::path(named != nullptr ? named : "/tmp") / fmt::format("fathom-open-bench-{}", getpid());
  std::filesystem::remove_all(folder);
  CacheOptions options;
  options.directory = folder.string();
  options.disk_bytes = WriteFolder(folder, version, blocks);
  for (auto _ : state) {
    KvPool pool(kSpace.layout);
    const auto start = std::chrono::steady_clock::now();
    auto cache = KvCache::Create(Env::Default(), kSpace, pool, options);
    state.SetIterationTime(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    if (!cache) {
      state.SkipWithError(cache.error().message.c_str());
      break;
    }
    const CacheStats stats = (*cache)->stats();
    if (stats.disk.blocks != blocks || stats.corrupt != 0) state.SkipWithError("not all blocks were found");
    state.counters["blocks"] = static_cast<double>(stats.disk.blocks);
  }
  std::filesystem::remove_all(folder);
}

BENCHMARK_CAPTURE(OpenFolder, headers_together, 2)->Iterations(5)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(OpenFolder, headers_before_rows, 1)->Iterations(5)->UseManualTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace fathom
