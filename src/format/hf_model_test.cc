#include "format/hf_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "format/model_file.h"
#include "io/fault_env.h"

namespace fathom {
namespace {

using ::testing::HasSubstr;

constexpr const char* kConfig = R"({"architectures":["LlamaForCausalLM"],"vocab_size":3,"hidden_size":4,
  "intermediate_size":8,"num_hidden_layers":1,"num_attention_heads":2,"max_position_embeddings":16,
  "tie_word_embeddings":true})";

std::string Safetensors(const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::string out(reinterpret_cast<const char*>(&length), 8);
  out += header;
  for (size_t i = 0; i < data_bytes; ++i) out += static_cast<char>(i);
  return out;
}

class HfModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "fathom_hf_XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  void Put(const std::string& name, const std::string& text) const {
    std::ofstream(dir_ + "/" + name, std::ios::binary) << text;
  }
  Error OpenError() const {
    auto model = ModelFile::Open(dir_);
    return model ? Error{ErrorCode::kInternal, "opened without error"} : model.error();
  }
  std::string dir_;
};

TEST_F(HfModelTest, OneFile) {
  Put("config.json", kConfig);
  Put("tokenizer.json", "{}");
  Put("tokenizer_config.json", R"({"chat_template":"{{ messages }}"})");
  Put("generation_config.json", R"({"eos_token_id":1})");
  Put("expected.safetensors", "not a model's file: never opened");
  Put("model.safetensors", Safetensors(R"({"t":{"dtype":"I8","shape":[2,3],"data_offsets":[0,6]}})", 6));
  auto model = ModelFile::Open(dir_);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ((*model)->format(), ModelFormat::kHuggingFace);
  EXPECT_EQ((*model)->config().hidden_size, 4);
  EXPECT_EQ((*model)->config().name, std::filesystem::path(dir_).filename().string());
  ASSERT_NE((*model)->Find("t"), nullptr);
  EXPECT_EQ((*model)->Find("t")->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(static_cast<int>((*model)->Find("t")->data[5]), 5);
  const TokenizerSource& source = (*model)->tokenizer_source();
  EXPECT_EQ(source.tokenizer_json, "{}");
  EXPECT_EQ(source.chat_template, "{{ messages }}");
  EXPECT_EQ(source.generation_config_json, R"({"eos_token_id":1})");
  EXPECT_FALSE((*model)->Metadata().empty());
  Put("chat_template.jinja", "own file");
  EXPECT_EQ(OpenTokenizer(dir_)->source.chat_template, "own file");
  EXPECT_EQ(OpenTokenizer(dir_ + "/tokenizer.json")->source.generation_config_json, R"({"eos_token_id":1})");
  Put("tokenizer_config.json",
      R"({"chat_template":[{"name":"tool_use","template":"t"},{"name":"default","template":"d"}]})");
  std::filesystem::remove(dir_ + "/chat_template.jinja");
  EXPECT_EQ(OpenTokenizer(dir_)->source.chat_template, "d");
  // With a trailing slash the directory still has its name.
  EXPECT_EQ((*ModelFile::Open(dir_ + "/"))->config().name, (*model)->config().name);
}

TEST_F(HfModelTest, MisalignedTensorsAreCopiedToAlignedMemory) {
  Put("config.json", kConfig);
  std::string header =
      R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})";
  for (int pad = 0; pad < 8; ++pad) {
    Put("model.safetensors", Safetensors(header + std::string(static_cast<size_t>(pad), ' '), 9));
    auto model = ModelFile::Open(dir_);
    ASSERT_TRUE(model) << model.error().message;
    const TensorInfo* b = (*model)->Find("b");
    EXPECT_EQ(reinterpret_cast<uintptr_t>(b->data) % 4, 0u);
    for (int i = 0; i < 8; ++i) EXPECT_EQ(static_cast<int>(b->data[i]), i + 1);
  }
}

TEST_F(HfModelTest, ShardsByIndex) {
  Put("config.json", kConfig);
  Put("one.safetensors",
      Safetensors(
          R"({"a":{"dtype":"I8","shape":[2],"data_offsets":[0,2]},"stale":{"dtype":"I8","shape":[1],"data_offsets":[2,3]}})",
          3));
  Put("two.safetensors",
      Safetensors(
          R"({"b":{"dtype":"I8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"I8","shape":[1],"data_offsets":[4,5]}})",
          5));
  Put("model.safetensors.index.json",
      R"({"metadata":{"total_size":6},"weight_map":{"b":"two.safetensors","a":"one.safetensors"}})");
  auto model = ModelFile::Open(dir_);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ((*model)->tensors().size(), 2u);  // the index decides which "a", and that "stale" is none
  EXPECT_EQ((*model)->Find("a")->bytes, 2);
  EXPECT_EQ((*model)->Find("b")->file, 1);
  EXPECT_EQ((*model)->Find("stale"), nullptr);
  Put("model.safetensors.index.json", R"({"weight_map":{"b":"two.safetensors","c":"one.safetensors"}})");
  EXPECT_THAT(OpenError().message, HasSubstr("one.safetensors: lacks tensor c"));
  std::filesystem::remove(dir_ + "/two.safetensors");
  EXPECT_EQ(OpenError().code, ErrorCode::kNotFound);
  EXPECT_THAT(OpenError().message, HasSubstr("two.safetensors: file 2 of 2"));
}

