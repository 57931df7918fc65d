#include "format/check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/source_dir_for_test.h"
#include "format/gguf_writer.h"
#include "tensor/blocks.h"

namespace fathom {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

const std::string kGolden = std::string(SourceDirForTest()) + "/tests/golden/";

TEST(CheckModel, GoldenModelsAreWholeAndWhollyUsed) {
  for (const char* path : {"hf/v2lite", "hf/v2", "hf/v3", "hf/v3_negbias", "hf/kimi", "hf/moonlight", "hf/glm_flash",
                           "hf/llama", "hf/llama_tied", "hf/qwen2", "hf/v3_bf16", "hf/v3_fp8", "gguf/v3-mainline.gguf",
                           "gguf/v3-legacy.gguf", "gguf/v3-split-00001-of-00003.gguf", "gguf/v2lite-mainline.gguf",
                           "gguf/llama.gguf", "gguf/qwen2.gguf", "gguf/qwen2-version2.gguf"}) {
    auto model = ModelFile::Open(kGolden + path);
    ASSERT_TRUE(model) << model.error().message;
    int64_t reported = 0;
    const CheckReport report = CheckModel(**model, {.scan_values = true, .progress = [&](int64_t done, int64_t total) {
                                                      EXPECT_LE(done, total);
                                                      reported = done;
                                                      return true;
                                                    }});
    EXPECT_THAT(report.problems, IsEmpty()) << path;
    EXPECT_THAT(report.unused, IsEmpty()) << path;
    EXPECT_EQ(report.used_bytes, (*model)->tensor_bytes()) << path;
    EXPECT_TRUE(report.scanned);
    EXPECT_EQ(reported, (*model)->tensor_bytes());
    // The counted parameters are the stored ones.
    int64_t stored = 0;
    for (const TensorInfo& tensor : (*model)->tensors()) {
      if (tensor.name.ends_with("_scale_inv") || tensor.name == "rope_freqs.weight") continue;
      int64_t elements = 1;
      for (int64_t extent : tensor.shape) elements *= extent;
      stored += elements;
    }
    EXPECT_EQ(stored, CountParameters((*model)->config()).total) << path;
  }
}

struct Declared {
  std::string name;
  std::vector<int64_t> shape;
  DType dtype = DType::kF32;
};

// A little llama; each test changes the list of tensors.
std::vector<Declared> LittleLlama() {
  return {{"token_embd.weight", {5, 8}},    {"output_norm.weight", {8}},          {"blk.0.attn_norm.weight", {8}},
          {"blk.0.ffn_norm.weight", {8}},   {"blk.0.attn_q.weight", {8, 8}},      {"blk.0.attn_k.weight", {4, 8}},
          {"blk.0.attn_v.weight", {4, 8}},  {"blk.0.attn_output.weight", {8, 8}}, {"blk.0.ffn_gate.weight", {16, 8}},
          {"blk.0.ffn_up.weight", {16, 8}}, {"blk.0.ffn_down.weight", {8, 16}}};
}

class CheckModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "fathom_check_XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  std::unique_ptr<ModelFile> Model(const std::vector<Declared>& tensors, int32_t layers = 1) {
    auto writer = std::move(GgufWriter::Create(dir_ + "/m.gguf")).value();
    writer->AddMetadata("general.architecture", "llama");
    for (const auto& [key, value] : std::vector<std::pair<const char*, int32_t>>{{"block_count", layers},
                                                                                 {"context_length", 64},
                                                                                 {"embedding_length", 8},
                                                                                 {"feed_forward_length", 16},
                                                                                 {"attention.head_count", 2},
                                                                                 {"attention.head_count_kv", 1}}) {
      writer->AddMetadata(std::string("llama.") + key, value);
    }
    writer->AddMetadata("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    for (const Declared& tensor : tensors) writer->DeclareTensor(tensor.name, tensor.dtype, tensor.shape);
    EXPECT_TRUE(writer->WriteHeader());
    for (size_t i = 0; i < tensors.size(); ++i) {
      EXPECT_TRUE(writer->Append(std::vector<std::byte>(static_cast<size_t>(writer->TensorBytes(i)))));
    }
    EXPECT_TRUE(writer->Finish());
    auto model = ModelFile::Open(dir_ + "/m.gguf");
    EXPECT_TRUE(model) << model.error().message;
    return std::move(*model);
  }
  std::string dir_;
};

TEST_F(CheckModelTest, EveryMissingTensorIsNamed) {
  const auto all = LittleLlama();
  EXPECT_TRUE(CheckModel(*Model(all)).whole());
  for (size_t i = 1; i < all.size(); ++i) {  // without token_embd the file does not open
    auto tensors = all;
    tensors.erase(tensors.begin() + static_cast<ptrdiff_t>(i));
    const CheckReport report = CheckModel(*Model(tensors));
    ASSERT_EQ(report.problems.size(), 1u) << all[i].name;
    EXPECT_THAT(report.problems[0], HasSubstr(all[i].name));
    EXPECT_THAT(report.problems[0], HasSubstr("is missing"));
  }
}

