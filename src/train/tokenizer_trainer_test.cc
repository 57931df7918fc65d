#include "train/tokenizer_trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/source_dir_for_test.h"
#include "base/start_thread.h"
#include "text/chat.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"
#include "train/stream_for_test.h"

namespace fathom {
namespace {

using ::testing::HasSubstr;
using nlohmann::json;

std::string ReadText(const std::string& path) {
  std::ifstream file(std::string(SourceDirForTest()) + "/" + path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

json ReadJson(const std::string& path) {
  json out = json::parse(ReadText(path), nullptr, false);
  EXPECT_FALSE(out.is_discarded()) << path;
  return out;
}

TrainedTokenizer Trained(const std::vector<std::string>& texts, const TokenizerTrainOptions& options) {
  auto trainer = TokenizerTrainer::Create(options);
  EXPECT_TRUE(trainer) << (trainer ? "" : trainer.error().message);
  trainer->Add(texts);
  auto trained = trainer->Train();
  EXPECT_TRUE(trained) << (trained ? "" : trained.error().message);
  return std::move(*trained);
}

std::unique_ptr<Tokenizer> Load(const std::string& tokenizer_json, const std::string& config) {
  auto tokenizer = Tokenizer::Create({.tokenizer_json = tokenizer_json, .tokenizer_config_json = config});
  EXPECT_TRUE(tokenizer) << (tokenizer ? "" : tokenizer.error().message);
  return tokenizer ? std::move(*tokenizer) : nullptr;
}

TEST(TokenizerTrainer, FewerThreadsThanAskedForCountAlike) {
  std::vector<std::string> texts;
  for (int i = 0; i < 40; ++i) texts.push_back("the cat and the hat " + std::to_string(i));
  const TokenizerTrainOptions options{.vocab_size = 290, .threads = 6};
  const auto whole = Trained(texts, options);
  for (const int more : {0, 2}) {
    const ThreadLimitForTest limit(more);
    EXPECT_EQ(Trained(texts, options).merges, whole.merges);
  }
}

// BpeTrainer of Hugging Face `tokenizers` makes the same tokens in the same order, ties included.
TEST(TokenizerTrainer, MergesAreThoseOfHuggingFace) {
  const std::string text = ReadText("tests/golden/train_tokenizer/text.txt");
  const json expected = ReadJson("tests/golden/train_tokenizer/expected.json");
  for (const auto& [name, golden] : expected.items()) {
    SCOPED_TRACE(name);
    const TrainedTokenizer trained = Trained({text}, {.vocab_size = golden["vocab_size"].get<int32_t>(),
                                                      .min_frequency = golden["min_frequency"].get<int64_t>()});
    ASSERT_EQ(trained.merges.size(), golden["merges"].size());
    for (size_t i = 0; i < trained.merges.size(); ++i) {
      ASSERT_EQ(BytesToByteLevel(trained.merges[i].first), golden["merges"][i][0]) << i;
      ASSERT_EQ(BytesToByteLevel(trained.merges[i].second), golden["merges"][i][1]) << i;
    }
    ASSERT_EQ(trained.tokens.size() + 3, golden["vocab"].size());
    for (size_t i = 0; i < trained.tokens.size(); ++i) {
      ASSERT_EQ(BytesToByteLevel(trained.tokens[i]), golden["vocab"][i + 3]) << i;
    }
  }
}

TEST(TokenizerTrainer, ThreadsAndPortionsDoNotMatter) {
  std::vector<std::string> texts;
  for (int i = 0; i < 40; ++i) texts.push_back(ProseForTest("Book " + std::to_string(i), 3000));
  const std::string one = Trained(texts, {.vocab_size = 700, .threads = 1}).TokenizerJson();
  EXPECT_EQ(Trained(texts, {.vocab_size = 700, .threads = 4}).TokenizerJson(), one);
  auto trainer = TokenizerTrainer::Create({.vocab_size = 700, .threads = 2});
  ASSERT_TRUE(trainer);
  for (auto it = texts.rbegin(); it != texts.rend(); ++it) trainer->Add({*it});
  EXPECT_EQ(trainer->Train()->TokenizerJson(), one);
}

TEST(TokenizerTrainer, LoadsAndComesBack) {
  const std::string text = ReadText("tests/golden/train_tokenizer/text.txt");
  const TrainedTokenizer trained = Trained({text}, {.vocab_size = 500, .special = {"<｜tool｜>"}});
  EXPECT_EQ(trained.vocab_size(), 500);
  const auto tokenizer = Load(trained.TokenizerJson(), trained.TokenizerConfigJson(2048));
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->vocab_size(), 500);
  EXPECT_EQ(tokenizer->bos_id(), 0);
  EXPECT_EQ(tokenizer->eos_id(), 1);
  EXPECT_TRUE(tokenizer->add_bos());
  EXPECT_EQ(tokenizer->FindToken("<｜User｜>"), 495);
  EXPECT_EQ(tokenizer->FindToken("</think>"), 498);
  EXPECT_EQ(tokenizer->FindToken("<｜tool｜>"), 499);
  EXPECT_TRUE(tokenizer->IsControl(499));
  EXPECT_FALSE(tokenizer->IsControl(498));
  EXPECT_TRUE(tokenizer->IsEndOfGeneration(1));
  for (const std::string& sample : {text, std::string("\xff\xfe broken \x80"), std::string("<｜User｜> <think>")}) {
    std::string bytes;
    for (const TokenId id : tokenizer->Encode(sample, TextTrust::kUser)) bytes += tokenizer->TokenBytes(id);
    EXPECT_EQ(bytes, sample);
  }
  EXPECT_LT(tokenizer->Encode(text, TextTrust::kUser).size(), text.size() / 2);
}

TEST(TokenizerTrainer, SingleDigitsStaySingle) {
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "item " + std::to_string(i % 100) + " costs 1234 ";
  const TrainedTokenizer joined = Trained({text}, {.vocab_size = 400});
  const TrainedTokenizer single = Trained({text}, {.vocab_size = 400, .single_digits = true});
  const auto has_digits = [](const TrainedTokenizer& trained) {
    return std::any_of(trained.merges.begin(), trained.merges.end(), [](const auto& merge) {
      return (merge.first + merge.second).find_first_of("0123456789") != std::string::npos;
    });
  };
  EXPECT_TRUE(has_digits(joined));
  EXPECT_FALSE(has_digits(single));
  const auto tokenizer = Load(single.TokenizerJson(), single.TokenizerConfigJson(100));
  EXPECT_EQ(tokenizer->Encode("1234567", TextTrust::kUser).size(), 7u);
}

TEST(TokenizerTrainer, TooLittleTextGivesASmallerVocabulary) {
  const TrainedTokenizer trained = Trained({"abab abab"}, {.vocab_size = 1000});
  EXPECT_LT(trained.vocab_size(), 300);
  EXPECT_NE(Load(trained.TokenizerJson(), trained.TokenizerConfigJson(100)), nullptr);
  EXPECT_EQ(Trained({}, {.vocab_size = 1000}).vocab_size(), 263);
}

TEST(TokenizerTrainer, RareWordsAreForgottenWhenThereAreTooMany) {
  auto trainer = TokenizerTrainer::Create({.vocab_size = 400, .max_words = 1000});
  ASSERT_TRUE(trainer);
  std::string text;
  for (int i = 0; i < 50; ++i) text += " common";
  for (int i = 0; i < 5000; ++i) {
    text += ' ';
    for (int n = i + 1000; n > 0; n /= 26) text += static_cast<char>('a' + n % 26);
  }
  trainer->Add({text});
  EXPECT_TRUE(trainer->forgot());
  EXPECT_LE(trainer->words(), 500u);
  const auto trained = trainer->Train();
  ASSERT_TRUE(trained);
  EXPECT_NE(std::find(trained->tokens.begin(), trained->tokens.end(), " common"), trained->tokens.end());
}

TEST(TokenizerTrainer, Errors) {
  EXPECT_THAT(TokenizerTrainer::Create({.vocab_size = 262}).error().message, HasSubstr("263"));
  EXPECT_THAT(TokenizerTrainer::Create({.vocab_size = 1 << 30}).error().message, HasSubstr("is possible"));
  EXPECT_THAT(TokenizerTrainer::Create({.special = {"<think>"}}).error().message, HasSubstr("twice"));
  EXPECT_THAT(TokenizerTrainer::Create({.special = {""}}).error().message, HasSubstr("not empty"));
  auto trainer = TokenizerTrainer::Create({.progress = [](int64_t, int64_t) { return false; }});
  trainer->Add({ProseForTest("x", 10000)});
  const auto stopped = trainer->Train();
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
}

class NanoTokenizer : public ::testing::Test {
 protected:
  std::string config_ = ReadText("models/fathom-nano/tokenizer_config.json");
  std::unique_ptr<Tokenizer> tokenizer_ = Load(ReadText("models/fathom-nano/tokenizer.json"), config_);
  json golden_ = ReadJson("tests/golden/train_tokenizer/nano.json");
};

TEST_F(NanoTokenizer, IsWhatItShouldBe) {
  ASSERT_NE(tokenizer_, nullptr);
  EXPECT_EQ(tokenizer_->vocab_size(), 4096);
  for (TokenId id = 0; id < tokenizer_->vocab_size(); ++id) {
    const std::string_view bytes = tokenizer_->TokenBytes(id);
    ASSERT_FALSE(bytes.empty()) << id;
    ASSERT_TRUE(bytes.size() == 1 || bytes.find_first_of("0123456789") == std::string_view::npos) << id;
  }
}

TEST_F(NanoTokenizer, AgreesWithHuggingFaceOnTexts) {
  for (const json& entry : golden_["texts"]) {
    const std::string text = entry["text"];
    EXPECT_EQ(tokenizer_->Encode(text, TextTrust::kUser), entry["ids"].get<std::vector<TokenId>>()) << text;
  }
}

// transformers' apply_chat_template on our template, and our native encoder: the same text and the same ids.
TEST_F(NanoTokenizer, ChatTemplateIsTheNativeFormat) {
  const std::string chat_template = json::parse(config_)["chat_template"];
  ASSERT_EQ(DetectChatFormat(chat_template, *tokenizer_), ChatFormat::kDeepseekV31);
  ASSERT_EQ(golden_["chats"].size(), 15u);
  for (const json& entry : golden_["chats"]) {
    std::vector<ChatMessage> messages;
    for (const json& message : entry["messages"]) {
      const std::string role = message["role"];
      messages.push_back({.role = role == "system" ? Role::kSystem : role == "user" ? Role::kUser : Role::kAssistant,
                          .content = message["content"]});
    }
    const ChatOptions options{.add_generation_prompt = entry["options"].value("add_generation_prompt", false),
                              .thinking = entry["options"].value("thinking", false)};
    EXPECT_EQ(RenderChat(ChatFormat::kDeepseekV31, messages, options), entry["text"]);
    const auto ids = EncodeChat(ChatFormat::kDeepseekV31, *tokenizer_, messages, options);
    ASSERT_TRUE(ids);
    EXPECT_EQ(*ids, entry["ids"].get<std::vector<TokenId>>()) << entry["text"];
  }
}

}  // namespace
}  // namespace fathom
