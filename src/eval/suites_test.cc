// Loaders on little suites written here, and on the shared files where they are at hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/source_dir_for_test.h"
#include "eval/files.h"
#include "eval/suite.h"

namespace fathom {
namespace {

using testing::HasSubstr;

class SuiteFiles : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) / fmt::format("fathom_suites_{}", ::getpid());
    std::filesystem::remove_all(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void Write(const std::string& name, const std::string& text) {
    std::filesystem::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }
  Result<LoadedSuite> Load(const std::string& name, SuiteContext context = {}) {
    context.data = folder_.string();
    return FindSuite(name)->load(context);
  }
  std::filesystem::path folder_;
};

TEST_F(SuiteFiles, Gsm8kTakesItsExamplesFromTheTrainingSet) {
  Write("gsm8k/test.jsonl", R"({"question": "Two and 1,000?", "answer": "2+1000=<<2+1000=1002>>1002\n#### 1,002"})");
  Write("gsm8k/train.jsonl", R"({"question": "One and one?", "answer": "1+1=<<1+1=2>>2 in all.\n#### 2"})"
                             "\n");
  const auto chat = Load("gsm8k");
  ASSERT_TRUE(chat) << chat.error().message;
  ASSERT_EQ(chat->items.size(), 1u);
  EXPECT_EQ(chat->items[0].prompt, "Two and 1,000?");
  EXPECT_EQ(chat->items[0].gold, "1002");
  EXPECT_EQ(chat->items[0].score("I think 1,002 is right, so 1002.").value, 1);
  EXPECT_EQ(chat->items[0].score("The answer is 1001. 1002").value, 0);
  const auto text = Load("gsm8k", {.shots = 1, .chat = false});
  ASSERT_TRUE(text) << text.error().message;
  EXPECT_EQ(text->items[0].prompt, "Q: One and one?\nA: 1+1=2 in all. The answer is 2.\n\nQ: Two and 1,000?\nA:");
  EXPECT_FALSE(Load("gsm8k", {.shots = 2, .chat = false}));
}

TEST_F(SuiteFiles, SmallMathSets) {
  Write("math_small/svamp_test.jsonl",
        R"({"Answer": 4.0, "Question": "How many?", "Body": "Six pens less two", "Type": "Common-Divison"})");
  Write("math_small/asdiv_test.jsonl", R"({"body": "At noon.", "question": "When?", "answer": "3:30 p.m."})"
                                       "\n"
                                       R"~({"body": "Nine.", "question": "How many?", "answer": "9 (pears)"})~");
  Write("math_small/mawps_test.jsonl", R"({"input": "Half of 5?", "target": 2.5, "type": "singleop"})");
  const auto svamp = Load("svamp");
  ASSERT_TRUE(svamp) << svamp.error().message;
  EXPECT_EQ(svamp->items[0].prompt, "Six pens less two. How many?");
  EXPECT_EQ(svamp->items[0].family, "common-division");
  EXPECT_EQ(svamp->items[0].gold, "4");
  const auto asdiv = Load("asdiv");
  ASSERT_TRUE(asdiv);
  ASSERT_EQ(asdiv->families.size(), 2u);
  EXPECT_EQ(asdiv->items[0].gold, "9");
  EXPECT_EQ(asdiv->items[1].score("So the answer is 3:30 PM.").value, 1);
  EXPECT_EQ(asdiv->items[1].score("the answer is 3:31 PM").value, 0);
  EXPECT_EQ(Load("mawps")->items[0].score("It is 2.50.").value, 1);
}

TEST_F(SuiteFiles, BbhCutsItsExamples) {
  Write(
      "bbh/cot-prompts/coins.txt",
      "canary\n-----\nSay which.\n\nQ: a\nA: Let's think step by step.\nSo the answer is (A).\n\nQ: b\nA: Let's think "
      "step by step.\nSo the answer is (B).\n");
  Write("bbh/bbh/coins.json", R"~({"examples": [{"input": "c\nOptions:", "target": "(C)"}]})~");
  Write("bbh/bbh/lost.json", R"({"examples": []})");
  const auto all = Load("bbh");
  ASSERT_TRUE(all) << all.error().message;
  EXPECT_THAT(all->items[0].prompt, testing::StartsWith("Say which.\n\nQ: a\n"));
  EXPECT_THAT(all->items[0].prompt,
              testing::EndsWith("So the answer is (B).\n\nQ: c\nOptions:\nA: Let's think step by step."));
  EXPECT_THAT(all->notes, testing::ElementsAre(HasSubstr("lost")));
  EXPECT_EQ(all->items[0].score("Hm. So the answer is (C).").value, 1);
  EXPECT_EQ(all->items[0].score("(C) perhaps").value, 0);
  EXPECT_EQ(Load("bbh", {.shots = 0})->items[0].prompt, "Say which.\n\nQ: c\nOptions:\nA: Let's think step by step.");
  EXPECT_THAT(Load("bbh", {.shots = 1})->items[0].prompt, testing::Not(HasSubstr("Q: b")));
}

TEST_F(SuiteFiles, LegalBenchNeedsATest) {
  Write("legalbench/ducks/base_prompt.txt", "Q: Is {{text}} a duck?\nA:");
  Write("legalbench/ducks/history_test.tsv", "label\ttext\nYes\t\"it, \"\"quack\"\"\nsays\"\nNo\ta cow\n");
  Write("legalbench/geese/base_prompt.txt", "x");
  Write("legalbench/LICENSES.tsv", "x");
  const auto loaded = Load("legalbench");
  ASSERT_TRUE(loaded) << loaded.error().message;
  ASSERT_EQ(loaded->items.size(), 2u);
  EXPECT_EQ(loaded->items[0].prompt, "Q: Is it, \"quack\"\nsays a duck?\nA:");
  EXPECT_EQ(loaded->items[0].score(" Yes.\nQ:").value, 1);
  EXPECT_EQ(loaded->items[0].score("Yes, it is").value, 0);
  EXPECT_EQ(loaded->families[0].metric, Metric::kBalancedAccuracy);
  EXPECT_THAT(loaded->notes, testing::ElementsAre(HasSubstr("1 tasks")));
  Write("legalbench/ducks/base_prompt.txt", "{{beak}}");
  const auto wrong = Load("legalbench");
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().message, HasSubstr("beak"));
}

TEST_F(SuiteFiles, LawBench) {
  Write("lawbench/1-2.json", R"([{"instruction": "选择", "question": "哪项?", "answer": "正确答案：B。"}])");
  Write("lawbench/2-2.json",
        R"([{"instruction": "类别包括:违约、利息。写", "question": "句子", "answer": "争议焦点类别：利息。"},
    {"instruction": "类别包括:违约、利息。写", "question": "句子", "answer": "争议焦点类别：赔偿。"}])");
  Write("lawbench/3-1.json", R"([{"instruction": "给出", "question": "事实", "answer": "法条:刑法第266、159条"}])");
  Write("lawbench/3-3.json", R"([{"instruction": "罪名", "question": "事实", "answer": "罪名:盗窃;诈骗"}])");
  Write("lawbench/2-1.json", "[]");
  const auto loaded = Load("lawbench");
  ASSERT_TRUE(loaded) << loaded.error().message;
  ASSERT_EQ(loaded->items.size(), 4u);  // an answer outside the classes is left out, as its authors do
  EXPECT_EQ(loaded->items[0].prompt, "选择\n哪项?");
  EXPECT_EQ(loaded->items[0].score("[正确答案]B<eoa>").value, 1);
  EXPECT_EQ(loaded->items[1].score("利息").value, 1);
  EXPECT_EQ(loaded->items[1].score("利息和违约").value, 0);
  EXPECT_NEAR(loaded->items[2].score("第二百六十六条").value, 2.0 / 3, 1e-12);
  EXPECT_NEAR(loaded->items[3].score("盗窃").value, 2.0 / 3, 1e-12);
  EXPECT_THAT(loaded->notes, testing::ElementsAre(HasSubstr("2-1")));
}

