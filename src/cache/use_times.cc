#include "cache/use_times.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string_view>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "io/env.h"
#include "io/file_writer.h"

namespace fathom {
namespace {

static_assert(std::endian::native == std::endian::little, "records are written as they stand in memory");

constexpr std::string_view kMagic = "FATHUSE1";

struct Header {
  char magic[8];
  uint64_t count;
  uint64_t checksum;
};
struct Record {
  uint64_t key_low, key_high;
  int64_t microseconds;
  uint32_t hits, zero;
};
static_assert(sizeof(Header) == 24 && sizeof(Record) == 32);

}  // namespace

Status WriteBlockUses(Env& env, const std::string& path, const BlockUses& uses) {
  const size_t count = std::min(uses.size(), kMostBlockUses);
  std::string text(sizeof(Header) + count * sizeof(Record), '\0');
  char* at = text.data() + sizeof(Header);
  size_t left = count;
  for (const auto& [key, use] : uses) {
    if (left-- == 0) break;
    const Record record = {key.low, key.high, std::llround(use.last_used * 1e6), use.hits, 0};
    std::memcpy(at, &record, sizeof(record));
    at += sizeof(record);
  }
  Header header = {{}, count, XXH3_64bits(text.data() + sizeof(Header), count * sizeof(Record))};
  std::memcpy(header.magic, kMagic.data(), sizeof(header.magic));
  std::memcpy(text.data(), &header, sizeof(header));
  return WriteWholeFile(env, path, text, FileAccess::kPrivate);
}

Result<BlockUses> ReadBlockUses(Env& env, const std::string& path) {
  BlockUses uses;
  if (!env.Exists(path)) return uses;
  constexpr auto kMostBytes = static_cast<int64_t>(sizeof(Header) + kMostBlockUses * sizeof(Record));
  FATHOM_TRY(const std::string text, ReadWholeFile(env, path, kMostBytes));
  Header header = {};
  if (text.size() >= sizeof(header)) std::memcpy(&header, text.data(), sizeof(header));
  const size_t bytes = text.size() >= sizeof(header) ? text.size() - sizeof(header) : 0;
  if (text.size() < sizeof(header) || std::memcmp(header.magic, kMagic.data(), sizeof(header.magic)) != 0 ||
      bytes % sizeof(Record) != 0 || header.count != bytes / sizeof(Record) ||
      header.checksum != XXH3_64bits(text.data() + sizeof(header), bytes)) {
    return Fail(ErrorCode::kCorrupt, "{}: is damaged; blocks count as last used when they were written", path);
  }
  uses.reserve(header.count);
  for (size_t i = 0; i < header.count; ++i) {
    Record record;
    std::memcpy(&record, text.data() + sizeof(header) + i * sizeof(Record), sizeof(record));
    uses[{.high = record.key_high, .low = record.key_low}] = {static_cast<double>(record.microseconds) / 1e6, record.hits};
  }
  return uses;
}

}  // namespace fathom
