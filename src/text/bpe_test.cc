#include "text/bpe.h"

#include <gtest/gtest.h>

#include <map>

#include "text/text_test_data.h"

namespace fathom {
namespace {

TEST(ByteLevel, IsAOneToOneMapping) {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  std::string back;
  EXPECT_TRUE(ByteLevelToBytes(BytesToByteLevel(all), back));
  EXPECT_EQ(back, all);
  EXPECT_EQ(BytesToByteLevel(" \n"), "ĠĊ");
  back = "kept";
  EXPECT_FALSE(ByteLevelToBytes("ab｜", back));
  EXPECT_FALSE(ByteLevelToBytes("a b", back)) << "a space is written Ġ";
  EXPECT_EQ(back, "kept");
}

TEST(Vocabulary, FindsWhatWasAdded) {
  Vocabulary vocabulary;
  ASSERT_TRUE(vocabulary.Reserve(2000, 1999));
  for (TokenId id = 0; id < 2000; ++id) {
    ASSERT_TRUE(vocabulary.Add(id, "token" + std::to_string(id), Vocabulary::kWord));
    ASSERT_TRUE(vocabulary.Index(id));
  }
  for (TokenId id = 0; id < 2000; ++id) EXPECT_EQ(vocabulary.Find("token" + std::to_string(id)), id);
  EXPECT_EQ(vocabulary.Find("token2000"), -1);
  EXPECT_EQ(vocabulary.Find(""), -1);
  EXPECT_EQ(vocabulary.Bytes(2000), "");
  EXPECT_EQ(vocabulary.Bytes(-1), "");
  EXPECT_FALSE(vocabulary.Add(5, "again", 0));
  EXPECT_FALSE(Vocabulary().Reserve(10, 1'000'000'000)) << "no table of a billion entries for ten tokens";
  EXPECT_FALSE(Vocabulary().Reserve(10, (1 << 20) + 100));
}

// A vocabulary of random merges over four letters, and the definition of BPE written down as plainly as possible.
struct RandomBpe {
  Vocabulary vocabulary;
  std::unique_ptr<BpeModel> model;
  std::map<std::pair<std::string, std::string>, int> ranks;

  explicit RandomBpe(uint64_t seed, bool all_bytes = true) {
    RandomForTest random(seed);
    std::vector<std::string> tokens;
    for (int byte = 0; byte < 256; ++byte) {
      if (all_bytes || (byte >= 'a' && byte <= 'd')) tokens.push_back(std::string(1, static_cast<char>(byte)));
    }
    std::vector<std::string> pool = {"a", "b", "c", "d"};
    std::vector<std::pair<std::string, std::string>> merges;
    while (merges.size() < 300) {
      const std::string left = pool[random.Below(pool.size())], right = pool[random.Below(pool.size())];
      if (left.size() + right.size() > 12 || !ranks.emplace(std::pair(left, right), merges.size()).second) continue;
      merges.emplace_back(left, right);
      if (std::find(pool.begin(), pool.end(), left + right) == pool.end()) {
        pool.push_back(left + right);
        tokens.push_back(left + right);
      }
    }
    EXPECT_TRUE(vocabulary.Reserve(tokens.size(), static_cast<int64_t>(tokens.size()) - 1));
    for (size_t i = 0; i < tokens.size(); ++i) {
      EXPECT_TRUE(vocabulary.Add(static_cast<TokenId>(i), tokens[i], Vocabulary::kWord));
      EXPECT_TRUE(vocabulary.Index(static_cast<TokenId>(i)));
    }
    model = std::make_unique<BpeModel>(&vocabulary, 1, BpeModel::Options{});
    for (const auto& [left, right] : merges) EXPECT_TRUE(model->AddMerge(left, right));
    model->Finish();
  }

  std::vector<std::string> Plain(const std::string& word) const {
    std::vector<std::string> parts;
    for (char c : word) parts.push_back(std::string(1, c));
    for (;;) {
      int best = -1, rank = 1 << 30;
      for (size_t i = 0; i + 1 < parts.size(); ++i) {
        const auto it = ranks.find({parts[i], parts[i + 1]});
        if (it != ranks.end() && it->second < rank) rank = it->second, best = static_cast<int>(i);
      }
      if (best < 0) return parts;
      parts[best] += parts[best + 1];
      parts.erase(parts.begin() + best + 1);
    }
  }
  std::vector<std::string> Fast(const std::string& word) const {
    std::vector<TokenId> ids;
    model->Encode(word, ids);
    std::vector<std::string> parts;
    for (TokenId id : ids) parts.emplace_back(vocabulary.Bytes(id));
    return parts;
  }
};

TEST(Bpe, EqualsItsDefinitionAtEveryLength) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    const RandomBpe bpe(seed);
    RandomForTest random(seed + 100);
    for (size_t length = 0; length < 130; ++length) {
      for (int repeat = 0; repeat < 12; ++repeat) {
        std::string word;
        for (size_t i = 0; i < length; ++i) word += static_cast<char>('a' + random.Below(repeat % 3 == 0 ? 1 : 4));
        ASSERT_EQ(bpe.Fast(word), bpe.Plain(word)) << word;
        ASSERT_EQ(bpe.Fast(word), bpe.Plain(word)) << "the second time, from the memo: " << word;
      }
    }
  }
}

TEST(Bpe, LeavesOutBytesThatTheVocabularyLacks) {
  const RandomBpe bpe(1, /*all_bytes=*/false);
  EXPECT_EQ(bpe.Fast("aZb"), bpe.Fast("ab")) << "as the authors' code without an unknown token";
  EXPECT_TRUE(bpe.Fast("ZZZ").empty());
}

TEST(Bpe, SaysBytesThatNoUtf8HasAsU_FFFD) {
  Vocabulary vocabulary;
  ASSERT_TRUE(vocabulary.Reserve(256, 255));
  for (int byte = 0; byte < 256; ++byte) {
    if (byte == 0xFF || byte == 0xC0) continue;
    ASSERT_TRUE(vocabulary.Add(byte, std::string(1, static_cast<char>(byte)), Vocabulary::kWord));
    vocabulary.Index(byte);
  }
  BpeModel model(&vocabulary, 0, {});
  model.Finish();
  std::vector<TokenId> ids;
  model.Encode("a\xff\xc0\xfe", ids);
  EXPECT_EQ(ids, (std::vector<TokenId>{'a', 0xEF, 0xBF, 0xBD, 0xEF, 0xBF, 0xBD, 0xFE}));
}

TEST(Bpe, AMegabyteWordTakesNLogN) {
  const RandomBpe bpe(2);
  std::string word;
  RandomForTest random(5);
  for (int i = 0; i < 1'000'000; ++i) word += static_cast<char>('a' + random.Below(4));
  const auto parts = bpe.Fast(word);  // where it is quadratic, the test runner's time limit tells
  std::string joined;
  for (const std::string& part : parts) joined += part;
  EXPECT_EQ(joined, word);
  EXPECT_LT(parts.size(), word.size());
}

TEST(Bpe, RefusesMergesOfAbsentTokens) {
  Vocabulary vocabulary;
  ASSERT_TRUE(vocabulary.Reserve(3, 2));
  for (TokenId id = 0; id < 3; ++id) {
    ASSERT_TRUE(vocabulary.Add(id, std::string(1, static_cast<char>('a' + id)), Vocabulary::kWord));
    vocabulary.Index(id);
  }
  BpeModel model(&vocabulary, 1, {});
  auto status = model.AddMerge("a", "z");
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find("\"z\""), std::string::npos);
  status = model.AddMerge("a", "b");
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find("\"ab\""), std::string::npos);
}

}  // namespace
}  // namespace fathom
