// Bytes of a segment file from anywhere: superblocks and slot headers, plain and encrypted. The first byte chooses.
// What is accepted must encode to the same again.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "cache/segment_format.h"

namespace {

using namespace fathom;

void CheckSuperblock(std::span<const std::byte> page) {
  auto info = DecodeSuperblock(page);
  if (!info) {
    if (info.error().message.empty()) std::abort();
    return;
  }
  const int64_t last = info->layer_offset(info->slots - 1, info->layers - 1) + info->layer_bytes();
  if (!info->Check() || last != info->file_bytes() || info->header_offset(info->slots - 1) < kSegmentPage ||
      info->whole_slots(last) != info->slots)
    std::abort();
  std::vector<std::byte> again(kSegmentPage);
  EncodeSuperblock(*info, again);
  if (DecodeSuperblock(again)->slots != info->slots) std::abort();
}

// The checksum at the end is made to fit, so that what it protects is reached.
void FitChecksum(std::span<std::byte> bytes) {
  const uint64_t sum = RowsChecksum(bytes.first(bytes.size() - 8));
  std::memcpy(bytes.data() + bytes.size() - 8, &sum, sizeof(sum));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  static const auto cipher = std::move(*BlockCipher::FromKey({}));
  const uint8_t choice = data[0];
  SegmentInfo info;
  info.space = {0x1111, 0x2222};
  info.layers = 1 + choice % 4;
  info.row_values = 100;
  info.row_bytes = 256;
  info.slots = 5;
  info.encrypted = (choice & 0x40) != 0;
  std::vector<std::byte> bytes(4096);
  std::memcpy(bytes.data(), data + 1, std::min<size_t>(size - 1, bytes.size()));
  if (choice & 0x20) FitChecksum(bytes);
  if (choice & 0x80) {
    CheckSuperblock(bytes);
    return 0;
  }
  auto header = DecodeSlotHeader(info, cipher.get(), bytes);
  if (!header) {
    if (header.error().message.empty()) std::abort();
    return 0;
  }
  if (header->state != SlotState::kBlock) return 0;
  if (header->meta.count < 1 || header->meta.count > 64 || header->meta.first_position < 0) std::abort();
  std::vector<std::byte> again(4096);
  if (!EncodeSlotHeader(info, *header, cipher.get(), again)) std::abort();
  auto back = DecodeSlotHeader(info, cipher.get(), again);
  if (!back || MetaIdentity(back->meta) != MetaIdentity(header->meta) || back->sequence != header->sequence)
    std::abort();
  std::vector<std::byte> rows(static_cast<size_t>(info.used_bytes(header->meta.count)));
  for (int64_t layer = -1; layer <= info.layers; ++layer)
    (void)OpenLayer(info, header->checks, cipher.get(), layer, rows);
  return 0;
}
