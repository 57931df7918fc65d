#include "text/gguf_vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "text/pre_tokenizer.h"
#include "text/text_test_data.h"

namespace fathom {
namespace {

using ::testing::HasSubstr;

struct Both {
  std::unique_ptr<Tokenizer> json, gguf;
  GgufVocabulary vocabulary;
};

// The tokenizer as its files describe it and as a GGUF of the same vocabulary would.
Both LoadBoth(const TokenizerSpec& spec, int32_t vocab_size) {
  Both both;
  auto json = Tokenizer::Create(spec);
  EXPECT_TRUE(json) << json.error().message;
  auto vocabulary = GgufVocabularyOf(spec, vocab_size);
  EXPECT_TRUE(vocabulary) << vocabulary.error().message;
  if (!json || !vocabulary) return both;
  both.vocabulary = std::move(*vocabulary);
  const GgufVocabulary& v = both.vocabulary;
  TokenizerSpec again;
  again.ggml_model = "gpt2";
  again.ggml_pre = v.pre;
  again.tokens = v.tokens;
  again.token_types = v.token_types;
  again.merges = v.merges;
  again.bos_id = v.bos_id;
  again.eos_id = v.eos_id;
  again.pad_id = v.pad_id;
  again.add_bos = v.add_bos;
  auto gguf = Tokenizer::Create(again);
  EXPECT_TRUE(gguf) << gguf.error().message;
  if (gguf) both.gguf = std::move(*gguf);
  both.json = std::move(*json);
  return both;
}

void ExpectSame(const Both& both, int texts) {
  ASSERT_TRUE(both.json && both.gguf);
  EXPECT_EQ(both.json->bos_id(), both.gguf->bos_id());
  EXPECT_EQ(both.json->eos_id(), both.gguf->eos_id());
  EXPECT_EQ(both.json->add_bos(), both.gguf->add_bos());
  for (TokenId id = 0; id < both.json->vocab_size(); ++id) {
    EXPECT_EQ(both.json->TokenBytes(id).empty() ? fmt::format("[PAD{}]", id) : both.json->TokenBytes(id),
              both.gguf->TokenBytes(id));
    EXPECT_EQ(both.json->IsControl(id), both.gguf->IsControl(id)) << both.json->TokenBytes(id);
    EXPECT_EQ(both.json->IsEndOfGeneration(id), both.gguf->IsEndOfGeneration(id)) << both.json->TokenBytes(id);
  }
  RandomForTest random(7);
  for (int i = 0; i < texts; ++i) {
    const std::string text = RandomTextForTest(random);
    for (const TextTrust trust : {TextTrust::kUser, TextTrust::kTrusted})
      ASSERT_EQ(both.json->Encode(text, trust), both.gguf->Encode(text, trust)) << text;
  }
}

std::string GoldenJson(const std::string& name) {
  return ReadFileForTest(GoldenDir() / "tokenizers" / (name + ".json"));
}

TEST(GgufVocabulary, TheSameTokenizerUnderTheNameOfItsPreTokenizer) {
  const std::pair<const char*, const char*> files[] = {
      {"deepseek_v3", "deepseek-v3"}, {"deepseek_llm", "deepseek-llm"}, {"deepseek_coder", "deepseek-coder"},
      {"llama3", "llama-bpe"},        {"qwen2", "qwen2"},               {"smollm2", "smollm"},
      {"gpt2", "gpt-2"},              {"kimi_k2", "kimi-k2"}};
  for (const auto& [file, pre] : files) {
    SCOPED_TRACE(file);
    const std::string json = GoldenJson(file);
    TokenizerSpec spec;
    spec.tokenizer_json = json;
    const Both both = LoadBoth(spec, 1000);
    EXPECT_EQ(both.vocabulary.pre, pre);
    ExpectSame(both, 300);
  }
}

TEST(GgufVocabulary, TheProbesTellAllNamesApart) {
  struct Kind {
    std::string_view name;
    std::vector<std::string> words;
    std::vector<NormalForm> forms;
    bool ignore_merges;
  };
  std::vector<Kind> kinds;
  for (const std::string_view name : PreTokenizerNames()) {
    auto known = PreTokenizerByName(name);
    ASSERT_TRUE(known);
    kinds.push_back({name, PreTokenizerProbe(known->chain), known->normal_forms, known->ignore_merges});
    EXPECT_GT(kinds.back().words.size(), 200u);
  }
  EXPECT_GE(kinds.size(), 15u);
  for (const Kind& a : kinds) {
    for (const Kind& b : kinds) {
      // glm4 and llama-bpe differ in the BOS alone, which a file says for itself.
      const bool twins = std::set{a.name, b.name} == std::set<std::string_view>{"glm4", "llama-bpe"};
      const bool same = a.words == b.words && a.forms == b.forms && a.ignore_merges == b.ignore_merges;
      EXPECT_EQ(same, a.name == b.name || twins) << a.name << " " << b.name;
    }
  }
}

TEST(GgufVocabulary, TypesAndPadding) {
  const std::string json = GoldenJson("deepseek_v3");
  TokenizerSpec spec;
  spec.tokenizer_json = json;
  auto v = GgufVocabularyOf(spec, 1200);
  ASSERT_TRUE(v) << v.error().message;
  ASSERT_EQ(v->tokens.size(), 1200u);
  ASSERT_EQ(v->token_types.size(), 1200u);
  EXPECT_EQ(v->tokens[900], "<｜begin▁of▁sentence｜>");
  EXPECT_EQ(v->token_types[900], 3);
  EXPECT_EQ(v->bos_id, 900);
  EXPECT_EQ(v->tokens[902], "<｜User｜>");
  EXPECT_EQ(v->token_types[902], 3);  // not flagged, but a mark
  EXPECT_EQ(v->tokens[1199], "[PAD1199]");
  EXPECT_EQ(v->token_types[1199], 5);
  EXPECT_EQ(v->token_types[40], 1);
  auto small = GgufVocabularyOf(spec, 901);
  ASSERT_FALSE(small);
  EXPECT_EQ(small.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(small.error().message, HasSubstr("the model has 901 tokens"));
}

TEST(GgufVocabulary, AnUnknownPreTokenizerIsRefusedUnlessNamed) {
  const std::string json = GoldenJson("odd_steps");
  TokenizerSpec spec;
  spec.tokenizer_json = json;
  auto v = GgufVocabularyOf(spec, 2000);
  ASSERT_FALSE(v);
  EXPECT_EQ(v.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(v.error().message, HasSubstr("deepseek-v3"));
  v = GgufVocabularyOf(spec, 2000, "deepseek-v3");
  ASSERT_TRUE(v) << v.error().message;
  EXPECT_EQ(v->pre, "deepseek-v3");
  EXPECT_EQ(GgufVocabularyOf(spec, 2000, "nobody").error().code, ErrorCode::kInvalidArgument);
}

TEST(GgufVocabulary, MergesAsPairsOrAsText) {
  nlohmann::json json = nlohmann::json::parse(GoldenJson("gpt2"));
  TokenizerSpec spec;
  const std::string text = json.dump();
  spec.tokenizer_json = text;
  const auto v = GgufVocabularyOf(spec, 1000);
  ASSERT_TRUE(v) << v.error().message;
  nlohmann::json other = nlohmann::json::array();
  for (const auto& merge : json["model"]["merges"]) {
    if (merge.is_array()) {
      other.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
    } else {
      const auto one = merge.get<std::string>();
      other.push_back({one.substr(0, one.find(' ')), one.substr(one.find(' ') + 1)});
    }
  }
  json["model"]["merges"] = other;
  const std::string text2 = json.dump();
  spec.tokenizer_json = text2;
  const auto w = GgufVocabularyOf(spec, 1000);
  ASSERT_TRUE(w) << w.error().message;
  EXPECT_EQ(v->merges, w->merges);
  EXPECT_GT(v->merges.size(), 100u);
}

TEST(GgufVocabulary, DeepseekV3sOwnFiles) {
  const auto dir = SharedDataDir() / "tokenizers" / "deepseek_v3";
  const std::string json = ReadFileForTest(dir / "tokenizer.json");
  if (json.empty()) GTEST_SKIP() << "no " << dir / "tokenizer.json";
  const std::string config = ReadFileForTest(dir / "tokenizer_config.json");
  TokenizerSpec spec;
  spec.tokenizer_json = json;
  spec.tokenizer_config_json = config;
  const Both both = LoadBoth(spec, 129280);
  EXPECT_EQ(both.vocabulary.pre, "deepseek-v3");
  ExpectSame(both, 200);
}

}  // namespace
}  // namespace fathom