TEST_F(CheckModelTest, ShapesAndTypesAreCompared) {
  auto tensors = LittleLlama();
  tensors[4].shape = {8, 4};
  tensors[8].dtype = DType::kI32;
  tensors[1].dtype = DType::kI8;
  const CheckReport report = CheckModel(*Model(tensors));
  EXPECT_THAT(report.problems,
              ElementsAre("tensor output_norm.weight has type i8, which cannot be computed with",
                          "tensor blk.0.attn_q.weight has shape [8, 4], the configuration asks for [8, 8]",
                          "tensor blk.0.ffn_gate.weight has type i32, which cannot be computed with"));
}

TEST_F(CheckModelTest, LeftoversAreListedButNoProblem) {
  auto tensors = LittleLlama();
  tensors.push_back({"blk.1.nextn.eh_proj.weight", {8, 16}});
  const CheckReport report = CheckModel(*Model(tensors));
  EXPECT_TRUE(report.whole());
  EXPECT_THAT(report.unused, ElementsAre("blk.1.nextn.eh_proj.weight"));
  EXPECT_EQ(report.unused_bytes, 512);
}

TEST_F(CheckModelTest, TheReportIsBounded) {
  const CheckReport report = CheckModel(*Model(LittleLlama(), 4000));
  EXPECT_EQ(report.problems.size(), CheckReport::kMaxProblems + 1);
  EXPECT_THAT(report.problems.back(), HasSubstr("stopped here"));
}

TEST_F(CheckModelTest, AScanCanBeEndedEarly) {
  const CheckReport report = CheckModel(
      *Model(LittleLlama()), {.scan_values = true, .progress = [](int64_t done, int64_t) { return done < 300; }});
  EXPECT_FALSE(report.scanned);
  EXPECT_TRUE(report.whole());
}

// Puts a bad value into every place of a tensor where one can be, and expects it found there.
TEST(FindNonFinite, SeesEveryPlace) {
  struct Case {
    DType dtype;
    std::vector<size_t> at;  // of f16, or of the whole number, in a block
  };
  const Case blocks[] = {{DType::kQ4_0, {0}},    {DType::kQ4_1, {0, 2}}, {DType::kQ5_0, {0}},
                         {DType::kQ5_1, {0, 2}}, {DType::kQ8_0, {0}},    {DType::kQ2_K, {80, 82}},
                         {DType::kQ3_K, {108}},  {DType::kQ4_K, {0, 2}}, {DType::kQ5_K, {0, 2}},
                         {DType::kQ6_K, {208}},  {DType::kIQ4_NL, {0}},  {DType::kIQ4_XS, {0}}};
  for (const Case& one : blocks) {
    const DTypeTraits& traits = TraitsOf(one.dtype);
    for (size_t at : one.at) {
      for (uint16_t bad : {uint16_t{0x7c00}, uint16_t{0xfc00}, uint16_t{0x7e01}}) {
        std::vector<std::byte> data(static_cast<size_t>(traits.block_bytes) * 3);
        TensorInfo tensor;
        tensor.dtype = one.dtype;
        tensor.data = data.data();
        tensor.bytes = static_cast<int64_t>(data.size());
        EXPECT_EQ(FindNonFinite(tensor), -1);
        std::memcpy(data.data() + static_cast<size_t>(traits.block_bytes) * 2 + at, &bad, 2);
        EXPECT_EQ(FindNonFinite(tensor), traits.block_size * 2) << traits.name << " at " << at;
      }
    }
  }
  const auto plain = [](DType dtype, std::vector<uint8_t> bad, int64_t expected) {
    std::vector<std::byte> data(10000 * bad.size());
    std::memcpy(data.data() + 9000 * bad.size(), bad.data(), bad.size());
    TensorInfo tensor;
    tensor.dtype = dtype;
    tensor.data = data.data();
    tensor.bytes = static_cast<int64_t>(data.size());
    EXPECT_EQ(FindNonFinite(tensor), expected) << DTypeName(dtype);
  };
  plain(DType::kF32, {0, 0, 0x80, 0x7f}, 9000);
  plain(DType::kF32, {1, 0, 0xc0, 0xff}, 9000);
  plain(DType::kF32, {0xff, 0xff, 0x7f, 0x7f}, -1);
  plain(DType::kF16, {0, 0x7c}, 9000);
  plain(DType::kF16, {0xff, 0x7b}, -1);
  plain(DType::kBF16, {0x80, 0x7f}, 9000);
  plain(DType::kBF16, {0x7f, 0x7f}, -1);
  plain(DType::kF64, {0, 0, 0, 0, 0, 0, 0xf0, 0x7f}, 9000);
  plain(DType::kF8_E4M3, {0x7f}, 9000);
  plain(DType::kF8_E4M3, {0xff}, 9000);
  plain(DType::kF8_E4M3, {0x7e}, -1);
  plain(DType::kI8, {0xff}, -1);
  std::vector<std::byte> mxfp4(17 * 4);
  mxfp4[17 * 3] = std::byte{0xff};
  TensorInfo tensor;
  tensor.dtype = DType::kMXFP4;
  tensor.data = mxfp4.data();
  tensor.bytes = static_cast<int64_t>(mxfp4.size());
  EXPECT_EQ(FindNonFinite(tensor), 96);
}

}  // namespace
}  // namespace fathom
