#include "format/model_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/source_dir_for_test.h"
#include "format/gguf_builder_for_test.h"
#include "format/gguf_model.h"
#include "io/fault_env.h"

namespace fathom {
namespace {

using testing::GgufBytes;
using ::testing::HasSubstr;

class ModelFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "fathom_format_XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  std::string Put(const std::string& name, const std::vector<std::byte>& bytes) const {
    const std::string path = dir_ + "/" + name;
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return path;
  }
  std::string dir_;
};

GgufBytes TinyLlamaMetadata() {
  GgufBytes bytes;
  bytes.Text("general.architecture", "llama").U32("llama.block_count", 1).U32("llama.context_length", 128);
  bytes.U32("llama.embedding_length", 8).U32("llama.feed_forward_length", 16).U32("llama.attention.head_count", 2);
  bytes.F32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  bytes.Text("tokenizer.ggml.model", "gpt2").Texts("tokenizer.ggml.tokens", {"a", "b", "c"});
  return bytes;
}

GgufBytes TinyLlama() {
  GgufBytes bytes = TinyLlamaMetadata();
  bytes.NextF32("token_embd.weight", {8, 3}).NextF32("output_norm.weight", {8});
  bytes.NextF32("rope_freqs.weight", {2});
  return bytes;
}

TEST_F(ModelFileTest, OpensAGguf) {
  auto bytes = TinyLlama().Build();
  // rope_freqs lies 128 bytes (96 and 32 of the two before it) into the data section, whose end is the file's end.
  const float freqs[2] = {1.0f, 8.0f};
  std::memcpy(bytes.data() + bytes.size() - 32, freqs, sizeof(freqs));
  const std::string path = Put("tiny.gguf", bytes);
  auto model = ModelFile::Open(path);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ((*model)->format(), ModelFormat::kGguf);
  EXPECT_EQ((*model)->config().hidden_size, 8);
  EXPECT_EQ((*model)->config().vocab_size, 3);
  EXPECT_TRUE((*model)->config().tie_word_embeddings);
  EXPECT_EQ((*model)->config().rope.freq_factors, (std::vector<float>{1.0f, 8.0f}));
  ASSERT_EQ((*model)->tensors().size(), 3u);
  const TensorInfo* table = (*model)->Find("token_embd.weight");
  ASSERT_NE(table, nullptr);
  EXPECT_EQ(table->shape, (std::vector<int64_t>{3, 8}));
  EXPECT_EQ(table->bytes, 96);
  EXPECT_EQ(std::memcmp(table->data, bytes.data() + table->offset, 96), 0);
  EXPECT_EQ((*model)->Find("nothing"), nullptr);
  EXPECT_EQ((*model)->tensor_bytes(), 96 + 32 + 8);
  EXPECT_EQ((*model)->tokenizer_source().tokens.size(), 3u);
  EXPECT_EQ((*model)->files().size(), 1u);
  const auto metadata = (*model)->Metadata();
  ASSERT_FALSE(metadata.empty());
  EXPECT_EQ(metadata[0], (std::pair<std::string, std::string>("general.architecture", "\"llama\"")));
}

TEST_F(ModelFileTest, AShrunkFileIsNoticedAndAdviceIsTaken) {
  const std::string path = Put("tiny.gguf", TinyLlamaMetadata().NextF32("token_embd.weight", {8, 3}).Build());
  auto model = ModelFile::Open(path);
  ASSERT_TRUE(model) << model.error().message;
  for (const TensorInfo& tensor : (*model)->tensors()) (*model)->Advise(tensor, MapAdvice::kPopulate);
  EXPECT_TRUE((*model)->CheckUnchanged());
  std::filesystem::resize_file(path, 100);
  const Status status = (*model)->CheckUnchanged();
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, HasSubstr("tiny.gguf: the file shrank"));
}

