#include "cache/segment_format.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "cache/ssd_tier_for_test.h"

namespace fathom {
namespace {

SegmentInfo Info(bool encrypted = false, int64_t layers = 3) {
  SegmentInfo info;
  info.space = {1, 2};
  info.layers = layers;
  info.row_values = 100;
  info.row_bytes = 256;
  info.slots = 5;
  info.number = 12;
  info.created_at = 1700000000;
  info.encrypted = encrypted;
  if (encrypted) info.key_id[3] = std::byte{9};
  return info;
}

std::unique_ptr<BlockCipher> Cipher(uint8_t seed = 1) {
  BlockCipher::Key key;
  key.fill(std::byte{seed});
  return std::move(*BlockCipher::FromKey(key));
}

SlotHeader Header(const SegmentInfo& info, int32_t count = 64) {
  SlotHeader header{
      .state = SlotState::kBlock, .sequence = 77, .written_at = 1700000001, .meta = MetaForTest(5, count)};
  for (int64_t i = 0; i < info.layers; ++i) {
    if (info.encrypted) {
      header.checks.tags.push_back({std::byte{static_cast<uint8_t>(i)}});
    } else {
      header.checks.checksums.push_back(static_cast<uint64_t>(i * 31));
    }
  }
  if (info.encrypted) header.checks.nonce = BlockCipher::NewNonce().value();
  return header;
}

TEST(SegmentFormat, SizesFitTheirPages) {
  EXPECT_EQ(Info().header_bytes(), 4096);
  EXPECT_EQ(Info(false, 384).header_bytes(), 4096);
  EXPECT_EQ(Info(true, 229).header_bytes(), 4096);
  EXPECT_EQ(Info(true, 230).header_bytes(), 8192);
  EXPECT_EQ(Info().slot_bytes(), 4096 + 3 * 64 * 256);
  EXPECT_EQ(Info().file_bytes(), 4096 + 5 * Info().slot_bytes());
  EXPECT_EQ(Info().header_offset(0), 4096);
  EXPECT_EQ(Info().header_offset(4), 4096 + 4 * 4096);
  EXPECT_EQ(Info().rows_offset(0), 4096 + 5 * 4096);
  EXPECT_EQ(Info().layer_offset(2, 1), 4096 + 5 * 4096 + 2 * 3 * 64 * 256 + 64 * 256);
  EXPECT_EQ(Info().rows_offset(4) + Info().rows_bytes(), Info().file_bytes());
  EXPECT_EQ(Info().whole_slots(0), 0);
  EXPECT_EQ(Info().whole_slots(Info().rows_offset(3)), 3);
  EXPECT_EQ(Info().whole_slots(Info().rows_offset(3) - 1), 2);
  EXPECT_EQ(Info().whole_slots(INT64_MAX), 5);
  SegmentInfo first = Info();
  first.version = 1;
  EXPECT_EQ(first.file_bytes(), Info().file_bytes());
  EXPECT_EQ(first.header_offset(2), 4096 + 2 * first.slot_bytes());
  EXPECT_EQ(first.layer_offset(2, 1), 4096 + 2 * first.slot_bytes() + 4096 + 64 * 256);
  EXPECT_EQ(first.whole_slots(first.header_offset(3)), 3);
  EXPECT_EQ(first.whole_slots(first.header_offset(3) - 1), 2);
  EXPECT_EQ(Info().padded_bytes(64), 64 * 256);
  EXPECT_EQ(Info().padded_bytes(16), 4096);
  EXPECT_EQ(Info().padded_bytes(17), 8192);
}

TEST(SegmentFormat, SuperblockComesBackAndAnyFlippedBitIsNoticed) {
  for (bool encrypted : {false, true}) {
    SegmentInfo info = Info(encrypted);
    info.version = encrypted ? 1 : 2;
    std::vector<std::byte> page(4096);
    EncodeSuperblock(info, page);
    auto back = DecodeSuperblock(page);
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(back->version, info.version);
    EXPECT_EQ(back->space, info.space);
    EXPECT_EQ(back->layers, info.layers);
    EXPECT_EQ(back->row_values, info.row_values);
    EXPECT_EQ(back->row_bytes, info.row_bytes);
    EXPECT_EQ(back->slots, info.slots);
    EXPECT_EQ(back->number, info.number);
    EXPECT_EQ(back->created_at, info.created_at);
    EXPECT_EQ(back->encrypted, encrypted);
    EXPECT_EQ(back->key_id, info.key_id);
    EXPECT_EQ(back->dtype, DType::kBF16);
    for (size_t i = 0; i < page.size(); ++i) {
      page[i] ^= std::byte{4};
      auto damaged = DecodeSuperblock(page);
      ASSERT_FALSE(damaged) << i;
      EXPECT_EQ(damaged.error().code, ErrorCode::kCorrupt);
      page[i] ^= std::byte{4};
    }
    EXPECT_FALSE(DecodeSuperblock(std::span(page).first(100)));
  }
}

TEST(SegmentFormat, ValuesOutOfRangeAreRefusedThoughTheChecksumFits) {
  const auto with = [](size_t at, auto value) {
    std::vector<std::byte> page(4096);
    EncodeSuperblock(Info(), page);
    std::memcpy(page.data() + at, &value, sizeof(value));
    const uint64_t sum = RowsChecksum(std::span(page).first(4088));
    std::memcpy(page.data() + 4088, &sum, 8);
    return DecodeSuperblock(page);
  };
  EXPECT_TRUE(with(64, uint64_t{99}));
  EXPECT_TRUE(with(8, uint32_t{1}));
  EXPECT_FALSE(with(8, uint32_t{0}));
  auto newer = with(8, uint32_t{3});
  ASSERT_FALSE(newer);
  EXPECT_EQ(newer.error().code, ErrorCode::kUnsupported);
  EXPECT_FALSE(with(12, uint32_t{8192}));
  EXPECT_FALSE(with(32, uint32_t{0}));
  EXPECT_FALSE(with(32, uint32_t{385}));
  EXPECT_FALSE(with(32, ~uint32_t{0}));
  EXPECT_FALSE(with(36, uint32_t{0}));
  EXPECT_FALSE(with(40, uint32_t{100}));
  EXPECT_FALSE(with(40, uint32_t{0xFFFFFFC0}));
  EXPECT_FALSE(with(44, uint32_t{0}));
  EXPECT_FALSE(with(44, uint32_t{4}));  // 8 bits without a group
  EXPECT_FALSE(with(44, uint32_t{6}));
  EXPECT_FALSE(with(44, uint32_t{1}));    // 100 f32 values do not fit 256 bytes
  EXPECT_FALSE(with(104, uint32_t{1}));   // bf16 has neither tail
  EXPECT_FALSE(with(108, uint32_t{64}));  // nor groups
  EXPECT_FALSE(with(48, int64_t{1}));
  EXPECT_FALSE(with(56, int64_t{0}));
  EXPECT_FALSE(with(56, int64_t{-1}));
  EXPECT_FALSE(with(56, int64_t{1} << 60));
  EXPECT_FALSE(with(80, uint32_t{2}));
}

TEST(SegmentFormat, RowsInEightBitsAreNamed) {
  for (const DType dtype : {DType::kF8_E4M3, DType::kI8}) {
    SegmentInfo info = Info();
    info.dtype = dtype;
    info.row_values = 150;
    info.row_tail = 22;
    info.row_group = 32;
    std::vector<std::byte> page(4096);
    EncodeSuperblock(info, page);
    auto back = DecodeSuperblock(page);
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(back->dtype, dtype);
    EXPECT_EQ(back->row_tail, 22);
    EXPECT_EQ(back->row_group, 32);
    const auto refused = [&](auto change) {
      SegmentInfo wrong = info;
      change(wrong);
      return !wrong.Check();
    };
    EXPECT_TRUE(refused([](SegmentInfo& i) { i.row_tail = 150; }));
    EXPECT_TRUE(refused([](SegmentInfo& i) { i.row_tail = -1; }));
    EXPECT_TRUE(refused([](SegmentInfo& i) { i.row_group = 0; }));
    EXPECT_TRUE(refused([](SegmentInfo& i) { i.row_group = 151; }));
    EXPECT_TRUE(refused([](SegmentInfo& i) { i.row_group = 1; }));  // no room for so many scales
    EXPECT_TRUE(refused([](SegmentInfo& i) { i.dtype = DType::kQ8_0; }));
  }
}

TEST(SegmentFormat, SlotHeaderComesBackAndAnyFlippedBitIsNoticed) {
  const auto cipher = Cipher();
  for (bool encrypted : {false, true}) {
    for (int32_t count : {64, 1, 33}) {
      const SegmentInfo info = Info(encrypted);
      const SlotHeader header = Header(info, count);
      std::vector<std::byte> bytes(static_cast<size_t>(info.header_bytes()));
      ASSERT_TRUE(EncodeSlotHeader(info, header, cipher.get(), bytes));
      auto back = DecodeSlotHeader(info, cipher.get(), bytes);
      ASSERT_TRUE(back) << back.error().message;
      EXPECT_EQ(back->state, SlotState::kBlock);
      EXPECT_TRUE(SameMeta(back->meta, header.meta));
      EXPECT_EQ(back->sequence, 77u);
      EXPECT_EQ(back->written_at, 1700000001);
      EXPECT_EQ(back->checks.checksums, header.checks.checksums);
      EXPECT_EQ(back->checks.tags, header.checks.tags);
      EXPECT_EQ(back->checks.nonce, header.checks.nonce);
      for (size_t i = 0; i < bytes.size(); i += i < 600 ? 1 : 37) {
        bytes[i] ^= std::byte{0x10};
        EXPECT_FALSE(DecodeSlotHeader(info, cipher.get(), bytes)) << i;
        bytes[i] ^= std::byte{0x10};
      }
      SegmentInfo other = info;
      other.space.low ^= 1;
      EXPECT_FALSE(DecodeSlotHeader(other, cipher.get(), bytes)) << "another space";
    }
  }
}

TEST(SegmentFormat, AnEncryptedHeaderShowsNoTokensAndCannotBeChangedWithoutTheKey) {
  const auto cipher = Cipher();
  const SegmentInfo info = Info(true);
  const SlotHeader header = Header(info);
  std::vector<std::byte> bytes(4096);
  ASSERT_TRUE(EncodeSlotHeader(info, header, cipher.get(), bytes));
  for (size_t i = 0; i + 1 < header.meta.tokens.size(); ++i) {
    EXPECT_EQ(::memmem(bytes.data(), bytes.size(), &header.meta.tokens[i], 2 * sizeof(int32_t)), nullptr);
  }
  EXPECT_EQ(::memmem(bytes.data(), bytes.size(), &header.meta.key.high, 8), nullptr);
  // With the checksum made to fit again, the tag still tells: sequence, time, nonce, private part, a layer's tag.
  for (size_t at : {32u, 40u, 64u, 80u, 100u, 416u, 460u}) {
    auto changed = bytes;
    changed[at] ^= std::byte{1};
    const uint64_t sum = RowsChecksum(std::span(changed).first(4088));
    std::memcpy(changed.data() + 4088, &sum, 8);
    auto back = DecodeSlotHeader(info, cipher.get(), changed);
    ASSERT_FALSE(back) << at;
    EXPECT_EQ(back.error().code, ErrorCode::kCorrupt);
  }
  EXPECT_FALSE(DecodeSlotHeader(info, Cipher(2).get(), bytes));
  EXPECT_FALSE(DecodeSlotHeader(info, nullptr, bytes));
}

TEST(SegmentFormat, EmptyAndFreedSlots) {
  const SegmentInfo info = Info();
  std::vector<std::byte> bytes(4096);
  EXPECT_EQ(DecodeSlotHeader(info, nullptr, bytes)->state, SlotState::kEmpty);
  ASSERT_TRUE(EncodeSlotHeader(info, {.state = SlotState::kFreed}, nullptr, bytes));
  EXPECT_EQ(DecodeSlotHeader(info, nullptr, bytes)->state, SlotState::kFreed);
  bytes[4000] = std::byte{1};
  EXPECT_FALSE(DecodeSlotHeader(info, nullptr, bytes));
  EXPECT_FALSE(DecodeSlotHeader(info, nullptr, std::span(bytes).first(4000)));
}

TEST(SegmentFormat, MetaValuesOutOfRangeAreRefused) {
  const SegmentInfo info = Info();
  const auto with = [&](size_t at, int32_t value) {
    std::vector<std::byte> bytes(4096);
    EXPECT_TRUE(EncodeSlotHeader(info, Header(info, 40), nullptr, bytes));
    std::memcpy(bytes.data() + 96 + at, &value, 4);
    const uint64_t sum = RowsChecksum(std::span(bytes).first(4088));
    std::memcpy(bytes.data() + 4088, &sum, 8);
    return DecodeSlotHeader(info, nullptr, bytes).has_value();
  };
  EXPECT_TRUE(with(48, 128));
  EXPECT_FALSE(with(48, 63));
  EXPECT_FALSE(with(48, -64));
  EXPECT_FALSE(with(52, 0));
  EXPECT_FALSE(with(52, 65));
  EXPECT_FALSE(with(52, -1));
  EXPECT_FALSE(with(52, 39)) << "a token past the count";
  EXPECT_FALSE(with(56 + 4 * 40, 1));
}

TEST(SegmentFormat, RowsAreChecked) {
  const auto cipher = Cipher();
  for (bool encrypted : {false, true}) {
    const SegmentInfo info = Info(encrypted);
    std::vector<std::byte> rows(64 * 256, std::byte{5}), stored(rows);
    LayerChecks checks;
    if (encrypted) {
      checks.nonce = BlockCipher::NewNonce().value();
      checks.tags.resize(3);
      checks.tags[1] = cipher->Seal(checks.nonce, 1, {}, rows, stored.data()).value();
      EXPECT_NE(stored, rows);
    } else {
      checks.checksums = {0, RowsChecksum(rows), 0};
    }
    auto again = stored;
    EXPECT_TRUE(OpenLayer(info, checks, cipher.get(), 1, again));
    EXPECT_EQ(again, rows);
    again = stored;
    EXPECT_FALSE(OpenLayer(info, checks, cipher.get(), 2, again)) << "another layer";
    again = stored;
    again[1000] ^= std::byte{1};
    auto status = OpenLayer(info, checks, cipher.get(), 1, again);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kCorrupt);
    EXPECT_FALSE(OpenLayer(info, checks, cipher.get(), 3, again));
  }
}

TEST(SegmentFormat, IdentityTellsMetasApart) {
  const BlockMeta meta = MetaForTest(1);
  EXPECT_EQ(MetaIdentity(meta), MetaIdentity(MetaForTest(1)));
  for (int field = 0; field < 6; ++field) {
    BlockMeta other = meta;
    if (field == 0) other.key.low ^= 1;
    if (field == 1) other.parent.low ^= 1;
    if (field == 2) other.root.low ^= 1;
    if (field == 3) other.first_position += 64;
    if (field == 4) other.count = 63;
    if (field == 5) other.tokens[63] ^= 1;
    EXPECT_NE(MetaIdentity(meta), MetaIdentity(other)) << field;
  }
}

TEST(BlockCipher, KeyFiles) {
  const TempFolderForTest folder;
  const auto key_of = [&](const std::string& text) {
    std::ofstream(folder / "key", std::ios::binary | std::ios::trunc) << text;
    return BlockCipher::FromFile(Env::Default(), folder / "key");
  };
  auto raw = key_of(std::string(32, 'A'));
  std::string hex;
  for (int i = 0; i < 32; ++i) hex += "41";
  auto digits = key_of(hex + "\r\n");
  ASSERT_TRUE(raw);
  ASSERT_TRUE(digits);
  EXPECT_EQ((*raw)->key_id(), (*digits)->key_id());
  EXPECT_NE((*raw)->key_id(), (*key_of(std::string(32, 'B')))->key_id());
  for (const std::string& bad : {std::string(), std::string("\n"), std::string(31, 'A'), std::string(33, 'A'),
                                 hex + "4", std::string(64, 'g'), std::string(3000, 'a'), std::string(5000, 'a')}) {
    auto cipher = key_of(bad);
    ASSERT_FALSE(cipher) << bad.size();
    EXPECT_NE(cipher.error().message.find("key"), std::string::npos);
  }
  EXPECT_EQ(BlockCipher::FromFile(Env::Default(), folder / "none").error().code, ErrorCode::kNotFound);
}

// NIST's GCM specification, test case 14 (256-bit zero key, zero nonce, one block of zeros).
TEST(BlockCipher, IsAesGcm) {
  const auto cipher = std::move(*BlockCipher::FromKey({}));
  const std::array<std::byte, 16> zeros{};
  std::array<std::byte, 16> out;
  auto tag = cipher->Seal({}, 0, {}, zeros, out.data());
  ASSERT_TRUE(tag);
  const auto hex = [](std::span<const std::byte> bytes) {
    std::string text;
    for (std::byte b : bytes) text += fmt::format("{:02x}", std::to_integer<int>(b));
    return text;
  };
  EXPECT_EQ(hex(out), "cea7403d4d606b6e074ec5d3baf39d18");
  EXPECT_EQ(hex(*tag), "d0d1c8a799996bf0265b98b5d48ab919");
  std::array<std::byte, 16> back;
  ASSERT_TRUE(cipher->Open({}, 0, {}, *tag, out, back.data()));
  EXPECT_EQ(back, zeros);
  EXPECT_FALSE(cipher->Open({}, 1, {}, *tag, out, back.data())) << "another part";
  EXPECT_FALSE(cipher->Open({}, 0, zeros, *tag, out, back.data())) << "other associated data";
}

}  // namespace
}  // namespace fathom
