#include "cache/segment_format.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <string_view>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace fathom {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are stored as they stand in memory");

constexpr std::string_view kSuperMagic = "fathomKV", kSlotMagic = "fathomSL";
constexpr uint32_t kSlotVersion = 1;
constexpr size_t kPublicBytes = 80;  // of a slot header, covered by the private part's tag
constexpr size_t kTagAt = 80, kPrivateAt = 96, kPrivateBytes = 320, kEntriesAt = 416;
constexpr uint32_t kStateBlock = 1, kStateFreed = 2;

template <typename T>
void Put(std::span<std::byte> out, size_t at, T value) {
  std::memcpy(out.data() + at, &value, sizeof(value));
}

template <typename T>
T Take(std::span<const std::byte> in, size_t at) {
  T value;
  std::memcpy(&value, in.data() + at, sizeof(value));
  return value;
}

void PutKey(std::span<std::byte> out, size_t at, const BlockKey& key) {
  Put(out, at, key.high);
  Put(out, at + 8, key.low);
}

BlockKey TakeKey(std::span<const std::byte> in, size_t at) {
  return {Take<uint64_t>(in, at), Take<uint64_t>(in, at + 8)};
}

// The first byte is zero and every other like the one before it: at memcmp's speed, as opening asks it of whole headers.
bool IsZero(std::span<const std::byte> bytes) {
  return bytes.empty() ||
         (bytes[0] == std::byte{0} && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

bool HasMagic(std::span<const std::byte> in, std::string_view magic) {
  return std::memcmp(in.data(), magic.data(), magic.size()) == 0;
}

void PutChecksum(std::span<std::byte> out) { Put(out, out.size() - 8, RowsChecksum(out.first(out.size() - 8))); }

bool ChecksumFits(std::span<const std::byte> in) {
  return Take<uint64_t>(in, in.size() - 8) == RowsChecksum(in.first(in.size() - 8));
}

// A type's code is its place here, from 1 on.
constexpr DType kRowTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kF8_E4M3, DType::kI8};

uint32_t DTypeCode(DType dtype) {
  const auto* at = std::find(std::begin(kRowTypes), std::end(kRowTypes), dtype);
  return at == std::end(kRowTypes) ? 0 : static_cast<uint32_t>(at - std::begin(kRowTypes)) + 1;
}

std::array<std::byte, kPrivateBytes> PrivatePart(const BlockMeta& meta) {
  std::array<std::byte, kPrivateBytes> part{};
  PutKey(part, 0, meta.key);
  PutKey(part, 16, meta.parent);
  PutKey(part, 32, meta.root);
  Put(part, 48, meta.first_position);
  Put(part, 52, meta.count);
  const auto count = static_cast<size_t>(std::clamp<int32_t>(meta.count, 0, KvLayout::kBlockTokens));
  std::memcpy(part.data() + 56, meta.tokens.data(), count * sizeof(int32_t));
  return part;
}

Result<BlockMeta> MetaFrom(std::span<const std::byte> part) {
  BlockMeta meta;
  meta.key = TakeKey(part, 0);
  meta.parent = TakeKey(part, 16);
  meta.root = TakeKey(part, 32);
  meta.first_position = Take<int32_t>(part, 48);
  meta.count = Take<int32_t>(part, 52);
  if (meta.first_position < 0 || meta.first_position % KvLayout::kBlockTokens != 0) {
    return Fail(ErrorCode::kCorrupt, "slot header: first position {}", meta.first_position);
  }
  if (meta.count < 1 || meta.count > KvLayout::kBlockTokens) {
    return Fail(ErrorCode::kCorrupt, "slot header: {} tokens", meta.count);
  }
  std::memcpy(meta.tokens.data(), part.data() + 56, sizeof(meta.tokens));
  if (!IsZero(part.subspan(56 + static_cast<size_t>(meta.count) * sizeof(int32_t)))) {
    return Fail(ErrorCode::kCorrupt, "slot header: tokens past its {}", meta.count);
  }
  return meta;
}

// What the private part's tag covers beside it: the public part and the layers' tags.
std::vector<std::byte> Authenticated(const SegmentInfo& info, std::span<const std::byte> header) {
  const auto entries = static_cast<size_t>(info.layers * info.entry_bytes());
  std::vector<std::byte> bytes(kPublicBytes + entries);
  std::memcpy(bytes.data(), header.data(), kPublicBytes);
  std::memcpy(bytes.data() + kPublicBytes, header.data() + kEntriesAt, entries);
  return bytes;
}

}  // namespace