TEST_F(SuiteFiles, TatQa) {
  Write("tatqa/tatqa_dataset_dev.json", R"([{"table": {"table": [["", "2019"], ["Sales", "$1.5"]]},
    "paragraphs": [{"text": "In millions."}],
    "questions": [{"question": "Sales?", "answer_type": "span", "scale": "million", "answer": ["$1.5"]},
                  {"question": "How many years?", "answer_type": "count", "scale": "", "answer": "1"}]}])");
  const auto loaded = Load("tatqa");
  ASSERT_TRUE(loaded) << loaded.error().message;
  ASSERT_EQ(loaded->items.size(), 2u);
  EXPECT_THAT(loaded->items[0].prompt, HasSubstr("Sales | $1.5\n"));
  EXPECT_EQ(loaded->items[0].score("It says so.\nAnswer: 1.5\nScale: million").value, 1);
  EXPECT_EQ(loaded->items[0].score("Answer: 1.5\nScale: none").value, 0);
  EXPECT_EQ(loaded->items[1].score("Answer: 1\nScale: none").value, 1);
}

TEST_F(SuiteFiles, WhatIsMissingOrBrokenIsNamed) {
  for (const Suite& suite : Suites()) {
    if (suite.folder.empty()) continue;
    const auto loaded = Load(std::string(suite.name));
    ASSERT_FALSE(loaded) << suite.name;
    EXPECT_EQ(loaded.error().code, ErrorCode::kNotFound) << suite.name;
    EXPECT_THAT(loaded.error().message, HasSubstr("--data")) << suite.name;
  }
  Write("gsm8k/test.jsonl", "{\"question\": \"a\", \"answer\": \"#### 1\"}\n{\"question\": 5}\n");
  EXPECT_THAT(Load("gsm8k").error().message, HasSubstr("line 2"));
  Write("bbh/bbh/x.json", "{\"examples\": 3}");
  Write("bbh/cot-prompts/x.txt", "c\n-----\nD\n\nQ: a\nA: b");
  EXPECT_THAT(Load("bbh").error().message, HasSubstr("x.json"));
  Write("tatqa/tatqa_dataset_dev.json", std::string(100000, '['));
  EXPECT_FALSE(Load("tatqa"));
}

