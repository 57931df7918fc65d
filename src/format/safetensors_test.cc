#include "format/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

namespace fathom {
namespace {

using ::testing::HasSubstr;

std::vector<std::byte> File(std::string_view header, size_t data_bytes, int64_t length_delta = 0) {
  const uint64_t length = header.size() + static_cast<uint64_t>(length_delta);
  std::vector<std::byte> out(8 + header.size() + data_bytes);
  std::memcpy(out.data(), &length, 8);
  std::memcpy(out.data() + 8, header.data(), header.size());
  for (size_t i = 0; i < data_bytes; ++i) out[8 + header.size() + i] = static_cast<std::byte>(i);
  return out;
}

Error ErrorOf(std::string_view header, size_t data_bytes = 24) {
  const auto bytes = File(header, data_bytes);
  auto file = SafetensorsFile::Parse(bytes);
  if (file) return {ErrorCode::kInternal, "parsed without error"};
  return file.error();
}

constexpr std::string_view kGood =
    R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[12,24]},)"
    R"("a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}   )";

TEST(Safetensors, ReadsTheDirectory) {
  const auto bytes = File(kGood, 24);
  auto file = SafetensorsFile::Parse(bytes);
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_EQ(file->tensors.size(), 2u);
  EXPECT_EQ(file->tensors[0].name, "b");
  EXPECT_EQ(file->tensors[0].dtype, DType::kBF16);
  EXPECT_EQ(file->tensors[0].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(file->tensors[0].bytes, 12);
  EXPECT_EQ(file->tensors[0].offset, 8 + kGood.size() + 12);
  EXPECT_EQ(file->metadata, (std::vector<std::pair<std::string, std::string>>{{"format", "pt"}}));
}

TEST(Safetensors, ScalarsEmptyTensorsAndNoTensors) {
  EXPECT_TRUE(SafetensorsFile::Parse(File("{}", 0)));
  const auto bytes = File(
      R"({"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"e":{"dtype":"F32","shape":[0,7],"data_offsets":[4,4]},)"
      R"("t":{"dtype":"I8","shape":[2],"data_offsets":[4,6]}})",
      6);
  auto file = SafetensorsFile::Parse(bytes);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_TRUE(file->tensors[0].shape.empty());
  EXPECT_EQ(file->tensors[0].bytes, 4);
  EXPECT_EQ(file->tensors[1].bytes, 0);
}

TEST(Safetensors, EveryDtypeByName) {
  const std::pair<const char*, DType> known[] = {
      {"F64", DType::kF64},   {"F32", DType::kF32}, {"F16", DType::kF16},
      {"BF16", DType::kBF16}, {"I64", DType::kI64}, {"I32", DType::kI32},
      {"I16", DType::kI16},   {"I8", DType::kI8},   {"F8_E4M3", DType::kF8_E4M3}};
  for (const auto& [name, dtype] : known) {
    const size_t size = static_cast<size_t>(TraitsOf(dtype).block_bytes);
    const auto bytes =
        File(fmt::format(R"({{"t":{{"dtype":"{}","shape":[2],"data_offsets":[0,{}]}}}})", name, 2 * size), 2 * size);
    auto file = SafetensorsFile::Parse(bytes);
    ASSERT_TRUE(file) << name << file.error().message;
    EXPECT_EQ(file->tensors[0].dtype, dtype);
  }
  for (const char* name : {"U8", "BOOL", "F8_E5M2", "f32", "C64", ""}) {
    const Error error = ErrorOf(fmt::format(R"({{"t":{{"dtype":"{}","shape":[2],"data_offsets":[0,2]}}}})", name), 2);
    EXPECT_EQ(error.code, ErrorCode::kUnsupported);
    EXPECT_THAT(error.message, HasSubstr("tensor t has dtype"));
  }
}

TEST(Safetensors, HeaderLengthIsBounded) {
  EXPECT_THAT(SafetensorsFile::Parse(File(kGood, 24, 1000)).error().message, HasSubstr("the header claims"));
  EXPECT_THAT(SafetensorsFile::Parse(File(kGood, 24, int64_t{1} << 40)).error().message, HasSubstr("is the limit"));
  EXPECT_THAT(SafetensorsFile::Parse(File(kGood, 24, -1000000)).error().message, HasSubstr("is the limit"));  // wraps
  EXPECT_THAT(SafetensorsFile::Parse(std::vector<std::byte>(7)).error().message, HasSubstr("too short"));
  EXPECT_THAT(SafetensorsFile::Parse(std::vector<std::byte>(8)).error().message, HasSubstr("does not begin"));
}

