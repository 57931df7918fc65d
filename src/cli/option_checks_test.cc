#include "cli/option_checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "cli/answer.h"
#include "cli/fake_engine_for_test.h"

namespace fathom {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Given {
  int64_t number = 0;
  uint64_t seed = 0;
  std::string model = "default";
};

Result<Given> Parse(std::vector<std::string> words) {
  Given given;
  CLI::App app;
  app.add_option("--number", given.number, "")->check(WholeNumber(-1, 100));
  AddSeed(app, "--seed", given.seed, "");
  app.add_option("-m,--model", given.model, "")->check(ModelName());
  std::reverse(words.begin(), words.end());
  try {
    app.parse(words);
  } catch (const CLI::ParseError& error) {
    return Fail(ErrorCode::kInvalidArgument, "{}", error.what());
  }
  return given;
}

TEST(OptionChecks, WholeNumbers) {
  EXPECT_EQ(Parse({"--number", "-1"})->number, -1);
  EXPECT_EQ(Parse({"--number", "+100"})->number, 100);
  EXPECT_EQ(Parse({"--number", "0"})->number, 0);
  for (const char* wrong : {"-2", "101", "abc", "1.5", "1e2", "0x10", "010", "7 ", "99999999999999999999", ""}) {
    const auto given = Parse({"--number", wrong});
    ASSERT_FALSE(given) << wrong;
    EXPECT_THAT(given.error().message, HasSubstr(fmt::format("--number: '{}' is not a whole number from -1 to 100", wrong)));
  }
}

TEST(OptionChecks, SeedsAreNeverBent) {
  EXPECT_EQ(Parse({"--seed", "0"})->seed, 0u);
  EXPECT_EQ(Parse({"--seed", "18446744073709551615"})->seed, std::numeric_limits<uint64_t>::max());
  for (const char* wrong : {"-1", "18446744073709551616", "99999999999999999999999", "1.5", "seven"}) {
    const auto given = Parse({"--seed", wrong});
    ASSERT_FALSE(given) << wrong;
    EXPECT_THAT(given.error().message, HasSubstr("whole number from 0 to 18446744073709551615"));
  }
}

TEST(OptionChecks, AnEmptyModelIsNotTheDefaultOne) {
  EXPECT_EQ(Parse({})->model, "default");
  EXPECT_EQ(Parse({"-m", "x.gguf"})->model, "x.gguf");
  for (const auto& words : {std::vector<std::string>{"-m", ""}, {"--model", ""}, {"--model="}}) {
    const auto given = Parse(words);
    ASSERT_FALSE(given);
    EXPECT_THAT(given.error().message, HasSubstr("--model"));
  }
}

TEST(OptionChecks, StopTextsAreUtf8) {
  GenerationOptions options;
  options.stop = {"naïve"};
  EXPECT_TRUE(ToGenerationParams(options, 100));
  options.stop.push_back("a\xff");
  const auto params = ToGenerationParams(options, 100);
  ASSERT_FALSE(params);
  EXPECT_EQ(params.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(params.error().message, HasSubstr("--stop"));
  EXPECT_THAT(params.error().message, HasSubstr("UTF-8"));
}

class EngineWithTemplate : public FakeEngine {
 public:
  bool unknown_chat_template() const override { return unknown; }
  bool unknown = true;
};

TEST(FormatWarnings, AnUnknownTemplateIsSaidUnlessAFormatWasNamed) {
  EngineWithTemplate engine;
  GenerationOptions options;
  EXPECT_THAT(FormatWarnings(engine, options, ChatFormat::kPlain), ElementsAre(HasSubstr("plain text; --chat-format")));
  options.chat_format = "chatml";
  EXPECT_THAT(FormatWarnings(engine, options, ChatFormat::kChatML), IsEmpty());
  options.chat_format.clear();
  engine.unknown = false;
  EXPECT_THAT(FormatWarnings(engine, options, ChatFormat::kPlain), IsEmpty());
}

TEST(FormatWarnings, ThinkingWithoutASwitch) {
  FakeEngine engine;
  GenerationOptions think, no_think;
  think.think = no_think.no_think = true;
  for (const GenerationOptions* options : {&think, &no_think})
    EXPECT_THAT(FormatWarnings(engine, *options, ChatFormat::kDeepseekV31), IsEmpty());
  EXPECT_THAT(FormatWarnings(engine, think, ChatFormat::kDeepseekR1), IsEmpty()) << "it does what was asked for";
  EXPECT_THAT(FormatWarnings(engine, no_think, ChatFormat::kDeepseekR1), ElementsAre(HasSubstr("--no-think has no effect")));
  EXPECT_THAT(FormatWarnings(engine, think, ChatFormat::kChatML), ElementsAre(HasSubstr("--think has no effect")));
}

}  // namespace
}  // namespace fathom
