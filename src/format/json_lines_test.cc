#include "format/json_lines.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace fathom {
namespace {

TEST(JsonLines, EveryObjectInOrder) {
  for (const char* text : {"{\"a\": 1}\n{\"a\": 2}\n{\"a\": 3}\n", "{\"a\": 1}\r\n\n  \t\n{\"a\": 2}\n{\"a\": 3}"}) {
    std::vector<int> seen;
    ASSERT_TRUE(ForEachJsonLine(text, "f", 8, [&](const nlohmann::json& object) -> Status {
      seen.push_back(object["a"].get<int>());
      return {};
    }));
    EXPECT_EQ(seen, (std::vector<int>{1, 2, 3}));
  }
  EXPECT_TRUE(ForEachJsonLine("", "f", 8, [](const nlohmann::json&) -> Status {
    return Fail(ErrorCode::kInternal, "nothing was there");
  }));
}

TEST(JsonLines, TheFirstErrorNamesItsLine) {
  const std::pair<const char*, const char*> cases[] = {
      {"{}\nnonsense\n", "f: line 2: not valid JSON"},
      {"{}\n\n[1]\n", "f: line 3: a JSON object is expected, not array"},
      {"{}\n{\"a\": [[[1]]]}\n", "f: line 2: JSON nested more than 3 deep"},
      {"{\"a\": \"\xff\"}", "f: line 1: not valid JSON"},
      {"{}\n{}\n{\"stop\": 1}\nnonsense\n", "f: line 3: enough"},
  };
  for (const auto& [text, message] : cases) {
    const Status status = ForEachJsonLine(text, "f", 3, [](const nlohmann::json& object) -> Status {
      if (object.contains("stop")) return Fail(ErrorCode::kCancelled, "enough");
      return {};
    });
    ASSERT_FALSE(status) << text;
    EXPECT_EQ(status.error().message, message);
    EXPECT_EQ(status.error().code, status.error().message.ends_with("enough") ? ErrorCode::kCancelled : ErrorCode::kCorrupt);
  }
}

}  // namespace
}  // namespace fathom
