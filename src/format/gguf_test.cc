#include "format/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "format/gguf_builder_for_test.h"

namespace fathom {
namespace {

using testing::Bytes;
using testing::GgufBytes;
using ::testing::HasSubstr;

Error ErrorOf(const std::vector<std::byte>& bytes) {
  auto file = GgufFile::Parse(bytes);
  if (file) return {ErrorCode::kInternal, "parsed without error"};
  return file.error();
}

// One of every value type, a nested array, two tensors.
GgufBytes Sample() {
  GgufBytes bytes;
  bytes.Scalar<uint8_t>("u8", 0, 200).Scalar<int8_t>("i8", 1, -5).Scalar<uint16_t>("u16", 2, 60000);
  bytes.Scalar<int16_t>("i16", 3, -300).U32("u32", 4000000000u).Scalar<int32_t>("i32", 5, -7).F32("f32", 1.5f);
  bytes.Bool("yes", 1).Text("text", "hello").U64("u64", 1ull << 40).Scalar<int64_t>("i64", 11, -(1ll << 40));
  bytes.Scalar<double>("f64", 12, 0.25).Texts("words", {"a", "", "ccc"}).I32s("numbers", {1, -2, 3});
  Bytes nested;
  nested.Number<uint32_t>(9).Number<uint32_t>(9).Number<uint64_t>(2);
  nested.Number<uint32_t>(4).Number<uint64_t>(1).Number<uint32_t>(77);
  nested.Number<uint32_t>(8).Number<uint64_t>(1).String("in");
  bytes.RawEntry("nested", nested);
  bytes.NextF32("first", {3, 2}).NextF32("second", {8});
  return bytes;
}

TEST(Gguf, ReadsEveryValueType) {
  const auto bytes = Sample().Build();
  auto file = GgufFile::Parse(bytes);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->version(), 3u);
  EXPECT_EQ(file->Int("u8").value(), 200);
  EXPECT_EQ(file->Int("i8").value(), -5);
  EXPECT_EQ(file->Int("u16").value(), 60000);
  EXPECT_EQ(file->Int("i16").value(), -300);
  EXPECT_EQ(file->Int("u32").value(), 4000000000);
  EXPECT_EQ(file->Int("i32").value(), -7);
  EXPECT_EQ(file->Int("u64").value(), 1ll << 40);
  EXPECT_EQ(file->Int("i64").value(), -(1ll << 40));
  EXPECT_EQ(file->Float("f32").value(), 1.5);
  EXPECT_EQ(file->Float("f64").value(), 0.25);
  EXPECT_EQ(file->Float("i32").value(), -7.0);
  EXPECT_EQ(file->Bool("yes").value(), true);
  EXPECT_EQ(file->String("text").value(), "hello");
  EXPECT_EQ(file->Strings("words").value().value(), (std::vector<std::string>{"a", "", "ccc"}));
  EXPECT_EQ(file->Ints("numbers").value().value(), (std::vector<int64_t>{1, -2, 3}));
  EXPECT_EQ(file->ArrayCount("nested").value(), 2u);
  EXPECT_EQ(file->Int("absent").value(), std::nullopt);
  EXPECT_EQ(file->entries().size(), 15u);
  EXPECT_EQ(file->entries()[0].key, "u8");
}

TEST(Gguf, PlacesTensors) {
  const auto bytes = Sample().Build();
  auto file = GgufFile::Parse(bytes);
  ASSERT_TRUE(file);
  ASSERT_EQ(file->tensors().size(), 2u);
  const GgufTensor* first = file->FindTensor("first");
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(first->shape, (std::vector<int64_t>{2, 3}));  // outermost first
  EXPECT_EQ(first->bytes, 24);
  EXPECT_EQ(first->offset, file->data_offset());
  EXPECT_EQ(file->FindTensor("second")->offset, file->data_offset() + 32);
  EXPECT_EQ(file->data_offset() % 32, 0u);
  EXPECT_EQ(file->FindTensor("third"), nullptr);
}

TEST(Gguf, WrongTypesAreErrorsNamingTheKey) {
  const auto bytes = Sample().Build();
  auto file = GgufFile::Parse(bytes);
  ASSERT_TRUE(file);
  EXPECT_THAT(file->Int("text").error().message, HasSubstr("metadata text is string; an integer"));
  EXPECT_THAT(file->String("u8").error().message, HasSubstr("metadata u8"));
  EXPECT_THAT(file->Float("words").error().message, HasSubstr("array of string"));
  EXPECT_FALSE(file->Strings("numbers"));
  EXPECT_FALSE(file->Ints("words"));
  EXPECT_FALSE(file->Bool("u8"));
  EXPECT_FALSE(file->ArrayCount("u8"));
  const auto big = GgufBytes().U64("n", std::numeric_limits<uint64_t>::max()).F32("nan", NAN).Build();
  auto odd = GgufFile::Parse(big);
  ASSERT_TRUE(odd);
  EXPECT_FALSE(odd->Int("n"));
  EXPECT_FALSE(odd->Float("nan"));
}

TEST(Gguf, DescribesValuesForPeople) {
  const auto bytes = Sample().Text("evil", "a\x1b[31m\xff").I32s("long", {1, 2, 3, 4, 5, 6, 7}).Build();
  auto file = GgufFile::Parse(bytes);
  ASSERT_TRUE(file);
  EXPECT_EQ(DescribeGgufValue(*file->Find("text")), "\"hello\"");
  EXPECT_EQ(DescribeGgufValue(*file->Find("words")), "[3 × string] \"a\", \"\", \"ccc\"");
  EXPECT_EQ(DescribeGgufValue(*file->Find("long")), "[7 × i32] 1, 2, 3, 4, 5, 6, …");
  EXPECT_EQ(DescribeGgufValue(*file->Find("evil")), "\"a?[31m?\"");  // nothing that a terminal obeys
  EXPECT_EQ(DescribeGgufValue(*file->Find("yes")), "true");
  EXPECT_EQ(DescribeGgufValue(*file->Find("nested")), "[2 × array]");
}

TEST(Gguf, VersionsAndEndianness) {
  GgufBytes two;
  two.version = 2;
  EXPECT_TRUE(GgufFile::Parse(two.Build()));
  for (uint32_t version : {0u, 1u, 4u, 100u}) {
    GgufBytes bytes;
    bytes.version = version;
    EXPECT_EQ(ErrorOf(bytes.Build()).code, ErrorCode::kUnsupported) << version;
  }
  GgufBytes big;
  big.version = 0x03000000;
  EXPECT_THAT(ErrorOf(big.Build()).message, HasSubstr("big-endian"));
  EXPECT_THAT(ErrorOf(Bytes().Raw("GGML").Number(3).Zeros(16).data()).message, HasSubstr("not a GGUF file"));
  EXPECT_THAT(ErrorOf({}).message, HasSubstr("too short"));
}

TEST(Gguf, CountsAreBoundedByTheBytesThere) {
  for (uint64_t count : {uint64_t{1000}, uint64_t{1} << 40, std::numeric_limits<uint64_t>::max()}) {
    GgufBytes entries;
    entries.entry_count_delta = count;
    EXPECT_THAT(ErrorOf(entries.Build()).message, HasSubstr("metadata_count"));
    GgufBytes tensors;
    tensors.tensor_count_delta = count;
    EXPECT_THAT(ErrorOf(tensors.Build()).message, HasSubstr("tensor_count"));
  }
}

// A file can be large enough for counts that no model has: a sparse 200 MB of zeros costs its maker nothing.
TEST(Gguf, CountsAreBoundedBySenseAsWell) {
  GgufBytes entries;
  entries.entry_count_delta = 100001;
  EXPECT_THAT(ErrorOf(entries.Build()).message, HasSubstr("at most 100000"));
  Bytes many;
  const uint64_t count = (uint64_t{1} << 24) + 1;
  many.Number<uint32_t>(9).Number<uint32_t>(8).Number(count).Zeros(count * 8);  // empty strings
  const auto bytes = GgufBytes().RawEntry("tokens", many).Build();
  auto file = GgufFile::Parse(bytes);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->Strings("tokens").error().code, ErrorCode::kResource);
  EXPECT_EQ(file->ArrayCount("tokens").value(), count);
}