TEST_F(ModelFileTest, ErrorsNameTheFile) {
  EXPECT_EQ(ModelFile::Open("").error().code, ErrorCode::kInvalidArgument);
  const auto missing = ModelFile::Open(dir_ + "/absent.gguf");
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(missing.error().message, HasSubstr("absent.gguf"));
  const std::string vocabulary = Put("vocab.gguf", TinyLlamaMetadata().Build());
  EXPECT_THAT(ModelFile::Open(vocabulary).error().message, HasSubstr("a vocabulary, not a model"));
  EXPECT_THAT(ModelFile::Open(vocabulary).error().message, HasSubstr("vocab.gguf"));
  auto tokenizer = OpenTokenizer(vocabulary);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->source.tokens.size(), 3u);
  const std::string empty = Put("empty.gguf", {});
  EXPECT_THAT(ModelFile::Open(empty).error().message, HasSubstr("empty.gguf"));
}

std::vector<std::string> PutSplit(
    const std::function<std::string(const std::string&, const std::vector<std::byte>&)>& put, int parts,
    int stated_tensors, int no_delta = 0) {
  std::vector<std::string> paths;
  for (int i = 0; i < parts; ++i) {
    GgufBytes bytes = i == 0 ? TinyLlamaMetadata() : GgufBytes();
    bytes.Scalar<uint16_t>("split.no", 2, static_cast<uint16_t>(i + no_delta));
    bytes.Scalar<uint16_t>("split.count", 2, static_cast<uint16_t>(parts));
    bytes.Scalar<int32_t>("split.tensors.count", 5, stated_tensors);
    if (i == 1) bytes.NextF32("token_embd.weight", {8, 3});
    if (i == 2) bytes.NextF32("output_norm.weight", {8}).NextF32("output.weight", {8, 3});
    paths.push_back(put(fmt::format("m-{:05}-of-{:05}.gguf", i + 1, parts), bytes.Build()));
  }
  return paths;
}

TEST_F(ModelFileTest, OpensASplitModelFromAnyPart) {
  const auto put = [this](const std::string& name, const std::vector<std::byte>& bytes) { return Put(name, bytes); };
  const auto paths = PutSplit(put, 3, 3);
  for (const std::string& path : paths) {
    auto model = ModelFile::Open(path);
    ASSERT_TRUE(model) << model.error().message;
    EXPECT_EQ((*model)->tensors().size(), 3u);
    EXPECT_EQ((*model)->Find("token_embd.weight")->file, 1);
    EXPECT_EQ((*model)->Find("output.weight")->file, 2);
    EXPECT_FALSE((*model)->config().tie_word_embeddings);
    EXPECT_EQ(std::vector<std::string>((*model)->files().begin(), (*model)->files().end()), paths);
    EXPECT_EQ(OpenTokenizer(path)->source.tokens.size(), 3u);
  }
  std::filesystem::remove(paths[1]);
  const auto missing = ModelFile::Open(paths[2]);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(missing.error().message, HasSubstr("m-00002-of-00003.gguf: part 2 of 3 is missing"));
}

TEST_F(ModelFileTest, SplitKeysMustAgree) {
  const auto put = [this](const std::string& name, const std::vector<std::byte>& bytes) { return Put(name, bytes); };
  auto paths = PutSplit(put, 3, 7);
  EXPECT_THAT(ModelFile::Open(paths[0]).error().message, HasSubstr("split.tensors.count is 7"));
  paths = PutSplit(put, 3, 3, 1);
  EXPECT_THAT(ModelFile::Open(paths[0]).error().message, HasSubstr("split.no is 1"));
  GgufBytes repeated;
  repeated.Scalar<uint16_t>("split.no", 2, 2).Scalar<uint16_t>("split.count", 2, 3);
  repeated.NextF32("token_embd.weight", {8, 3});
  paths = PutSplit(put, 3, 2);
  Put("m-00003-of-00003.gguf", repeated.Build());
  EXPECT_THAT(ModelFile::Open(paths[0]).error().message, HasSubstr("token_embd.weight is also in an earlier part"));
  Put("m-00003-of-00003.gguf", GgufBytes().Build());
  EXPECT_THAT(ModelFile::Open(paths[0]).error().message, HasSubstr("has no split.no"));
  std::filesystem::rename(paths[0], dir_ + "/renamed.gguf");
  EXPECT_THAT(ModelFile::Open(dir_ + "/renamed.gguf").error().message, HasSubstr("one of 3 parts"));
}