int64_t SegmentInfo::header_bytes() const {
  const auto bytes = static_cast<int64_t>(kEntriesAt) + layers * entry_bytes() + 8;
  return (bytes + kSegmentPage - 1) / kSegmentPage * kSegmentPage;
}

int64_t SegmentInfo::whole_slots(int64_t bytes) const {
  const int64_t whole = version == 1 ? (bytes - kSegmentPage) / slot_bytes() : (bytes - rows_offset(0)) / rows_bytes();
  return std::clamp<int64_t>(whole, 0, slots);
}

Status SegmentInfo::Check() const {
  if (version < 1 || version > kSegmentVersion) return Fail(ErrorCode::kInvalidArgument, "version {}", version);
  if (layers < 1 || layers > kSegmentMostLayers) {
    return Fail(ErrorCode::kInvalidArgument, "{} layers, not in [1, {}]", layers, kSegmentMostLayers);
  }
  if (row_bytes < 64 || row_bytes > kSegmentMostRowBytes || row_bytes % 64 != 0) {
    return Fail(ErrorCode::kInvalidArgument, "rows of {} bytes, not a multiple of 64 in [64, {}]", row_bytes,
                kSegmentMostRowBytes);
  }
  if (row_values < 1 || row_values > row_bytes) return Fail(ErrorCode::kInvalidArgument, "{} values a row", row_values);
  if (slots < 1 || slots > kSegmentMostSlots) {
    return Fail(ErrorCode::kInvalidArgument, "{} slots, not in [1, {}]", slots, kSegmentMostSlots);
  }
  if (DTypeCode(dtype) == 0) return Fail(ErrorCode::kInvalidArgument, "not an element type of KV rows");
  const KvRowFormat row{dtype, row_values, row_tail, row_group};
  if (row.packed() ? row_tail < 0 || row_tail >= row_values || row_group < 1 || row_group > row_values
                   : row_tail != 0 || row_group != 0) {
    return Fail(ErrorCode::kInvalidArgument, "{} values a row with a tail of {} in groups of {}", row_values, row_tail,
                row_group);
  }
  if (row.bytes() > row_bytes) {
    return Fail(ErrorCode::kInvalidArgument, "rows of {} bytes do not hold {} values", row_bytes, row_values);
  }
  return {};
}

void EncodeSuperblock(const SegmentInfo& info, std::span<std::byte> page) {
  assert(info.Check() && page.size() == kSegmentPage);
  std::fill(page.begin(), page.end(), std::byte{0});
  std::memcpy(page.data(), kSuperMagic.data(), kSuperMagic.size());
  Put(page, 8, info.version);
  Put(page, 12, static_cast<uint32_t>(info.header_bytes()));
  PutKey(page, 16, info.space);
  Put(page, 32, static_cast<uint32_t>(info.layers));
  Put(page, 36, static_cast<uint32_t>(info.row_values));
  Put(page, 40, static_cast<uint32_t>(info.row_bytes));
  Put(page, 44, DTypeCode(info.dtype));
  Put(page, 48, info.slot_bytes());
  Put(page, 56, info.slots);
  Put(page, 64, info.number);
  Put(page, 72, info.created_at);
  Put(page, 80, uint32_t{info.encrypted});
  if (info.encrypted) std::memcpy(page.data() + 88, info.key_id.data(), info.key_id.size());
  Put(page, 104, static_cast<uint32_t>(info.row_tail));
  Put(page, 108, static_cast<uint32_t>(info.row_group));
  PutChecksum(page);
}