TEST(Gguf, LengthsInsideValuesAreBounded) {
  const std::vector<uint64_t> lengths = {100, uint64_t{1} << 32, (uint64_t{1} << 61) + 1, (uint64_t{1} << 63),
                                         std::numeric_limits<uint64_t>::max()};
  for (uint64_t length : lengths) {
    EXPECT_THAT(
        ErrorOf(GgufBytes().RawEntry("k", Bytes().Number<uint32_t>(8).Number(length).Zeros(20)).Build()).message,
        HasSubstr("metadata k"));
    for (uint32_t element : {0u, 4u, 8u, 9u, 12u}) {
      Bytes array;
      array.Number<uint32_t>(9).Number(element).Number(length).Zeros(30);
      const Error error = ErrorOf(GgufBytes().RawEntry("k", array).Build());
      EXPECT_EQ(error.code, ErrorCode::kCorrupt) << element << " " << length;
      EXPECT_THAT(error.message, HasSubstr("metadata k"));
    }
    Bytes strings;
    strings.Number<uint32_t>(9).Number<uint32_t>(8).Number<uint64_t>(1).Number(length).Zeros(20);
    EXPECT_THAT(ErrorOf(GgufBytes().RawEntry("k", strings).Build()).message, HasSubstr("metadata k"));
  }
}

