#include "format/gguf_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <tuple>

#include "format/gguf.h"
#include "format/model_file.h"
#include "io/fault_env.h"

namespace fathom {
namespace {

using ::testing::HasSubstr;

class GgufWriterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "fathom_writer_XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    path_ = dir_ + "/out.gguf";
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  std::unique_ptr<GgufWriter> Writer() { return std::move(GgufWriter::Create(path_)).value(); }
  std::string dir_, path_;
};

std::vector<std::byte> Pattern(int64_t bytes, int seed) {
  std::vector<std::byte> out(static_cast<size_t>(bytes));
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>((i * 7 + seed) & 0xff);
  return out;
}

TEST_F(GgufWriterTest, WhatIsWrittenIsRead) {
  auto writer = Writer();
  writer->AddMetadata("general.architecture", "llama");
  writer->AddMetadata("u8", uint8_t{7});
  writer->AddMetadata("i8", int8_t{-7});
  writer->AddMetadata("u16", uint16_t{60000});
  writer->AddMetadata("i16", int16_t{-1});
  writer->AddMetadata("u32", uint32_t{4000000000u});
  writer->AddMetadata("i32", int32_t{-5});
  writer->AddMetadata("f32", 0.5f);
  writer->AddMetadata("yes", true);
  writer->AddMetadata("u64", uint64_t{1} << 50);
  writer->AddMetadata("i64", int64_t{-1} << 50);
  writer->AddMetadata("f64", 0.125);
  writer->AddMetadata("strings", std::vector<std::string>{"x", "yz", ""});
  writer->AddMetadata("ints", std::vector<int32_t>{1, -2});
  writer->AddMetadata("floats", std::vector<float>{1.5f});
  writer->AddMetadata("bools", std::vector<bool>{true, false});
  writer->DeclareTensor("a", DType::kF32, {2, 3});       // 24 bytes: padded
  writer->DeclareTensor("b", DType::kQ8_0, {4, 2, 64});  // 4·2·68 = 544 bytes, whole
  writer->DeclareTensor("c", DType::kF16, {5});
  ASSERT_TRUE(writer->WriteHeader());
  EXPECT_EQ(writer->TensorBytes(1), 544);
  ASSERT_TRUE(writer->WriteTensor(0, Pattern(24, 1)));
  const auto b = Pattern(544, 2);
  const auto c = Pattern(10, 3);
  ASSERT_TRUE(writer->Append(std::span(b).first(100)));
  std::vector<std::byte> rest(b.begin() + 100, b.end());
  rest.insert(rest.end(), c.begin(), c.begin() + 4);  // a piece over a tensor's end
  ASSERT_TRUE(writer->Append(rest));
  ASSERT_TRUE(writer->Append(std::span(c).subspan(4)));
  EXPECT_FALSE(std::filesystem::exists(path_));
  ASSERT_TRUE(writer->Finish());
  EXPECT_EQ(static_cast<int64_t>(std::filesystem::file_size(path_)), writer->file_bytes());

  auto mapped = Env::Default().Map(path_, {});
  ASSERT_TRUE(mapped);
  auto file = GgufFile::Parse((*mapped)->bytes());
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->String("general.architecture").value(), "llama");
  EXPECT_EQ(file->Int("u8").value(), 7);
  EXPECT_EQ(file->Int("i8").value(), -7);
  EXPECT_EQ(file->Int("u16").value(), 60000);
  EXPECT_EQ(file->Int("i16").value(), -1);
  EXPECT_EQ(file->Int("u32").value(), 4000000000);
  EXPECT_EQ(file->Int("i32").value(), -5);
  EXPECT_EQ(file->Int("u64").value(), int64_t{1} << 50);
  EXPECT_EQ(file->Int("i64").value(), int64_t{-1} << 50);
  EXPECT_EQ(file->Float("f32").value(), 0.5);
  EXPECT_EQ(file->Float("f64").value(), 0.125);
  EXPECT_EQ(file->Bool("yes").value(), true);
  EXPECT_EQ(file->Find("u8")->type, GgufType::kUint8);
  EXPECT_EQ(file->Find("yes")->type, GgufType::kBool);
  EXPECT_EQ(file->Strings("strings").value().value(), (std::vector<std::string>{"x", "yz", ""}));
  EXPECT_EQ(file->Ints("ints").value().value(), (std::vector<int64_t>{1, -2}));
  EXPECT_EQ(file->Ints("bools").value().value(), (std::vector<int64_t>{1, 0}));
  EXPECT_EQ(file->Find("floats")->element_type, GgufType::kFloat32);
  const auto tensor = [&](const char* name) {
    const GgufTensor* found = file->FindTensor(name);
    const auto bytes = (*mapped)->bytes().subspan(found->offset, static_cast<size_t>(found->bytes));
    return std::vector<std::byte>(bytes.begin(), bytes.end());
  };
  EXPECT_EQ(tensor("a"), Pattern(24, 1));
  EXPECT_EQ(tensor("b"), b);
  EXPECT_EQ(tensor("c"), c);
  EXPECT_EQ(file->FindTensor("b")->shape, (std::vector<int64_t>{4, 2, 64}));
  EXPECT_EQ(file->FindTensor("b")->dtype, DType::kQ8_0);
}

