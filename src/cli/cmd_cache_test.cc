// `fathom cache` as a script sees it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/cli.h"
#include "cli/command.h"
#include "cli/temp_folder_for_test.h"

namespace fathom {
namespace {

using ::testing::HasSubstr;

class CacheCommand : public ::testing::Test {
 protected:
  int Run(std::vector<std::string> args) {
    CLI::App app;
    Action selected;
    RegisterCache(app, selected);
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
  std::string File(const std::string& name, const std::string& text) {
    const std::string path = folder_ / name;
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }

  TempFolder folder_;
  std::string out_, err_;
};

constexpr char kTrace[] =
    "{\"timestamp\": 0, \"input_length\": 1024, \"output_length\": 1, \"hash_ids\": [1, 2]}\n"
    "{\"timestamp\": 9, \"input_length\": 1024, \"output_length\": 1, \"hash_ids\": [1, 2]}\n";

TEST_F(CacheCommand, SimulateReportsEveryPolicyAndSize) {
  const std::string trace = File("t.jsonl", kTrace);
  ASSERT_EQ(Run({"cache", "simulate", "--trace", trace, "--memory", "1blocks,1GiB", "--json"}), 0) << err_;
  const auto json = nlohmann::json::parse(out_);
  const auto& one = json["traces"][0];
  EXPECT_EQ(one["requests"], 2);
  EXPECT_EQ(one["ceiling_tokens"], 1024);
  ASSERT_EQ(one["runs"].size(), 6u);
  EXPECT_EQ(one["runs"][0]["memory_bytes"], 512 * 70272);
  EXPECT_EQ(one["runs"][0]["hit_tokens"], 512);
  EXPECT_EQ(one["runs"][0]["belady_hit_tokens"], 512);
  EXPECT_EQ(one["runs"][3]["policy"], "saved-time");
  EXPECT_EQ(one["runs"][3]["hit_tokens"], 1024);
  ASSERT_EQ(Run({"cache", "simulate", "--trace", trace, "--memory", "0", "--disk", "1GiB", "--policy", "lru"}), 0);
  EXPECT_THAT(out_, HasSubstr("a cache without end would hit 50.00 %"));
  EXPECT_THAT(out_, HasSubstr("lru          50.00     100.0     100.0"));
}

TEST_F(CacheCommand, SimulateRefusesWhatItCannotUse) {
  const std::string trace = File("t.jsonl", kTrace);
  EXPECT_EQ(Run({"cache", "simulate", "--trace", trace, "--memory", "much"}), 2);
  EXPECT_THAT(err_, HasSubstr("--memory much: not a size"));
  EXPECT_EQ(Run({"cache", "simulate", "--trace", trace, "--policy", "clock"}), 2);
  EXPECT_THAT(err_, HasSubstr("saved-time, lru and s3-fifo"));
  EXPECT_EQ(Run({"cache", "simulate", "--trace", trace, "--bytes-per-token", "0"}), 2);
  EXPECT_EQ(Run({"cache", "simulate", "--trace", trace, "--prefill-rate", "0"}), 2);
  EXPECT_EQ(Run({"cache", "simulate"}), 2);
  EXPECT_EQ(Run({"cache"}), 2);
  EXPECT_EQ(Run({"cache", "simulate", "--trace", folder_ / "missing"}), 1);
  EXPECT_EQ(Run({"cache", "simulate", "--trace", File("bad.jsonl", "{}\n")}), 1);
  EXPECT_THAT(err_, HasSubstr("bad.jsonl: line 1: \"timestamp\""));
}

}  // namespace
}  // namespace fathom