TEST(Gguf, DeepNestingIsRefusedBeforeTheStackIs) {
  const auto nested = [](int depth) {
    Bytes value;
    value.Number<uint32_t>(9);
    for (int i = 1; i < depth; ++i) value.Number<uint32_t>(9).Number<uint64_t>(1);
    value.Number<uint32_t>(0).Number<uint64_t>(1).Number<uint8_t>(1);
    return GgufBytes().RawEntry("deep", value).Build();
  };
  EXPECT_TRUE(GgufFile::Parse(nested(4)));
  EXPECT_THAT(ErrorOf(nested(5)).message, HasSubstr("nested more than 4 deep"));
  EXPECT_THAT(ErrorOf(nested(200000)).message, HasSubstr("nested"));
}

TEST(Gguf, UnknownTypesBadBoolsAndEmptyOrDoubleNames) {
  EXPECT_THAT(ErrorOf(GgufBytes().RawEntry("k", Bytes().Number<uint32_t>(13).Zeros(8)).Build()).message,
              HasSubstr("unknown value type 13"));
  EXPECT_THAT(
      ErrorOf(GgufBytes().RawEntry("k", Bytes().Number<uint32_t>(9).Number<uint32_t>(99).Zeros(8)).Build()).message,
      HasSubstr("unknown array element type 99"));
  EXPECT_THAT(ErrorOf(GgufBytes().Bool("b", 2).Build()).message, HasSubstr("metadata b: a bool"));
  EXPECT_THAT(ErrorOf(GgufBytes().U32("", 2).Build()).message, HasSubstr("key of 0 bytes"));
  EXPECT_THAT(ErrorOf(GgufBytes().U32("twice", 2).U32("twice", 2).Build()).message, HasSubstr("twice appears twice"));
  EXPECT_THAT(ErrorOf(GgufBytes().NextF32("", {1}).Build()).message, HasSubstr("name of 0 bytes"));
  EXPECT_THAT(ErrorOf(GgufBytes().NextF32("t", {1}).NextF32("t", {1}).Build()).message,
              HasSubstr("tensor t appears twice"));
}

TEST(Gguf, AlignmentIsAPowerOfTwo) {
  for (uint32_t alignment : {8u, 64u, 65536u}) {
    GgufBytes bytes;
    bytes.alignment = alignment;
    bytes.U32("general.alignment", alignment).NextF32("a", {1}).NextF32("b", {1});
    const auto built = bytes.Build();
    auto file = GgufFile::Parse(built);
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_EQ(file->FindTensor("b")->offset % alignment, 0u);
  }
  for (uint32_t alignment : {0u, 1u, 4u, 24u, 131072u, 0xffffffffu}) {
    EXPECT_THAT(ErrorOf(GgufBytes().U32("general.alignment", alignment).Build()).message,
                HasSubstr("general.alignment is"));
  }
  EXPECT_THAT(ErrorOf(GgufBytes().Text("general.alignment", "32").Build()).message, HasSubstr("general.alignment"));
}

TEST(Gguf, DimensionsAreChecked) {
  const auto with = [](const std::vector<uint64_t>& ne, uint32_t type = 0) {
    GgufBytes bytes;
    bytes.Tensor("t", ne, type, 0);
    bytes.data_bytes = 4096;
    return bytes.Build();
  };
  EXPECT_TRUE(GgufFile::Parse(with({1, 2, 3, 4})));
  EXPECT_THAT(ErrorOf(with({})).message, HasSubstr("tensor t has 0 dimensions"));
  EXPECT_THAT(ErrorOf(with({1, 1, 1, 1, 1})).message, HasSubstr("5 dimensions"));
  EXPECT_THAT(ErrorOf(with({4, 0})).message, HasSubstr("dimension 1 is 0"));
  EXPECT_THAT(ErrorOf(with({uint64_t{1} << 63})).message, HasSubstr("dimension 0"));
  EXPECT_THAT(ErrorOf(with({1, uint64_t{1} << 32, uint64_t{1} << 32})).message, HasSubstr("overflow"));
  EXPECT_THAT(ErrorOf(with({uint64_t{1} << 40, uint64_t{1} << 30})).message, HasSubstr("overflow"));
  EXPECT_THAT(ErrorOf(with({uint64_t{1} << 62})).message, HasSubstr("not whole blocks"));  // bytes of a row overflow
  EXPECT_THAT(ErrorOf(with({33}, 8)).message, HasSubstr("not whole blocks of 32 (q8_0)"));
  EXPECT_THAT(ErrorOf(with({2048})).message, HasSubstr("ends past the end"));
}

