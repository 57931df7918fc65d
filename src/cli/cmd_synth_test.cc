// `fathom synth` as a script sees it: exit status and files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/cli.h"
#include "cli/temp_folder_for_test.h"
#include "format/model_file.h"

namespace fathom {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class SynthCommand : public ::testing::Test {
 protected:
  // Runs `fathom synth ARGS…`; out_ and err_ have what it printed.
  int Run(std::vector<std::string> args) {
    args.insert(args.begin(), {"fathom", "synth"});
    std::vector<char*> argv;
    for (auto& arg : args) argv.push_back(arg.data());
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const int status = Main(static_cast<int>(argv.size()), argv.data());
    out_ = testing::internal::GetCapturedStdout();
    err_ = testing::internal::GetCapturedStderr();
    return status;
  }

  TempFolder folder_;
  std::string out_, err_;
};

TEST_F(SynthCommand, WritesAModelThatOpens) {
  const std::string path = folder_ / "tiny.gguf";
  ASSERT_EQ(Run({"--config", "tiny", "--type", "q8_0", "--layers", "2", "--seed", "9", "-o", path}), 0) << err_;
  EXPECT_EQ(out_, "");
  EXPECT_THAT(err_, HasSubstr("untrained"));
  const auto file = ModelFile::Open(path);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ((*file)->config().num_hidden_layers, 2);
  EXPECT_NE((*file)->Find("blk.0.attn_k_b.weight"), nullptr);
  ASSERT_EQ(Run({"-q", "--config", "tiny", "--layout", "legacy", "-o", path}), 0) << err_;
  EXPECT_EQ(err_, "");
  EXPECT_NE((*ModelFile::Open(path))->Find("blk.0.attn_kv_b.weight"), nullptr);
}

TEST_F(SynthCommand, ListsAndPlansWithoutWriting) {
  ASSERT_EQ(Run({"--list"}), 0);
  EXPECT_THAT(out_, HasSubstr("deepseek-v2-lite"));
  EXPECT_THAT(out_, HasSubstr("q4_k_m"));
  ASSERT_EQ(Run({"--config", "r2", "--type", "q4_k_m", "--plan"}), 0) << err_;
  EXPECT_THAT(out_, HasSubstr("1202.1B"));
}

TEST_F(SynthCommand, WrongWordsAreUsageErrors) {
  const std::string path = folder_ / "x.gguf";
  const std::vector<std::vector<std::string>> lines = {
      {},
      {"--config", "tiny"},
      {"--config", "nonesuch", "-o", path},
      {"--config", "tiny", "--type", "q7", "-o", path},
      {"--config", "tiny", "--layers", "0", "-o", path},
      {"--config", "tiny", "--layers", "many", "-o", path},
      {"--config", "tiny", "--layout", "sideways", "-o", path},
      {"--config", "smollm2-135m", "--q-lora", "8", "-o", path},
      {"--config", "tiny", "-o", folder_.path().string()},
  };
  for (const auto& line : lines) {
    EXPECT_EQ(Run(line), 2) << testing::PrintToString(line);
    EXPECT_THAT(err_, StartsWith("fathom: "));
    EXPECT_FALSE(std::filesystem::exists(path));
  }
  EXPECT_EQ(Run({"--config", folder_ / "none/config.json", "-o", path}), 1);
  EXPECT_EQ(Run({"--config", "tiny", "-o", folder_ / "none/x.gguf"}), 1);
}

TEST_F(SynthCommand, KeepsWhatIsNotItsOwn) {
  const std::string path = folder_ / "notes.txt";
  TempFolder::Write(path, "precious");
  EXPECT_EQ(Run({"--config", "tiny", "-o", path}), 2);
  EXPECT_THAT(err_, HasSubstr("--force"));
  EXPECT_EQ(TempFolder::Read(path), "precious");
  EXPECT_EQ(Run({"--config", "tiny", "-o", path, "--force"}), 0) << err_;
  EXPECT_EQ(Run({"--config", "tiny", "-o", path}), 0) << err_;
}

}  // namespace
}  // namespace fathom