Result<SegmentInfo> DecodeSuperblock(std::span<const std::byte> page) {
  if (page.size() != kSegmentPage || !HasMagic(page, kSuperMagic)) {
    return Fail(ErrorCode::kCorrupt, "is not a KV segment (magic)");
  }
  if (!ChecksumFits(page)) return Fail(ErrorCode::kCorrupt, "superblock: checksum");
  SegmentInfo info;
  info.version = Take<uint32_t>(page, 8);
  if (info.version < 1 || info.version > kSegmentVersion) {
    return Fail(ErrorCode::kUnsupported, "superblock: version {}; this fathom knows up to {}", info.version,
                kSegmentVersion);
  }
  info.space = TakeKey(page, 16);
  info.layers = Take<uint32_t>(page, 32);
  info.row_values = Take<uint32_t>(page, 36);
  info.row_bytes = Take<uint32_t>(page, 40);
  const auto dtype = Take<uint32_t>(page, 44);
  if (dtype < 1 || dtype > std::size(kRowTypes)) return Fail(ErrorCode::kCorrupt, "superblock: element type {}", dtype);
  info.dtype = kRowTypes[dtype - 1];
  info.row_tail = Take<uint32_t>(page, 104);
  info.row_group = Take<uint32_t>(page, 108);
  info.slots = Take<int64_t>(page, 56);
  info.number = Take<uint64_t>(page, 64);
  info.created_at = Take<int64_t>(page, 72);
  const auto cipher = Take<uint32_t>(page, 80);
  info.encrypted = cipher == 1;
  std::memcpy(info.key_id.data(), page.data() + 88, info.key_id.size());
  if (auto status = info.Check(); !status) {
    return Fail(ErrorCode::kCorrupt, "superblock: {}", status.error().message);
  }
  if (cipher > 1 || Take<uint32_t>(page, 12) != info.header_bytes() ||
      Take<int64_t>(page, 48) != info.slot_bytes()) {
    return Fail(ErrorCode::kCorrupt, "superblock: sizes or codes that do not fit together");
  }
  return info;
}

Status EncodeSlotHeader(const SegmentInfo& info, const SlotHeader& header, const BlockCipher* cipher,
                        std::span<std::byte> out) {
  assert(static_cast<int64_t>(out.size()) == info.header_bytes());
  std::fill(out.begin(), out.end(), std::byte{0});
  if (header.state == SlotState::kEmpty) return {};
  std::memcpy(out.data(), kSlotMagic.data(), kSlotMagic.size());
  Put(out, 8, kSlotVersion);
  Put(out, 12, header.state == SlotState::kBlock ? kStateBlock : kStateFreed);
  PutKey(out, 16, info.space);
  if (header.state == SlotState::kBlock) {
    Put(out, 32, header.sequence);
    Put(out, 40, header.written_at);
    Put(out, 48, static_cast<uint32_t>(info.layers));
    Put(out, 52, static_cast<uint32_t>(info.row_bytes));
    Put(out, 56, uint32_t{info.encrypted});
    const auto part = PrivatePart(header.meta);
    if (info.encrypted) {
      assert(cipher != nullptr && static_cast<int64_t>(header.checks.tags.size()) == info.layers);
      std::memcpy(out.data() + 64, header.checks.nonce.data(), header.checks.nonce.size());
      std::memcpy(out.data() + kEntriesAt, header.checks.tags.data(),
                  header.checks.tags.size() * BlockCipher::kTagBytes);
      FATHOM_TRY(const auto tag, cipher->Seal(header.checks.nonce, BlockCipher::kHeaderPart, Authenticated(info, out),
                                              part, out.data() + kPrivateAt));
      std::memcpy(out.data() + kTagAt, tag.data(), tag.size());
    } else {
      assert(static_cast<int64_t>(header.checks.checksums.size()) == info.layers);
      std::memcpy(out.data() + kPrivateAt, part.data(), part.size());
      std::memcpy(out.data() + kEntriesAt, header.checks.checksums.data(), header.checks.checksums.size() * 8);
    }
  }
  PutChecksum(out);
  return {};
}

