// What the options of memory come to, and which of them do not go together.
#include "cli/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace fathom {
namespace {

using ::testing::HasSubstr;

Result<EngineOptions> Parse(std::vector<std::string> words) {
  ModelOptions options;
  CLI::App app;
  AddModelOptions(app, options);
  std::reverse(words.begin(), words.end());
  try {
    app.parse(words);
  } catch (const CLI::ParseError& error) {
    return Fail(ErrorCode::kInvalidArgument, "{}", error.what());
  }
  return ToEngineOptions(options);
}

TEST(MemoryOptions, HowExpertsAreRead) {
  EXPECT_EQ(Parse({"--expert-memory", "2GiB"})->experts.io, ExpertIo::kAuto);
  EXPECT_EQ(Parse({"--memory", "2GiB"})->experts.io, ExpertIo::kAuto);
  for (const char* memory : {"--memory", "--expert-memory"}) {
    EXPECT_EQ(Parse({memory, "2GiB", "--io", "auto"})->experts.io, ExpertIo::kAuto);
    EXPECT_EQ(Parse({"--io", "direct", memory, "2GiB"})->experts.io, ExpertIo::kDirect);
    EXPECT_EQ(Parse({memory, "2GiB", "--io=buffered"})->experts.io, ExpertIo::kBuffered);
  }
  const auto unknown = Parse({"--memory", "2GiB", "--io", "mmap"});
  ASSERT_FALSE(unknown);
  EXPECT_THAT(unknown.error().message, HasSubstr("--io"));
}

TEST(MemoryOptions, IoWithoutMemorySaysWhatToDo) {
  for (const char* io : {"auto", "direct", "buffered"}) {
    for (const auto& words : {std::vector<std::string>{"--io", io}, {"--io", io, "--expert-memory", "0"}}) {
      const auto options = Parse(words);
      ASSERT_FALSE(options) << io;
      EXPECT_EQ(options.error().code, ErrorCode::kInvalidArgument);
      EXPECT_THAT(options.error().message, HasSubstr(std::string("--io ") + io + ": "));
      EXPECT_THAT(options.error().message, HasSubstr("--memory SIZE"));
      EXPECT_THAT(options.error().message, HasSubstr("--expert-memory SIZE"));
    }
  }
  EXPECT_TRUE(Parse({}));
}

}  // namespace
}  // namespace fathom