TEST(Safetensors, TheFormOfTheHeaderIsFixed) {
  const std::pair<const char*, const char*> wrong[] = {
      {"[]", "does not begin"},
      {"{", "not valid JSON"},
      {R"({"a")", "not valid JSON"},
      {R"({} x)", "not valid JSON"},
      {R"({"a":1})", "a number is not expected"},
      {R"({"a":null})", "null is not expected"},
      {R"({"a":"x"})", "a string is not expected"},
      {R"({"a":[1]})", "an array is not expected"},
      {R"({"a":{}})", "is missing"},
      {R"({"":{"dtype":"F32","shape":[6],"data_offsets":[0,24]}})", "name of 0 bytes"},
      {R"({"a":{"dtype":"F32","shape":[6],"data_offsets":[0,24]},"a":{"dtype":"F32","shape":[6],"data_offsets":[0,24]}})",
       "tensor a appears twice"},
      {R"({"a":{"dtype":"F32","dtype":"F32","shape":[6],"data_offsets":[0,24]}})", "dtype appears twice"},
      {R"({"a":{"dtype":"F32","shape":[6],"data_offsets":[0,24],"extra":1}})", "unknown field extra"},
      {R"({"a":{"dtype":"F32","shape":[[6]],"data_offsets":[0,24]}})", "an array is not expected"},
      {R"({"a":{"dtype":"F32","shape":[6.5],"data_offsets":[0,24]}})", "6.5 is not expected"},
      {R"({"a":{"dtype":"F32","shape":[-6],"data_offsets":[0,24]}})", "the number -6"},
      {R"({"a":{"dtype":"F32","shape":["6"],"data_offsets":[0,24]}})", "a string is not expected"},
      {R"({"a":{"dtype":"F32","shape":6,"data_offsets":[0,24]}})", "a number is not expected"},
      {R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,6],"data_offsets":[0,24]}})", "more than 8 dimensions"},
      {R"({"a":{"dtype":"F32","shape":[6],"data_offsets":[0]}})", "not a range"},
      {R"({"a":{"dtype":"F32","shape":[6],"data_offsets":[0,24,24]}})", "more than two"},
      {R"({"a":{"dtype":"F32","shape":[6],"data_offsets":[24,0]}})", "not a range"},
      {R"({"a":{"dtype":"F32","shape":[6],"data_offsets":[0,1e30]}})", "not expected"},
      {R"({"a":{"dtype":"F32","shape":[6],"data_offsets":[18446744073709551615,18446744073709551615]}})",
       "not a range"},
      {R"({"__metadata__":{"x":1}})", "a number is not expected"},
      {R"({"__metadata__":{"x":{}}})", "an object is not expected"},
      {R"({"__metadata__":"x"})", "a string is not expected"},
  };
  for (const auto& [header, message] : wrong) {
    const Error error = ErrorOf(header);
    EXPECT_EQ(error.code, ErrorCode::kCorrupt) << header;
    EXPECT_THAT(error.message, HasSubstr(message)) << header;
  }
}

TEST(Safetensors, ShapesMustFitTheirBytes) {
  const auto with = [](std::string_view shape, std::string_view offsets) {
    return ErrorOf(fmt::format(R"({{"a":{{"dtype":"F32","shape":{},"data_offsets":{}}}}})", shape, offsets)).message;
  };
  EXPECT_THAT(with("[7]", "[0,24]"), HasSubstr("span 24 bytes, its shape needs 28"));
  EXPECT_THAT(with("[4294967296,4294967296]", "[0,24]"), HasSubstr("overflows"));
  EXPECT_THAT(with("[0,4294967296,4294967296]", "[0,0]"), HasSubstr("overflows"));
  EXPECT_THAT(with("[4611686018427387904]", "[0,24]"), HasSubstr("more than can be counted"));
  EXPECT_THAT(with("[9223372036854775808]", "[0,24]"), HasSubstr("the extent"));
}

TEST(Safetensors, TensorsLieEndToEnd) {
  const auto two = [](int a, int b, int c, int d, size_t data) {
    return ErrorOf(
               fmt::format(
                   R"({{"a":{{"dtype":"I8","shape":[{}],"data_offsets":[{},{}]}},"b":{{"dtype":"I8","shape":[{}],"data_offsets":[{},{}]}}}})",
                   b - a, a, b, d - c, c, d),
               data)
        .message;
  };
  EXPECT_EQ(two(0, 12, 12, 24, 24), "parsed without error");
  EXPECT_THAT(two(0, 12, 10, 24, 24), HasSubstr("inside, before"));
  EXPECT_THAT(two(0, 12, 13, 24, 24), HasSubstr("after a gap"));
  EXPECT_THAT(two(1, 12, 12, 24, 24), HasSubstr("after a gap"));
  EXPECT_THAT(two(0, 12, 0, 12, 24), HasSubstr("inside, before"));
  EXPECT_THAT(two(0, 12, 12, 24, 23), HasSubstr("past the 23 bytes"));
  EXPECT_THAT(two(0, 12, 12, 24, 25), HasSubstr("25 bytes of data, but the tensors end at 24"));
}

TEST(Safetensors, DeepNestingCostsNothing) {
  const std::string deep = "{\"a\":" + std::string(1000000, '[');
  EXPECT_EQ(ErrorOf(deep).code, ErrorCode::kCorrupt);
  const std::string objects = [] {
    std::string text;
    for (int i = 0; i < 100000; ++i) text += "{\"a\":";
    return text;
  }();
  EXPECT_EQ(ErrorOf(objects).code, ErrorCode::kCorrupt);
}

TEST(Safetensors, TruncatedAtEveryByteAndEveryByteFlipped) {
  const auto bytes = File(kGood, 24);
  for (size_t length = 0; length < bytes.size(); ++length) {
    const std::vector<std::byte> cut(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(length));
    ASSERT_FALSE(SafetensorsFile::Parse(cut)) << length;
  }
  int errors = 0;
  for (size_t at = 0; at < 8 + kGood.size(); ++at) {
    for (int value = 0; value < 256; ++value) {
      auto copy = bytes;
      copy[at] = static_cast<std::byte>(value);
      auto file = SafetensorsFile::Parse(copy);
      if (!file) {
        ++errors;
        continue;
      }
      for (const auto& tensor : file->tensors)
        ASSERT_LE(tensor.offset + static_cast<uint64_t>(tensor.bytes), copy.size());
    }
  }
  EXPECT_GT(errors, 30000);
}

}  // namespace
}  // namespace fathom