Result<SlotHeader> DecodeSlotHeader(const SegmentInfo& info, const BlockCipher* cipher, std::span<const std::byte> in) {
  if (static_cast<int64_t>(in.size()) != info.header_bytes()) return Fail(ErrorCode::kCorrupt, "slot header: size");
  SlotHeader header;
  if (IsZero(in)) return header;
  if (!HasMagic(in, kSlotMagic)) return Fail(ErrorCode::kCorrupt, "slot header: magic");
  if (!ChecksumFits(in)) return Fail(ErrorCode::kCorrupt, "slot header: checksum");
  if (Take<uint32_t>(in, 8) != kSlotVersion) return Fail(ErrorCode::kCorrupt, "slot header: version");
  if (TakeKey(in, 16) != info.space) return Fail(ErrorCode::kCorrupt, "slot header: another space");
  const auto state = Take<uint32_t>(in, 12);
  if (state == kStateFreed) {
    header.state = SlotState::kFreed;
    return header;
  }
  if (state != kStateBlock) return Fail(ErrorCode::kCorrupt, "slot header: state {}", state);
  header.state = SlotState::kBlock;
  header.sequence = Take<uint64_t>(in, 32);
  header.written_at = Take<int64_t>(in, 40);
  if (Take<uint32_t>(in, 48) != info.layers || Take<uint32_t>(in, 52) != info.row_bytes ||
      Take<uint32_t>(in, 56) != uint32_t{info.encrypted} || Take<uint32_t>(in, 60) != 0) {
    return Fail(ErrorCode::kCorrupt, "slot header: sizes, cipher or flags");
  }
  std::array<std::byte, kPrivateBytes> part;
  const auto stored = in.subspan(kPrivateAt, kPrivateBytes);
  const auto layers = static_cast<size_t>(info.layers);
  if (info.encrypted) {
    if (cipher == nullptr) return Fail(ErrorCode::kCorrupt, "slot header: encrypted, and there is no key");
    std::memcpy(header.checks.nonce.data(), in.data() + 64, header.checks.nonce.size());
    header.checks.tags.resize(layers);
    std::memcpy(header.checks.tags.data(), in.data() + kEntriesAt, layers * BlockCipher::kTagBytes);
    BlockCipher::Tag tag;
    std::memcpy(tag.data(), in.data() + kTagAt, tag.size());
    FATHOM_CHECK_OK(
        cipher->Open(header.checks.nonce, BlockCipher::kHeaderPart, Authenticated(info, in), tag, stored, part.data()));
  } else {
    header.checks.checksums.resize(layers);
    std::memcpy(header.checks.checksums.data(), in.data() + kEntriesAt, layers * 8);
    std::copy(stored.begin(), stored.end(), part.begin());
  }
  FATHOM_TRY(header.meta, MetaFrom(part));
  return header;
}

uint64_t RowsChecksum(std::span<const std::byte> rows) { return XXH3_64bits(rows.data(), rows.size()); }

Status OpenLayer(const SegmentInfo& info, const LayerChecks& checks, const BlockCipher* cipher, int64_t layer,
                 std::span<std::byte> rows) {
  const auto index = static_cast<size_t>(layer);
  if (info.encrypted) {
    if (cipher == nullptr || index >= checks.tags.size())
      return Fail(ErrorCode::kCorrupt, "layer {}: no key or tag", layer);
    auto status = cipher->Open(checks.nonce, static_cast<uint16_t>(layer), {}, checks.tags[index], rows, rows.data());
    if (!status) return Prefix(status.error(), fmt::format("layer {}", layer));
    return {};
  }
  if (index >= checks.checksums.size() || RowsChecksum(rows) != checks.checksums[index]) {
    return Fail(ErrorCode::kCorrupt, "layer {}: checksum", layer);
  }
  return {};
}

BlockKey MetaIdentity(const BlockMeta& meta) {
  const auto part = PrivatePart(meta);
  const XXH128_hash_t hash = XXH3_128bits(part.data(), part.size());
  return {hash.high64, hash.low64};
}

}  // namespace fathom
