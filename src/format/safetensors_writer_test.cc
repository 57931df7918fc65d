#include "format/safetensors_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "format/safetensors.h"
#include "io/fault_env.h"

namespace fathom {
namespace {

using ::testing::HasSubstr;

class SafetensorsWriterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "fathom_safetensors_XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    path_ = dir_ + "/out.safetensors";
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  std::unique_ptr<SafetensorsWriter> Writer() { return std::move(SafetensorsWriter::Create(path_)).value(); }
  std::string Contents() const {
    std::ifstream in(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::string dir_, path_;
};

std::vector<std::byte> Pattern(int64_t bytes, int seed) {
  std::vector<std::byte> out(static_cast<size_t>(bytes));
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>((i * 7 + seed) & 0xff);
  return out;
}

// What WriteHeader says to one declared tensor.
std::string Refusal(std::unique_ptr<SafetensorsWriter> writer, std::string_view name, DType dtype,
                    std::vector<int64_t> shape) {
  writer->Declare(name, dtype, std::move(shape));
  const Status status = writer->WriteHeader();
  if (status) return "accepted";
  EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
  return status.error().message;
}

TEST_F(SafetensorsWriterTest, WhatIsWrittenIsRead) {
  const std::tuple<const char*, DType, std::vector<int64_t>, int64_t> tensors[] = {
      {"f64", DType::kF64, {3}, 24},        {"f32", DType::kF32, {2, 3}, 24}, {"f16", DType::kF16, {5}, 10},
      {"bf16", DType::kBF16, {1, 2, 3}, 12}, {"i64", DType::kI64, {1}, 8},     {"i32", DType::kI32, {}, 4},
      {"i16", DType::kI16, {3}, 6},         {"i8", DType::kI8, {7}, 7},       {"f8", DType::kF8_E4M3, {3, 3}, 9},
      {"empty", DType::kF32, {0, 4}, 0}};
  auto writer = Writer();
  writer->AddMetadata("format", "pt");
  writer->AddMetadata("a \"quoted\"\nkey", "\xE2\x9C\x93 \\");
  std::vector<std::byte> data;
  int64_t total = 0;
  for (const auto& [name, dtype, shape, bytes] : tensors) {
    writer->Declare(name, dtype, shape);
    total += bytes;
  }
  data = Pattern(total, 3);
  ASSERT_TRUE(writer->WriteHeader());
  // Pieces need not be tensors.
  ASSERT_TRUE(writer->Append(std::span(data).first(17)));
  EXPECT_FALSE(std::filesystem::exists(path_));  // not before Finish
  ASSERT_TRUE(writer->Append(std::span(data).subspan(17)));
  ASSERT_TRUE(writer->Finish());

  const std::string contents = Contents();
  const auto bytes = std::as_bytes(std::span(contents));
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, contents.data(), 8);
  EXPECT_EQ(header_bytes % 8, 0u);
  auto file = SafetensorsFile::Parse(bytes);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->metadata, (std::vector<std::pair<std::string, std::string>>{
                                {"format", "pt"}, {"a \"quoted\"\nkey", "\xE2\x9C\x93 \\"}}));
  ASSERT_EQ(file->tensors.size(), std::size(tensors));
  uint64_t offset = 8 + header_bytes;
  for (size_t i = 0; i < file->tensors.size(); ++i) {
    const auto& [name, dtype, shape, size] = tensors[i];
    EXPECT_EQ(file->tensors[i].name, name);
    EXPECT_EQ(file->tensors[i].dtype, dtype) << name;
    EXPECT_EQ(file->tensors[i].shape, shape) << name;
    EXPECT_EQ(file->tensors[i].bytes, size) << name;
    EXPECT_EQ(file->tensors[i].offset, offset) << name;
    offset += static_cast<uint64_t>(size);
  }
  EXPECT_EQ(std::memcmp(contents.data() + 8 + header_bytes, data.data(), data.size()), 0);
}

TEST_F(SafetensorsWriterTest, AFileWithoutTensorsIsOne) {
  auto writer = Writer();
  ASSERT_TRUE(writer->WriteHeader());
  ASSERT_TRUE(writer->Finish());
  EXPECT_EQ(Contents(), std::string("\x08\0\0\0\0\0\0\0{}      ", 16));
}

TEST_F(SafetensorsWriterTest, WhatCannotStandThereIsRefused) {
  EXPECT_EQ(Refusal(Writer(), "a", DType::kF32, {2}), "accepted");
  EXPECT_THAT(Refusal(Writer(), "", DType::kF32, {2}), HasSubstr("no name"));
  EXPECT_THAT(Refusal(Writer(), "__metadata__", DType::kF32, {2}), HasSubstr("no name"));
  EXPECT_THAT(Refusal(Writer(), std::string(65536, 'x'), DType::kF32, {2}), HasSubstr("no name"));
  EXPECT_THAT(Refusal(Writer(), "a", DType::kQ4_K, {256}), HasSubstr("a: safetensors has no type q4_k"));
  EXPECT_THAT(Refusal(Writer(), "a", static_cast<DType>(99), {2}), HasSubstr("no type of that number"));
  EXPECT_THAT(Refusal(Writer(), "a", DType::kF32, {-1}), HasSubstr("negative"));
  EXPECT_THAT(Refusal(Writer(), "a", DType::kF32, {int64_t{1} << 32, int64_t{1} << 32}), HasSubstr("overflows"));
  EXPECT_THAT(Refusal(Writer(), "a", DType::kF32, {0, int64_t{1} << 32, int64_t{1} << 32}), HasSubstr("overflows"));
  EXPECT_THAT(Refusal(Writer(), "a", DType::kF64, {int64_t{1} << 60}), HasSubstr("too large"));
  EXPECT_THAT(Refusal(Writer(), "a", DType::kF32, std::vector<int64_t>(9, 1)), HasSubstr("8 dimensions"));
  auto writer = Writer();
  writer->Declare("a", DType::kF32, {1});
  EXPECT_THAT(Refusal(std::move(writer), "a", DType::kF16, {1}), HasSubstr("a: a tensor twice"));
  writer = Writer();
  writer->AddMetadata("k", "1");
  writer->AddMetadata("k", "2");
  EXPECT_THAT(writer->WriteHeader().error().message, HasSubstr("k: a metadata key twice"));
}

TEST_F(SafetensorsWriterTest, TooManyOrTooFewBytesLeaveNoFile) {
  auto writer = Writer();
  writer->Declare("a", DType::kF32, {2});
  EXPECT_EQ(writer->Append(Pattern(1, 0)).error().code, ErrorCode::kInternal);
  ASSERT_TRUE(writer->WriteHeader());
  EXPECT_EQ(writer->WriteHeader().error().code, ErrorCode::kInternal);
  EXPECT_THAT(writer->Append(Pattern(9, 0)).error().message, HasSubstr("9 more bytes after 0 of 8"));
  ASSERT_TRUE(writer->Append(Pattern(7, 0)));
  EXPECT_THAT(writer->Finish().error().message, HasSubstr("after 7 of 8 bytes"));
  writer.reset();
  EXPECT_TRUE(std::filesystem::is_empty(dir_));
}

TEST_F(SafetensorsWriterTest, AFullDiskLeavesTheOldFile) {
  {
    std::ofstream(path_) << "old";
  }
  FaultEnv env;
  env.faults.fail_write_after = 50;
  auto writer = std::move(SafetensorsWriter::Create(path_, env)).value();
  writer->Declare("a", DType::kI8, {1000});
  ASSERT_TRUE(writer->WriteHeader());
  ASSERT_TRUE(writer->Append(Pattern(1000, 0)));  // buffered
  EXPECT_EQ(writer->Finish().error().code, ErrorCode::kResource);
  writer.reset();
  EXPECT_EQ(Contents(), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir_), {}), 1);
}

}  // namespace
}  // namespace fathom
