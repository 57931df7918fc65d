// `fathom train-tokenizer` as a script sees it: exit status, files, what is said.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <string>
#include <vector>

#include "cli/cli.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/temp_folder_for_test.h"
#include "engine/tokenizer_loader.h"

namespace fathom {
namespace {

using ::testing::HasSubstr;

class TrainTokenizerCommand : public ::testing::Test {
 protected:
  int Run(std::vector<std::string> args) {
    CLI::App app;
    Action selected;
    RegisterTrainTokenizer(app, selected);
    std::reverse(args.begin(), args.end());  // CLI11 takes them from the back
    args.push_back("train-tokenizer");
    err_.clear();
    try {
      app.parse(args);
    } catch (const CLI::ParseError& error) {
      err_ = std::string("fathom: ") + error.what();
      return 2;
    }
    testing::internal::CaptureStderr();
    const Status status = selected();
    err_ = testing::internal::GetCapturedStderr();
    if (status) return 0;
    err_ += FormatError(status.error());
    return ExitStatus(status.error());
  }
  std::string Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name) << text;
    return folder_ / name;
  }
  std::string Prose() {
    std::string text;
    for (int i = 0; i < 500; ++i) text += "The river walks to the garden of winter " + std::to_string(i) + ".\n\n";
    return text;
  }

  TempFolder folder_;
  std::string err_;
};

TEST_F(TrainTokenizerCommand, WritesAVocabularyThatLoads) {
  Write("a.txt", Prose());
  Write("b.jsonl", "{\"text\": \"lantern lantern lantern\"}\n{\"messages\": [{\"role\": \"user\", \"content\": "
                   "\"zebra zebra zebra\"}]}\n{\"words\": [\"quilt quilt\", \"quilt\"]}\n");
  ASSERT_EQ(Run({folder_ / "*.txt", folder_ / "b.jsonl", "--tasks", "50", "--vocab-size", "600", "--single-digits",
                 "--special", "<｜tool｜>", "-t", "2", "-o", folder_ / "."}), 0) << err_;
  EXPECT_THAT(err_, HasSubstr("600 tokens from"));
  const auto tokenizer = LoadTokenizer(folder_ / "tokenizer.json");
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ((*tokenizer)->vocab_size(), 600);
  EXPECT_GE((*tokenizer)->FindToken("<｜tool｜>"), 0);
  EXPECT_EQ((*tokenizer)->bos_id(), 0);  // from tokenizer_config.json beside it
  EXPECT_LE((*tokenizer)->Encode(" winter", TextTrust::kUser).size(), 1u);
  EXPECT_EQ((*tokenizer)->Encode("123", TextTrust::kUser).size(), 3u);
}

TEST_F(TrainTokenizerCommand, ASampleIsAPart) {
  Write("a.txt", Prose() + Prose() + Prose());
  ASSERT_EQ(Run({(folder_ / "a.txt") + "@20kB", "--vocab-size", "300", "-o", folder_ / "."}), 0) << err_;
  EXPECT_THAT(err_, HasSubstr("from 0.0 MB"));
  EXPECT_EQ(Run({(folder_ / "a.txt") + "@20XB", "-o", folder_ / "."}), 2);
  EXPECT_THAT(err_, HasSubstr("a size as 60MB is expected"));
}

TEST_F(TrainTokenizerCommand, SaysWhatIsWrong) {
  EXPECT_EQ(Run({"-o", folder_ / "."}), 2);
  EXPECT_THAT(err_, HasSubstr("nothing to learn from"));
  EXPECT_EQ(Run({folder_ / "none.txt", "-o", folder_ / "."}), 1);
  EXPECT_THAT(err_, HasSubstr("none.txt: no such file"));
  const std::string text = Write("a.txt", Prose());
  EXPECT_EQ(Run({text, "-o", folder_ / "nowhere"}), 1);
  EXPECT_THAT(err_, HasSubstr("no such folder"));
  EXPECT_EQ(Run({text, "--vocab-size", "100", "-o", folder_ / "."}), 2);
  EXPECT_THAT(err_, HasSubstr("263"));
  EXPECT_EQ(Run({Write("bad.jsonl", "{\"text\": \"x\"}\n{\n"), "-o", folder_ / "."}), 1);
  EXPECT_THAT(err_, HasSubstr("bad.jsonl: line 2: not valid JSON"));
  EXPECT_EQ(Run({text}), 2);  // no -o
}

TEST_F(TrainTokenizerCommand, AskedToEndItLeavesNothing) {
  const std::string text = Write("a.txt", Prose());
  for (const int number : {SIGTERM, SIGHUP}) {
    const InterruptScope scope(InterruptBy::kAnyEnd);
    std::raise(number);
    EXPECT_EQ(Run({text, "-o", folder_ / "."}), 128 + number) << err_;
    EXPECT_FALSE(std::ifstream(folder_ / "tokenizer.json").good());
  }
}

TEST_F(TrainTokenizerCommand, CtrlCLeavesNothing) {
  const std::string text = Write("a.txt", Prose());
  const InterruptScope scope;
  std::raise(SIGINT);
  EXPECT_EQ(Run({text, "-o", folder_ / "."}), 130) << err_;
  ClearInterrupt();
  EXPECT_FALSE(std::ifstream(folder_ / "tokenizer.json").good());
}

}  // namespace
}  // namespace fathom
