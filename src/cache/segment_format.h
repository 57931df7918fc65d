// The bytes of a segment file (docs/formats/kv-segment.md): superblocks, slot headers, checks of rows. Pure: no I/O.
//
// Plain values and functions, thread-safe. What is decoded may be hostile: every value is checked, nothing is allocated
// beyond the limits below.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "cache/block_cipher.h"
#include "cache/block_key.h"

namespace fathom {

inline constexpr int64_t kSegmentPage = 4096;
inline constexpr uint32_t kSegmentVersion = 2;  // of files that are made; those of version 1 are used as they are
inline constexpr int64_t kSegmentMostLayers = 384;
inline constexpr int64_t kSegmentMostSlots = (int64_t{1} << 20) - 1;
inline constexpr int64_t kSegmentMostRowBytes = int64_t{1} << 20;

/// What a superblock says.
struct SegmentInfo {
  BlockKey space;
  DType dtype = DType::kBF16;
  int64_t layers = 0, row_values = 0, row_bytes = 0;
  int64_t row_tail = 0, row_group = 0;  // as KvLayout; 0 but for rows in 8 bits
  int64_t slots = 0;
  uint64_t number = 0;
  int64_t created_at = 0;  // seconds since 1970
  bool encrypted = false;
  BlockCipher::KeyId key_id{};
  uint32_t version = kSegmentVersion;

  int64_t entry_bytes() const { return encrypted ? 16 : 8; }
  int64_t header_bytes() const;
  int64_t layer_bytes() const { return KvLayout::kBlockTokens * row_bytes; }
  int64_t rows_bytes() const { return layers * layer_bytes(); }
  int64_t slot_bytes() const { return header_bytes() + rows_bytes(); }
  int64_t file_bytes() const { return kSegmentPage + slots * slot_bytes(); }
  /// All headers stand before all rows; in version 1 each stands before its own.
  int64_t header_offset(int64_t slot) const {
    return kSegmentPage + slot * (version == 1 ? slot_bytes() : header_bytes());
  }
  int64_t rows_offset(int64_t slot) const {
    return version == 1 ? header_offset(slot) + header_bytes()
                        : kSegmentPage + slots * header_bytes() + slot * rows_bytes();
  }
  int64_t layer_offset(int64_t slot, int64_t layer) const { return rows_offset(slot) + layer * layer_bytes(); }
  /// How many slots stand whole in a file of so many bytes.
  int64_t whole_slots(int64_t bytes) const;
  /// Of one layer of a block with `count` tokens: its rows, and what is read and written for them.
  int64_t used_bytes(int64_t count) const { return count * row_bytes; }
  int64_t padded_bytes(int64_t count) const {
    return (used_bytes(count) + kSegmentPage - 1) / kSegmentPage * kSegmentPage;
  }
  /// kInvalidArgument when a field is out of range (of an own mistake, or of a file).
  Status Check() const;
};

/// page: 4096 bytes. REQUIRES: info.Check().
void EncodeSuperblock(const SegmentInfo& info, std::span<std::byte> page);
/// Errors: kCorrupt (magic, checksum, values), kUnsupported (a newer version).
Result<SegmentInfo> DecodeSuperblock(std::span<const std::byte> page);

/// What a layer's rows are checked against, one entry a layer.
struct LayerChecks {
  BlockCipher::Nonce nonce{};          // when encrypted
  std::vector<uint64_t> checksums;     // not encrypted
  std::vector<BlockCipher::Tag> tags;  // encrypted
};

enum class SlotState { kEmpty, kFreed, kBlock };

struct SlotHeader {
  SlotState state = SlotState::kEmpty;
  uint64_t sequence = 0;
  int64_t written_at = 0;
  BlockMeta meta;
  LayerChecks checks;
};

/// out: info.header_bytes(). cipher: where info.encrypted. REQUIRES: one check a layer. Errors: kInternal (cipher).
Status EncodeSlotHeader(const SegmentInfo& info, const SlotHeader& header, const BlockCipher* cipher,
                        std::span<std::byte> out);
/// Errors: kCorrupt for all that is wrong.
Result<SlotHeader> DecodeSlotHeader(const SegmentInfo& info, const BlockCipher* cipher, std::span<const std::byte> in);

uint64_t RowsChecksum(std::span<const std::byte> rows);
/// Checks (and decrypts in place) the rows of one layer. Errors: kCorrupt.
Status OpenLayer(const SegmentInfo& info, const LayerChecks& checks, const BlockCipher* cipher, int64_t layer,
                 std::span<std::byte> rows);
/// 128 bits over everything in it, to tell two metas apart.
BlockKey MetaIdentity(const BlockMeta& meta);

}  // namespace fathom