TEST(Gguf, TensorTypesThatFathomLacksAreNamed) {
  const auto with = [](uint32_t type) {
    GgufBytes bytes;
    bytes.Tensor("t", {256}, type, 0);
    bytes.data_bytes = 4096;
    return bytes.Build();
  };
  EXPECT_EQ(ErrorOf(with(16)).code, ErrorCode::kUnsupported);
  EXPECT_THAT(ErrorOf(with(16)).message, HasSubstr("iq2_xxs"));
  EXPECT_THAT(ErrorOf(with(4)).message, HasSubstr("number 4"));
  EXPECT_EQ(ErrorOf(with(1000)).code, ErrorCode::kUnsupported);  // fathom's own number for FP8 is no file's
  EXPECT_EQ(ErrorOf(with(0xffffffff)).code, ErrorCode::kUnsupported);
}

TEST(Gguf, OffsetsAreAlignedInRangeAndApart) {
  const auto with = [](uint64_t offset_b) {
    GgufBytes bytes;
    bytes.Tensor("a", {16}, 0, 0).Tensor("b", {8}, 0, offset_b);
    bytes.data_bytes = 128;
    return bytes.Build();
  };
  EXPECT_TRUE(GgufFile::Parse(with(64)));
  EXPECT_TRUE(GgufFile::Parse(with(96)));
  EXPECT_THAT(ErrorOf(with(65)).message, HasSubstr("not a multiple of the alignment"));
  EXPECT_THAT(ErrorOf(with(32)).message, HasSubstr("tensors a and b overlap"));
  EXPECT_THAT(ErrorOf(with(0)).message, HasSubstr("overlap"));
  EXPECT_THAT(ErrorOf(with(128)).message, HasSubstr("ends past the end"));
  EXPECT_THAT(ErrorOf(with(std::numeric_limits<uint64_t>::max() - 31)).message, HasSubstr("ends past the end"));
  EXPECT_THAT(ErrorOf(with(uint64_t{1} << 63)).message, HasSubstr("ends past the end"));
}

// A valid file cut at every byte: always an error (the last tensor reaches to the end), never a crash; under ASan the
// copy is exactly as long as the file pretends.
TEST(Gguf, TruncatedAtEveryByte) {
  auto sample = Sample();
  sample.data_bytes = 32 + 32;  // "second" ends with the file
  const auto bytes = sample.Build();
  ASSERT_TRUE(GgufFile::Parse(bytes));
  for (size_t length = 0; length < bytes.size(); ++length) {
    const std::vector<std::byte> cut(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(length));
    auto file = GgufFile::Parse(cut);
    ASSERT_FALSE(file) << "cut at " << length;
    ASSERT_FALSE(file.error().message.empty());
  }
}

// Every byte flipped in every bit, and set to extremes: an error or a file whose parts can all be read.
TEST(Gguf, EveryByteFlipped) {
  const auto bytes = Sample().Build();
  int errors = 0;
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (int change = 0; change < 11; ++change) {
      auto copy = bytes;
      if (change < 8) copy[at] ^= std::byte(1 << change);
      if (change == 8) copy[at] = std::byte{0};
      if (change == 9) copy[at] = std::byte{0xff};
      if (change == 10) copy[at] = std::byte{0x7f};
      auto file = GgufFile::Parse(copy);
      if (!file) {
        ++errors;
        continue;
      }
      uint64_t sum = 0;
      for (const GgufEntry& entry : file->entries()) {
        sum += DescribeGgufValue(entry.value).size();
        (void)file->Strings(entry.key);
        (void)file->Ints(entry.key);
        (void)file->Float(entry.key);
      }
      for (const GgufTensor& tensor : file->tensors()) {
        for (int64_t i = 0; i < tensor.bytes; ++i) sum += std::to_integer<uint64_t>(copy[tensor.offset + i]);
      }
      ASSERT_GT(sum, 0u);
    }
  }
  EXPECT_GT(errors, 1000);
}

}  // namespace
}  // namespace fathom
