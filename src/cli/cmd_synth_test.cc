// `fathom synth` as a script sees it: exit status and files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "cli/cli.h"
#include "cli/command.h"
#include "cli/temp_folder_for_test.h"
#include "format/model_file.h"

namespace fathom {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class SynthCommand : public ::testing::Test {
 protected:
  // Runs `fathom synth ARGS…` as Main() does (which is for once a process): exit status, and in out_ and err_ what was
  // printed.
  int Run(std::vector<std::string> args) {
    CLI::App app;
    Action selected;
    RegisterSynth(app, selected);
    std::reverse(args.begin(), args.end());  // CLI11 takes them from the back
    args.push_back("synth");
    err_.clear();
    out_.clear();
    try {
      app.parse(args);
    } catch (const CLI::ParseError& error) {
      err_ = std::string("fathom: ") + error.what();
      return 2;
    }
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const Status status = selected();
    out_ = testing::internal::GetCapturedStdout();
    err_ = testing::internal::GetCapturedStderr();
    if (status) return 0;
    err_ += FormatError(status.error());
    return ExitStatus(status.error());
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
  EXPECT_THAT(out_, HasSubstr("1.20T weights (77.4B active)"));
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
