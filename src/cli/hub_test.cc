#include "cli/hub.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

namespace fathom {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Paths(const std::vector<HubFile>& files) {
  std::vector<std::string> paths;
  for (const HubFile& file : files) paths.push_back(file.path);
  return paths;
}

class HubTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"FATHOM_HUB", "HF_ENDPOINT", "HF_TOKEN"}) unsetenv(name);
  }
  void TearDown() override { SetUp(); }
};

TEST_F(HubTest, AddressComesFromOptionThenEnvironment) {
  const auto none = FindHub("", "");
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(none.error().message, HasSubstr("FATHOM_HUB"));
  setenv("HF_ENDPOINT", "https://one.example", 1);
  EXPECT_EQ(FindHub("", "")->address, "https://one.example");
  setenv("FATHOM_HUB", "https://two.example//", 1);
  EXPECT_EQ(FindHub("", "")->address, "https://two.example");
  EXPECT_EQ(FindHub("http://three.example", "v2")->revision, "v2");
  EXPECT_FALSE(FindHub("ftp://three.example", ""));
}

TEST_F(HubTest, Urls) {
  const HubSettings hub{"https://h", "", "refs/pr/1"};
  EXPECT_EQ(FileUrl(hub, "o/n", "dir/a b#c.gguf"), "https://h/o/n/resolve/refs%2Fpr%2F1/dir/a%20b%23c.gguf");
  EXPECT_EQ(ListUrl(hub, "o/n"), "https://h/api/models/o/n/tree/refs%2Fpr%2F1?recursive=true");
}

TEST_F(HubTest, NamesStayInside) {
  EXPECT_TRUE(IsRepositoryName("deepseek-ai/DeepSeek-V2-Lite-Chat"));
  for (const char* bad : {"", "/", "a/", "/a", "a//b", "a/b/c", "../a", "a/..", "a b/c", "a\\b", "a/b?x"}) {
    EXPECT_FALSE(IsRepositoryName(bad)) << bad;
  }
  EXPECT_TRUE(IsSafePath("Q4/model-00001-of-00002.gguf"));
  for (const char* bad : {"", "/etc/passwd", "../x", "a/../x", "a/./b", "a\nb", "a//b", "a/"}) {
    EXPECT_FALSE(IsSafePath(bad)) << bad;
  }
}

TEST_F(HubTest, ParsesListing) {
  const std::string hash(64, 'b');
  const auto files = ParseFileList("u", R"([{"type":"directory","path":"d","size":0},
      {"type":"file","path":"config.json","size":12,"oid":"x"},
      {"type":"file","path":"m.gguf","size":3,"lfs":{"oid":")" + hash + R"(","size":5000000000}}])");
  ASSERT_TRUE(files) << files.error().message;
  ASSERT_EQ(files->size(), 2u);
  EXPECT_EQ((*files)[0].bytes, 12);
  EXPECT_EQ((*files)[0].sha256, "");
  EXPECT_EQ((*files)[1].bytes, 5000000000);
  EXPECT_EQ((*files)[1].sha256, hash);
}

TEST_F(HubTest, HostileListings) {
  for (const char* text : {"", "{}", "null", "[1]", "[{}]", R"([{"path":5}])", R"([{"path":"../../.bashrc"}])",
                           R"([{"path":"/etc/passwd"}])", "[[[[[[", "\xff\xfe"}) {
    const auto files = ParseFileList("u", text);
    ASSERT_FALSE(files) << text;
    EXPECT_EQ(files.error().code, ErrorCode::kCorrupt) << text;
  }
  // Sizes that are not sizes are unknown sizes.
  EXPECT_EQ(ParseFileList("u", R"([{"path":"a","size":-1}])")->front().bytes, -1);
  EXPECT_EQ(ParseFileList("u", R"([{"path":"a","size":1e300}])")->front().bytes, -1);
  EXPECT_EQ(ParseFileList("u", R"([{"path":"a","size":18446744073709551615}])")->front().bytes, -1);
}

TEST_F(HubTest, ChoosesADirectorysFiles) {
  const std::vector<HubFile> files = {{"model-00001-of-00002.safetensors"}, {"README.md"}, {"config.json"},
                                      {"tokenizer.json"}, {"model-00002-of-00002.safetensors"}, {"onnx/m.safetensors"},
                                      {"modeling_x.py"}, {"model.safetensors.index.json"}};
  EXPECT_THAT(Paths(DirectoryFiles(files)),
              ElementsAre("config.json", "tokenizer.json", "model.safetensors.index.json",
                          "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"));
}

TEST_F(HubTest, SplitGgufBringsAllParts) {
  const std::vector<HubFile> files = {{"a.gguf"}, {"q/m-00001-of-00003.gguf"}, {"q/m-00002-of-00003.gguf"},
                                      {"q/m-00003-of-00003.gguf"}, {"x-00001-of-00002.gguf"}};
  EXPECT_THAT(Paths(*GgufParts(files, "a.gguf")), ElementsAre("a.gguf"));
  EXPECT_THAT(Paths(*GgufParts(files, "q/m-00002-of-00003.gguf")),
              ElementsAre("q/m-00001-of-00003.gguf", "q/m-00002-of-00003.gguf", "q/m-00003-of-00003.gguf"));
  EXPECT_FALSE(GgufParts(files, "x-00001-of-00002.gguf"));  // part 2 is missing
  const auto absent = GgufParts(files, "b.gguf");
  ASSERT_FALSE(absent);
  EXPECT_THAT(absent.error().message, HasSubstr("a.gguf"));
}

}  // namespace
}  // namespace fathom