TEST_F(GgufWriterTest, TensorsBeginWhereTheAlignmentSays) {
  auto writer = Writer();
  writer->AddMetadata("general.architecture", "llama");
  writer->SetAlignment(4096);
  writer->DeclareTensor("a", DType::kF32, {2, 3});
  writer->DeclareTensor("b", DType::kF32, {1025});
  writer->DeclareTensor("c", DType::kF32, {1});
  ASSERT_TRUE(writer->WriteHeader());
  ASSERT_TRUE(writer->WriteTensor(0, Pattern(24, 1)));
  ASSERT_TRUE(writer->WriteTensor(1, Pattern(4100, 2)));
  ASSERT_TRUE(writer->WriteTensor(2, Pattern(4, 3)));
  const int64_t bytes = writer->file_bytes();
  ASSERT_TRUE(writer->Finish());
  EXPECT_EQ(bytes, static_cast<int64_t>(std::filesystem::file_size(path_)));
  const auto mapped = Env::Default().Map(path_, {});
  const auto file = GgufFile::Parse((*mapped)->bytes());
  ASSERT_TRUE(file) << file.error().message;
  for (const auto& [name, seed, size] : {std::tuple{"a", 1, 24}, {"b", 2, 4100}, {"c", 3, 4}}) {
    const GgufTensor* tensor = file->FindTensor(name);
    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(tensor->offset % 4096, 0u) << name;
    const auto data = (*mapped)->bytes().subspan(tensor->offset, static_cast<size_t>(size));
    EXPECT_EQ(std::vector<std::byte>(data.begin(), data.end()), Pattern(size, seed)) << name;
  }
}

TEST_F(GgufWriterTest, MistakesInDeclarationsAreReported) {
  const auto header = [this](auto declare) {
    auto writer = Writer();
    declare(*writer);
    auto status = writer->WriteHeader();
    return status ? std::string("no error") : status.error().message;
  };
  EXPECT_THAT(header([](GgufWriter& w) {
                w.AddMetadata("k", 1);
                w.AddMetadata("k", 2);
              }),
              HasSubstr("key k twice"));
  EXPECT_THAT(header([](GgufWriter& w) { w.AddMetadata("", 1); }), HasSubstr("empty metadata key"));
  EXPECT_THAT(header([](GgufWriter& w) { w.AddMetadata("general.alignment", 8u); }), HasSubstr("general.alignment"));
  for (const int64_t alignment : {0, 16, 48, 131072})
    EXPECT_THAT(header([=](GgufWriter& w) { w.SetAlignment(alignment); }), HasSubstr("power of two"));
  EXPECT_THAT(header([](GgufWriter& w) { w.DeclareTensor("t", DType::kQ4_K, {100}); }), HasSubstr("whole blocks"));
  EXPECT_THAT(header([](GgufWriter& w) { w.DeclareTensor("t", DType::kF32, {}); }), HasSubstr("0 dimensions"));
  EXPECT_THAT(header([](GgufWriter& w) { w.DeclareTensor("t", DType::kF32, {0}); }), HasSubstr("dimension 0 is 0"));
  EXPECT_THAT(header([](GgufWriter& w) { w.DeclareTensor("t", DType::kF32, {INT64_MAX, INT64_MAX, 2}); }),
              HasSubstr("overflow"));
  EXPECT_THAT(header([](GgufWriter& w) { w.DeclareTensor("t", DType::kF8_E4M3, {4}); }), HasSubstr("cannot stand"));
  EXPECT_THAT(header([](GgufWriter& w) {
                w.DeclareTensor("t", DType::kF32, {1});
                w.DeclareTensor("t", DType::kF32, {1});
              }),
              HasSubstr("tensor t twice"));
  EXPECT_TRUE(std::filesystem::is_empty(dir_));
}

TEST_F(GgufWriterTest, CallsOutOfOrderFailAndLeaveNothing) {
  {
    auto writer = Writer();
    writer->DeclareTensor("a", DType::kF32, {2});
    writer->DeclareTensor("b", DType::kF32, {2});
    EXPECT_FALSE(writer->Append(Pattern(8, 0)));
    EXPECT_FALSE(writer->Finish());
    ASSERT_TRUE(writer->WriteHeader());
    EXPECT_FALSE(writer->WriteHeader());
    EXPECT_FALSE(writer->WriteTensor(1, Pattern(8, 0)));
    EXPECT_FALSE(writer->WriteTensor(0, Pattern(4, 0)));
    ASSERT_TRUE(writer->WriteTensor(0, Pattern(8, 0)));
    EXPECT_THAT(writer->Finish().error().message, HasSubstr("finished at byte 0 of tensor b"));
    ASSERT_TRUE(writer->Append(Pattern(4, 0)));
    EXPECT_FALSE(writer->WriteTensor(1, Pattern(8, 0)));
    ASSERT_TRUE(writer->Append(Pattern(4, 0)));
    EXPECT_FALSE(writer->Append(Pattern(1, 0)));
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir_));
}

TEST_F(GgufWriterTest, AFullDiskLeavesNothing) {
  for (int64_t room : {0, 10, 100, 5000}) {
    FaultEnv env;
    env.faults.fail_write_after = room;
    auto writer = GgufWriter::Create(path_, env);
    ASSERT_TRUE(writer);
    (*writer)->DeclareTensor("a", DType::kF32, {100000});
    const auto write = [&]() -> Status {
      FATHOM_CHECK_OK((*writer)->WriteHeader());
      FATHOM_CHECK_OK((*writer)->WriteTensor(0, Pattern(400000, 0)));
      return (*writer)->Finish();
    };
    const Status status = write();
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kResource);
    writer->reset();
    EXPECT_TRUE(std::filesystem::is_empty(dir_)) << room;
  }
}

}  // namespace
}  // namespace fathom
