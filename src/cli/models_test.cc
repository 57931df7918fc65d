#include "cli/models.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "cli/temp_folder_for_test.h"

namespace fathom {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ModelsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    setenv("XDG_DATA_HOME", folder_.path().c_str(), 1);
    unsetenv("FATHOM_MODEL");
  }
  void TearDown() override { unsetenv("XDG_DATA_HOME"), unsetenv("FATHOM_MODEL"); }
  void Put(const std::string& name) { TempFolder::Write(folder_.path() / "fathom/models" / name, "x"); }

  TempFolder folder_;
};

TEST_F(ModelsTest, FolderFollowsXdg) {
  EXPECT_EQ(ModelsFolder()->string(), folder_ / "fathom/models");
  setenv("XDG_DATA_HOME", "relative", 1);  // invalid by the specification
  setenv("HOME", "/home/somebody", 1);
  EXPECT_EQ(ModelsFolder()->string(), "/home/somebody/.local/share/fathom/models");
}

TEST_F(ModelsTest, PathsWinThenNames) {
  Put("tiny.gguf");
  Put("o/r/a.gguf");
  Put("o/dir/config.json");
  Put("o/split/m-00001-of-00002.gguf");
  Put("o/split/m-00002-of-00002.gguf");
  Put("o/many/a.gguf");
  Put("o/many/b.gguf");
  TempFolder::Write(folder_ / "here.gguf", "x");
  EXPECT_EQ(*ResolveModel(folder_ / "here.gguf"), folder_ / "here.gguf");
  EXPECT_EQ(*ResolveModel("tiny"), folder_ / "fathom/models/tiny.gguf");
  EXPECT_EQ(*ResolveModel("o/r"), folder_ / "fathom/models/o/r/a.gguf");
  EXPECT_EQ(*ResolveModel("o/r/a.gguf"), folder_ / "fathom/models/o/r/a.gguf");
  EXPECT_EQ(*ResolveModel("o/dir"), folder_ / "fathom/models/o/dir");
  EXPECT_EQ(*ResolveModel("o/split"), folder_ / "fathom/models/o/split/m-00001-of-00002.gguf");
  EXPECT_FALSE(ResolveModel("o/many"));
  EXPECT_FALSE(ResolveModel("../models/tiny"));
  EXPECT_THAT(PulledModels(), ElementsAre("o/dir", "o/many/a.gguf", "o/many/b.gguf", "o/r/a.gguf",
                                          "o/split/m-00001-of-00002.gguf", "tiny"));
}

TEST_F(ModelsTest, DefaultModel) {
  const auto none = ResolveModel("");
  if (EmbeddedModel().empty()) {
    ASSERT_FALSE(none);
    EXPECT_THAT(none.error().message, HasSubstr("fathom pull"));
  } else {
    EXPECT_EQ(*none, EmbeddedModel());
    EXPECT_EQ(*ResolveModel("fathom-nano"), EmbeddedModel());
  }
  Put("only.gguf");
  EXPECT_EQ(*ResolveModel(""), folder_ / "fathom/models/only.gguf");
  Put("second.gguf");
  const auto which = ResolveModel("");
  ASSERT_FALSE(which);
  EXPECT_THAT(which.error().message, HasSubstr("second"));
  Put("smollm2-135m.gguf");
  EXPECT_EQ(*ResolveModel(""), folder_ / "fathom/models/smollm2-135m.gguf");
  setenv("FATHOM_MODEL", "second", 1);
  EXPECT_EQ(*ResolveModel(""), folder_ / "fathom/models/second.gguf");
}

TEST_F(ModelsTest, UnknownNameListsWhatThereIs) {
  Put("tiny.gguf");
  const auto absent = ResolveModel("absent");
  ASSERT_FALSE(absent);
  EXPECT_EQ(absent.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(absent.error().message, HasSubstr("tiny"));
}

}  // namespace
}  // namespace fathom
