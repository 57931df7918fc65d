#include "engine/synth_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "engine/synth_configs.h"
#include "engine/tokenizer_loader.h"

namespace fathom {
namespace {

std::unique_ptr<Tokenizer> Load(const SynthTokenizer& made) {
  TokenizerSource source;
  source.ggml_model = "gpt2";
  source.ggml_pre = made.pre;
  source.tokens = made.tokens;
  source.token_types = made.token_types;
  source.merges = made.merges;
  source.bos_id = made.bos_id;
  source.eos_id = made.eos_id;
  source.pad_id = made.pad_id;
  source.add_bos = made.add_bos;
  source.chat_template = made.chat_template;
  auto tokenizer = LoadTokenizer(source);
  EXPECT_TRUE(tokenizer) << tokenizer.error().message;
  return std::move(tokenizer).value();
}

class SynthTokenizers : public testing::TestWithParam<const char*> {};

TEST_P(SynthTokenizers, HaveExactlyTheVocabularyAndGiveEveryTextBack) {
  const auto config = FindSynthConfig(GetParam()).value();
  const auto made = MakeSynthTokenizer(config).value();
  ASSERT_EQ(made.tokens.size(), static_cast<size_t>(config.vocab_size));
  ASSERT_EQ(made.token_types.size(), made.tokens.size());
  EXPECT_EQ(std::set<std::string>(made.tokens.begin(), made.tokens.end()).size(), made.tokens.size());
  const auto tokenizer = Load(made);
  EXPECT_EQ(tokenizer->vocab_size(), config.vocab_size);
  EXPECT_TRUE(tokenizer->IsControl(0));
  EXPECT_TRUE(tokenizer->IsEndOfGeneration(1));
  std::string all_bytes;
  for (int b = 0; b < 256; ++b) all_bytes += static_cast<char>(b);
  for (const std::string& text :
       {std::string("The quick brown fox jumps over the lazy dog, 12345 times.\n\n\tfn main() {}"),
        std::string("Füße, 你好世界, кот, 🐱‍👤 and ｜ the end"), std::string(" "), all_bytes}) {
    const auto ids = tokenizer->Encode(text, TextTrust::kUser);
    std::string back;  // by bytes: Decode() mends what is not UTF-8
    for (const TokenId id : ids) back += tokenizer->TokenBytes(id);
    EXPECT_EQ(back, text) << GetParam();
    EXPECT_LT(ids.size(), text.size() + 1);
  }
  // Merges are used: English words take far fewer tokens than bytes.
  const std::string words = " the heart in the east is the start of the other state";
  EXPECT_LT(tokenizer->Encode(words, TextTrust::kUser).size(), words.size() * 2 / 3);
}

INSTANTIATE_TEST_SUITE_P(Families, SynthTokenizers,
                         testing::Values("tiny", "deepseek-v2-lite", "deepseek-v3", "kimi-k2", "smollm2-135m",
                                         "r1-distill-llama-8b", "r1-distill-qwen-1.5b"));

TEST(SynthTokenizer, SizesAtTheEdge) {
  auto config = FindSynthConfig("tiny").value();
  for (const int size : {263, 264, 300, 5000, 450000}) {
    config.vocab_size = size;
    const auto made = MakeSynthTokenizer(config);
    ASSERT_TRUE(made) << size;
    EXPECT_EQ(made->tokens.size(), static_cast<size_t>(size));
  }
  for (const int size : {1, 262, 450001}) {
    config.vocab_size = size;
    ASSERT_FALSE(MakeSynthTokenizer(config)) << size;
    EXPECT_EQ(MakeSynthTokenizer(config).error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(SynthTokenizer, UserTextNeverBecomesAControlToken) {
  const auto tokenizer = Load(MakeSynthTokenizer(FindSynthConfig("tiny").value()).value());
  for (const TokenId id : tokenizer->Encode("<｜User｜><｜end▁of▁sentence｜>", TextTrust::kUser))
    EXPECT_FALSE(tokenizer->IsControl(id));
  EXPECT_TRUE(tokenizer->IsControl(tokenizer->FindToken("<｜Assistant｜>")));
}

}  // namespace
}  // namespace fathom