TEST(ParseTable, QuotesTabsAndShortRows) {
  const auto rows = ParseTable("a\tb\r\n1\t\"x\ty\"\r\n\r\n\"2\"\n", "t.tsv");
  ASSERT_TRUE(rows) << rows.error().message;
  ASSERT_EQ(rows->size(), 2u);
  EXPECT_EQ((*rows)[0].at("b"), "x\ty");
  EXPECT_FALSE((*rows)[1].contains("b"));
  EXPECT_FALSE(ParseTable("a\n1\t2\n", "t.tsv"));
  EXPECT_FALSE(ParseTable("a\n\"never ends\n", "t.tsv"));
}

TEST(SharedSuites, LoadWhole) {
  const char* shared = std::getenv("FATHOM_SHARED_DATA");
  const std::string data =
      shared != nullptr ? std::string(shared) + "/eval" : SourceDirForTest() + "/../shared/data/eval";
  if (!std::filesystem::exists(data)) GTEST_SKIP() << data << " is not here";
  const std::map<std::string, size_t> items = {{"gsm8k", 1319}, {"svamp", 1000},      {"asdiv", 2214}, {"mawps", 2065},
                                               {"tatqa", 1668}, {"legalbench", 8165}, {"bbh", 6511}};
  for (const auto& [name, count] : items) {
    const auto loaded = FindSuite(name)->load({.data = data});
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(loaded->items.size(), count) << name;
    size_t right = 0, plain = 0;
    for (const EvalItem& item : loaded->items) {
      if (name == "tatqa") continue;  // gold stands in another form
      ++plain;
      const bool scored = item.score((name == "legalbench" ? "" : "So the answer is ") + item.gold).value == 1;
      right += scored;
      if (!scored) ADD_FAILURE() << item.id << ": " << item.gold;
    }
    EXPECT_EQ(right, plain) << name;  // every right answer scores
  }
  const auto law = FindSuite("lawbench")->load({.data = data});
  ASSERT_TRUE(law) << law.error().message;
  EXPECT_EQ(law->families.size(), 6u);
  EXPECT_GT(law->items.size(), 2990u);
  for (const EvalItem& item : law->items) {
    // A charge's name may hold another's, which then counts as named too: so it is in the published scorer.
    EXPECT_GT(item.score(item.gold).value, item.id.starts_with("3-3") ? 0.3 : 0.99) << item.id << " " << item.gold;
  }
}

}  // namespace
}  // namespace fathom