TEST(GgufParts, NamesOfParts) {
  EXPECT_EQ(
      GgufPartPaths("d/x-00002-of-00003.gguf"),
      (std::vector<std::string>{"d/x-00001-of-00003.gguf", "d/x-00002-of-00003.gguf", "d/x-00003-of-00003.gguf"}));
  for (const char* single : {"x.gguf", "x-00004-of-00003.gguf", "x-00000-of-00003.gguf", "x-0001-of-0003.gguf",
                             "x-00001-of-99999.gguf", "", "-of-"}) {
    EXPECT_EQ(GgufPartPaths(single), (std::vector<std::string>{single}));
  }
}

TEST_F(ModelFileTest, FaultsBelowAreReported) {
  const std::string path = Put("tiny.gguf", TinyLlama().Build());
  FaultEnv env;
  env.faults.fail_map = true;
  EXPECT_EQ(ModelFile::Open(path, env).error().code, ErrorCode::kIo);
  env.faults.fail_map = false;
  env.faults.map_truncate = 200;
  EXPECT_EQ(ModelFile::Open(path, env).error().code, ErrorCode::kCorrupt);
}

std::string SharedData() {
  if (const char* set = std::getenv("FATHOM_SHARED_DATA")) return set;
  return std::string(SourceDirForTest()) + "/../shared/data";
}

TEST(RealVocabularies, AreReadWhole) {
  const std::string dir = SharedData() + "/tokenizers/llamacpp_vocab/";
  if (!std::filesystem::exists(dir)) GTEST_SKIP() << "no shared data at " << dir << " (set FATHOM_SHARED_DATA)";
  auto deepseek = OpenTokenizer(dir + "ggml-vocab-deepseek-llm.gguf");
  ASSERT_TRUE(deepseek) << deepseek.error().message;
  EXPECT_EQ(deepseek->source.ggml_pre, "deepseek-llm");
  EXPECT_EQ(deepseek->source.tokens.size(), 102400u);
  EXPECT_EQ(deepseek->source.token_types.size(), 102400u);
  EXPECT_EQ(deepseek->source.merges.size(), 99757u);
  auto gpt2 = OpenTokenizer(dir + "ggml-vocab-gpt-2.gguf");
  ASSERT_TRUE(gpt2) << gpt2.error().message;
  EXPECT_EQ(gpt2->source.tokens.size(), 50257u);
}

// 130k tokens and 130k merges: 150 ms on an ordinary machine in a release build. How long it took stands in the test's
// record; a limit would only tell how busy the machine is.
TEST_F(ModelFileTest, ALargeVocabularyLoads) {
  std::vector<std::string> tokens, merges;
  for (int i = 0; i < 130000; ++i) {
    tokens.push_back(fmt::format("token_{}", i));
    merges.push_back(fmt::format("left_{} right_{}", i, i));
  }
  GgufBytes bytes;
  bytes.Text("tokenizer.ggml.model", "gpt2")
      .Texts("tokenizer.ggml.tokens", tokens)
      .Texts("tokenizer.ggml.merges", merges);
  bytes.I32s("tokenizer.ggml.token_type", std::vector<int32_t>(tokens.size(), 1));
  const std::string path = Put("large.gguf", bytes.Build());
  const auto start = std::chrono::steady_clock::now();
  auto tokenizer = OpenTokenizer(path);
  const auto elapsed = std::chrono::steady_clock::now() - start;
  ASSERT_TRUE(tokenizer);
  EXPECT_EQ(tokenizer->source.merges.back(), "left_129999 right_129999");
  RecordProperty("milliseconds",
                 static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(elapsed).count()));
}

}  // namespace
}  // namespace fathom
