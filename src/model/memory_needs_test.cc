// What is foretold of a model's memory, against what it then takes.
#include "model/memory_needs.h"

#include <gtest/gtest.h>

#include <cctype>
#include <string>

#include "base/source_dir_for_test.h"
#include "model/model.h"

namespace fathom {
namespace {

class MemoryNeedsTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto file = ModelFile::Open((SourceDirForTest() + "/tests/golden/") + GetParam());
    ASSERT_TRUE(file) << file.error().message;
    file_ = std::move(*file);
    auto model = Model::Load(*file_, pool_);
    ASSERT_TRUE(model) << model.error().message;
    model_ = std::move(*model);
  }
  std::unique_ptr<ModelFile> file_;
  ThreadPool pool_{2};
  std::unique_ptr<Model> model_;
};
INSTANTIATE_TEST_SUITE_P(Models, MemoryNeedsTest,
                         testing::Values("gguf/v3-mainline.gguf", "gguf/v3-legacy.gguf", "gguf/v2lite-mainline.gguf",
                                         "gguf/llama.gguf", "gguf/qwen2.gguf", "hf/v2lite", "hf/v3", "hf/v3_fp8", "hf/v3_bf16"),
                         [](const auto& info) {
                           std::string name = info.param.substr(0, info.param.find('.'));
                           for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
                           return name;
                         });

TEST_P(MemoryNeedsTest, DerivedBytesAreThose) { EXPECT_EQ(DerivedBytes(*file_), model_->weights().derived_bytes); }

TEST_P(MemoryNeedsTest, ScratchIsNotLess) {
  KvPool kv(model_->kv_layout(DType::kBF16));
  const int64_t vocab = model_->config().vocab_size;
  for (const int rows : {1, 40, 300}) {
    // Two sequences, one of them long already.
    KvSequence a(kv), b(kv);
    std::vector<int32_t> tokens(static_cast<size_t>(rows));
    for (int i = 0; i < rows; ++i) tokens[i] = i * 7 % static_cast<int>(vocab);
    std::vector<float> logits(static_cast<size_t>(2 * rows) * static_cast<size_t>(vocab));
    const Segment first[] = {{.kv = &a, .tokens = tokens, .logits = rows}, {.kv = &b, .tokens = tokens, .logits = 1}};
    ASSERT_TRUE(model_->Forward(first, logits.data()));
    const int64_t foretold = ScratchBytes(model_->config(), {.rows = 2 * rows,
                                                             .logit_rows = rows + 1,
                                                             .sequences = 2,
                                                             .context = rows,
                                                             .threads = 2});
    EXPECT_GE(foretold, model_->scratch_bytes()) << rows;
  }
}

TEST(MemoryNeeds, GrowWithThePass) {
  auto file = ModelFile::Open(SourceDirForTest() + "/tests/golden/gguf/v3-mainline.gguf");
  ASSERT_TRUE(file);
  const ModelConfig& config = (*file)->config();
  int64_t before = 0;
  for (const int64_t rows : {1, 2, 64, 1024, 65536}) {
    const int64_t bytes = ScratchBytes(config, {.rows = rows, .threads = 2});
    EXPECT_GT(bytes, before);
    before = bytes;
  }
  EXPECT_GT(ScratchBytes(config, {.rows = 8, .context = 1 << 20}), ScratchBytes(config, {.rows = 8, .context = 1}));
  EXPECT_GT(ScratchBytes(config, {.rows = 8, .threads = 64}), ScratchBytes(config, {.rows = 8, .threads = 1}));
  EXPECT_GT(ScratchBytes(config, {.rows = 8, .sequences = 32}), ScratchBytes(config, {.rows = 8, .sequences = 1}));
}

}  // namespace
}  // namespace fathom