TEST_F(HfModelTest, AnIndexCannotReachOutOfTheDirectory) {
  Put("config.json", kConfig);
  for (const char* name : {"../x.safetensors", "/etc/passwd", "..", "", ".", "a/b", "a\\u0000b"}) {
    Put("model.safetensors.index.json", fmt::format(R"({{"weight_map":{{"a":"{}"}}}})", name));
    EXPECT_THAT(OpenError().message, HasSubstr("not a file in this directory")) << name;
  }
  for (const char* wrong :
       {"{}", "[]", "", R"({"weight_map":{}})", R"({"weight_map":[]})", R"({"weight_map":{"a":1}})"}) {
    Put("model.safetensors.index.json", wrong);
    EXPECT_EQ(OpenError().code, ErrorCode::kCorrupt) << wrong;
    EXPECT_THAT(OpenError().message, HasSubstr("index.json")) << wrong;
  }
}

TEST_F(HfModelTest, WhatIsMissingOrBrokenIsNamed) {
  EXPECT_THAT(OpenError().message, HasSubstr("no config.json"));
  Put("some.gguf", "");
  EXPECT_THAT(OpenError().message, HasSubstr("give a GGUF file in it, e.g. some.gguf"));
  std::filesystem::remove(dir_ + "/some.gguf");
  Put("config.json", kConfig);
  EXPECT_EQ(OpenError().code, ErrorCode::kNotFound);
  EXPECT_THAT(OpenError().message, HasSubstr("model.safetensors"));
  Put("pytorch_model.bin", "pickled");
  EXPECT_EQ(OpenError().code, ErrorCode::kUnsupported);
  Put("model.safetensors", "short");
  EXPECT_THAT(OpenError().message, HasSubstr("model.safetensors: too short"));
  Put("model.safetensors", Safetensors("{}", 0));
  EXPECT_THAT(OpenError().message, HasSubstr("has no tensors"));
  Put("config.json", "{broken");
  EXPECT_THAT(OpenError().message, HasSubstr("config.json: not valid JSON"));
  Put("config.json", std::string(5 << 20, ' '));
  EXPECT_EQ(OpenError().code, ErrorCode::kResource);
  EXPECT_THAT(ModelFile::Open(dir_ + "/model.safetensors").error().message, HasSubstr("give the directory"));
  EXPECT_EQ(OpenTokenizer(dir_).error().code, ErrorCode::kNotFound);
  Put("tokenizer.model", "x");
  EXPECT_EQ(OpenTokenizer(dir_).error().code, ErrorCode::kUnsupported);
  Put("tokenizer.json", "");
  EXPECT_EQ(OpenTokenizer(dir_).error().code, ErrorCode::kCorrupt);
}

TEST_F(HfModelTest, ALoneTokenizerFileNeedsNoNeighbours) {
  Put("any.json", "{\"model\":{}}");
  auto tokenizer = OpenTokenizer(dir_ + "/any.json");
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->source.tokenizer_json, "{\"model\":{}}");
  EXPECT_TRUE(tokenizer->source.config_json.empty());
}

TEST_F(HfModelTest, FaultsBelowAreReported) {
  Put("config.json", kConfig);
  Put("model.safetensors", Safetensors(R"({"t":{"dtype":"I8","shape":[2,3],"data_offsets":[0,6]}})", 6));
  FaultEnv env;
  env.faults.max_read = 7;  // short reads are no fault
  EXPECT_TRUE(ModelFile::Open(dir_, env));
  env.faults.fail_reads_from = 20;
  EXPECT_EQ(ModelFile::Open(dir_, env).error().code, ErrorCode::kIo);
  env.faults = {};
  env.faults.fail_map = true;
  EXPECT_EQ(ModelFile::Open(dir_, env).error().code, ErrorCode::kIo);
  env.faults = {};
  env.faults.map_truncate = 30;
  EXPECT_EQ(ModelFile::Open(dir_, env).error().code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace fathom
