// `fathom convert`, `fathom plan` and `fathom train-report` as a script sees them: exit status, output and files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/source_dir_for_test.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/temp_folder_for_test.h"
#include "format/model_file.h"

namespace fathom {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class ModelCommands : public ::testing::Test {
 protected:
  int Run(std::vector<std::string> args) {
    CLI::App app;
    Action selected;
    RegisterConvert(app, selected);
    RegisterPlan(app, selected);
    RegisterTrainReport(app, selected);
    std::reverse(args.begin(), args.end());  // CLI11 takes them from the back
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

  const std::string golden_ = SourceDirForTest() + "/tests/golden/";
  TempFolder folder_;
  std::string out_, err_;
};

TEST_F(ModelCommands, ConvertWritesAModelThatOpens) {
  const std::string path = folder_ / "out.gguf";
  ASSERT_EQ(Run({"convert", golden_ + "hf/v3", "-o", path, "--type", "q8_0", "--name", "Tiny"}), 0) << err_;
  EXPECT_EQ(out_, "");
  EXPECT_THAT(err_, HasSubstr("note: Rows that do not fill"));
  EXPECT_THAT(err_, HasSubstr("q8_0"));
  const auto file = ModelFile::Open(path);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ((*file)->config().name, "Tiny");
  EXPECT_EQ(Run({"convert", golden_ + "hf/v3", "-o", path}), 2);
  EXPECT_THAT(err_, HasSubstr("--force"));
  EXPECT_EQ(Run({"convert", golden_ + "hf/v3", "-o", path, "--force", "-q"}), 0);
  EXPECT_EQ(err_, "");
}

TEST_F(ModelCommands, ConvertShowsWhatItWouldDo) {
  ASSERT_EQ(Run({"convert", golden_ + "hf/v3", "--type", "q4_k_m", "-n"}), 0) << err_;
  EXPECT_THAT(out_, HasSubstr("blk.1.ffn_gate_exps.weight"));
  EXPECT_THAT(out_, HasSubstr("f32 -> q5_0"));
  ASSERT_EQ(Run({"convert", "--list"}), 0);
  EXPECT_THAT(out_, HasSubstr("iq4_xs"));
  EXPECT_EQ(Run({"convert"}), 2);
  EXPECT_EQ(Run({"convert", golden_ + "hf/v3"}), 2);
  EXPECT_THAT(err_, HasSubstr("where to?"));
  EXPECT_EQ(Run({"convert", golden_ + "hf/v3", "-o", folder_ / "x.gguf", "--type", "q7"}), 2);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "x.gguf"));
}

TEST_F(ModelCommands, PlanAnswersInTextAndJson) {
  ASSERT_EQ(Run({"plan", "--training", "deepseek-v3", "--tokens", "14.8e12", "--explain"}), 0) << err_;
  EXPECT_THAT(out_, HasSubstr("2.664 M"));
  EXPECT_THAT(out_, HasSubstr("USD 5.328 M"));
  EXPECT_THAT(out_, HasSubstr("How it is counted"));
  ASSERT_EQ(Run({"plan", "--training", golden_ + "hf/v3", "--tokens", "1e9", "--flops", "2", "--mfu", "0.5", "--price",
                 "3", "--json"}), 0) << err_;
  const auto json = nlohmann::json::parse(out_);
  EXPECT_EQ(json["device_flops"], 2e12);
  EXPECT_NEAR(json["device_hours"].get<double>(), json["total_flops"].get<double>() / 1e12 / 3600, 1e-9);
  EXPECT_NEAR(json["cost"].get<double>(), 3 * json["device_hours"].get<double>(), 1e-9);
  ASSERT_EQ(Run({"plan", "--list"}), 0);
  EXPECT_THAT(out_, HasSubstr("h800"));
  for (const auto& line : std::vector<std::vector<std::string>>{
           {"plan"}, {"plan", "--training", "deepseek-v3"}, {"plan", "--training", "nobody", "--tokens", "1e9"},
           {"plan", "--training", "r2", "--tokens", "-1"},
           {"plan", "--training", "r2", "--tokens", "1e9", "--device", "x"}}) {
    EXPECT_EQ(Run(line), 2) << testing::PrintToString(line);
    EXPECT_THAT(err_, StartsWith("fathom: "));
  }
}

TEST_F(ModelCommands, TrainReportDrawsARun) {
  TempFolder::Write(folder_ / "metrics.jsonl", "{\"step\":1,\"tokens\":5,\"loss\":3}\n");
  ASSERT_EQ(Run({"train-report", folder_.path().string()}), 0) << err_;
  EXPECT_THAT(TempFolder::Read(folder_ / "report.html"), StartsWith("<!doctype html>"));
  ASSERT_EQ(Run({"train-report", folder_ / "metrics.jsonl", "-o", folder_ / "other.html", "-q"}), 0) << err_;
  EXPECT_TRUE(std::filesystem::exists(folder_ / "other.html"));
  EXPECT_EQ(Run({"train-report", folder_ / "none"}), 1);
  EXPECT_THAT(err_, HasSubstr("folder of a training run"));
  EXPECT_EQ(Run({"train-report"}), 2);
}

}  // namespace
}  // namespace fathom
