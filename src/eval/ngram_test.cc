#include "eval/ngram.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>
#include <string>

namespace fathom {
namespace {

std::vector<uint32_t> Symbols(const std::string& text) {
  std::vector<uint32_t> out;
  for (const char c : text) out.push_back(static_cast<uint32_t>(c - 'a'));
  return out;
}

NgramModel Trained(int order, uint32_t vocab, const std::vector<std::vector<uint32_t>>& texts,
                   int64_t memory = 64 << 20) {
  NgramModel model = *NgramModel::Create(order, vocab, memory);
  for (const auto& text : texts) EXPECT_EQ(model.Train(text), text.size());
  model.Finish();
  return model;
}

// Bigrams of "abab ac" by hand, over {a, b, c}; the counts of counts are too few, so D = (0.5, 1, 1.5).
//   ab 2, ba 2, ac 1.  Symbols before: a {b}, b {a}, c {a}: continuation counts 1, 1, 1, in all 3 kinds of bigrams.
TEST(NgramModel, BigramsByHand) {
  const NgramModel model = Trained(2, 3, {Symbols("ababac")});
  // Unigrams: (1 - 0.5) / 3 + (3 * 0.5 / 3) / 3 = 1/6 + 1/6 for each.
  for (uint32_t s = 0; s < 3; ++s) EXPECT_NEAR(model.Probability({}, s), 1.0 / 3, 1e-12);
  const std::vector<uint32_t> a = {0}, b = {1}, c = {2};
  // After a: ab 2, ac 1, in all 3. gamma = (1 of count 1: 0.5, 1 of count 2: 1.0) / 3 = 0.5.
  EXPECT_NEAR(model.Probability(a, 1), (2 - 1.0) / 3 + 0.5 / 3, 1e-12);
  EXPECT_NEAR(model.Probability(a, 2), (1 - 0.5) / 3 + 0.5 / 3, 1e-12);
  EXPECT_NEAR(model.Probability(a, 0), 0.5 / 3, 1e-12);
  // After b: ba 2 of 2. gamma = 1.0 / 2.
  EXPECT_NEAR(model.Probability(b, 0), (2 - 1.0) / 2 + 0.5 / 3, 1e-12);
  // c was never followed: the unigrams.
  EXPECT_NEAR(model.Probability(c, 0), 1.0 / 3, 1e-12);
  EXPECT_NEAR(model.Bits(Symbols("ab")), -std::log2(1.0 / 3) - std::log2(0.5), 1e-12);
}

// The definition, with maps of strings: the same model without hashes or increments.
class Naive {
 public:
  using Gram = std::vector<uint32_t>;
  Naive(int order, uint32_t vocab, const std::vector<Gram>& texts)
      : vocab_(vocab), counts_(static_cast<size_t>(order)) {
    const auto n = static_cast<size_t>(order);
    for (const auto& text : texts)
      for (size_t i = 0; i + n <= text.size(); ++i) ++counts_[n - 1][Gram(text.begin() + i, text.begin() + i + n)];
    for (size_t k = n - 1; k > 0; --k)
      for (const auto& [gram, count] : counts_[k]) ++counts_[k - 1][Gram(gram.begin() + 1, gram.end())];
  }
  std::array<double, 3> Discounts(size_t order) const {
    double n[5] = {};
    for (const auto& [gram, count] : counts_[order - 1])
      if (count <= 4) n[count] += 1;
    if (n[1] * n[2] * n[3] * n[4] == 0) return {0.5, 1, 1.5};
    const double y = n[1] / (n[1] + 2 * n[2]);
    std::array<double, 3> d = {1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]};
    const std::array<double, 3> plain = {0.5, 1, 1.5};
    for (size_t k = 0; k < 3; ++k)
      if (d[k] <= 0) d[k] = plain[k];
    return d;
  }
  double P(Gram context, uint32_t symbol, size_t order) const {
    if (order == 0) return 1.0 / vocab_;
    Gram shorter = context.empty() ? context : Gram(context.begin() + 1, context.end());
    const double below = P(shorter, symbol, order - 1);
    const auto d = Discounts(order);
    double total = 0, left = 0, own = 0;
    for (const auto& [gram, count] : counts_[order - 1]) {
      if (!std::equal(context.begin(), context.end(), gram.begin())) continue;
      total += count;
      left += d[static_cast<size_t>(std::min(count, 3) - 1)];
      if (gram.back() == symbol) own = count - d[static_cast<size_t>(std::min(count, 3) - 1)];
    }
    return total == 0 ? below : own / total + left / total * below;
  }

 private:
  uint32_t vocab_;
  std::vector<std::map<Gram, int>> counts_;
};

TEST(NgramModel, EqualsTheDefinition) {
  std::mt19937 random(5);
  std::vector<std::vector<uint32_t>> texts(3);
  for (auto& text : texts) {
    uint32_t last = 0;
    for (int i = 0; i < 150; ++i) text.push_back(last = random() % 3 == 0 ? random() % 6 : (last * 2 + 1) % 6);
  }
  for (const int order : {1, 2, 3, 5}) {
    const NgramModel model = Trained(order, 7, texts);
    const Naive naive(order, 7, texts);
    for (int k = 1; k <= order; ++k) {
      for (size_t i = 0; i < 3; ++i) {
        EXPECT_NEAR(model.discounts(k)[i], naive.Discounts(static_cast<size_t>(k))[i], 1e-12) << order << " " << k;
      }
    }
    for (int trial = 0; trial < 60; ++trial) {
      std::vector<uint32_t> context;
      const size_t start = random() % 100;
      for (int i = 0; i < order - 1; ++i) context.push_back(texts[0][start + static_cast<size_t>(i)]);
      if (!context.empty() && trial % 3 == 0) context[0] = 6;  // never seen
      const uint32_t symbol = random() % 7;
      EXPECT_NEAR(model.Probability(context, symbol), naive.P(context, symbol, static_cast<size_t>(order)), 1e-12);
    }
  }
}

TEST(NgramModel, ProbabilitiesSumToOne) {
  std::mt19937 random(9);
  std::vector<uint32_t> text;
  for (int i = 0; i < 20000; ++i) {
    const uint32_t last = text.empty() ? 0 : text.back();
    text.push_back(random() % 4 == 0 ? random() % 256 : (last * last + 17) % 97);
  }
  const NgramModel model = Trained(5, 256, {text});
  for (size_t at = 0; at < 2000; at += 61) {
    for (size_t length = 0; length <= 6; ++length) {
      const std::span<const uint32_t> context(text.data() + at, length);
      double sum = 0;
      for (uint32_t s = 0; s < 256; ++s) {
        const double p = model.Probability(context, s);
        EXPECT_GT(p, 0);
        sum += p;
      }
      EXPECT_NEAR(sum, 1, 1e-9) << at << " " << length;
    }
  }
}

TEST(NgramModel, MemoryIsBounded) {
  std::mt19937 random(3);
  std::vector<uint32_t> text(300000);
  for (auto& symbol : text) symbol = random() % 5000;
  constexpr int64_t kMemory = 4 << 20;
  NgramModel model = *NgramModel::Create(5, 5000, kMemory);
  const size_t taken = model.Train(text);
  EXPECT_TRUE(model.full());
  EXPECT_GT(taken, 5000u);
  EXPECT_LT(taken, text.size());
  EXPECT_LE(model.memory_bytes(), kMemory);
  EXPECT_EQ(model.Train(text), 0u);
  model.Finish();
  double sum = 0;
  for (uint32_t s = 0; s < 5000; ++s) sum += model.Probability(std::span(text).first(4), s);
  EXPECT_NEAR(sum, 1, 1e-9);
}

TEST(NgramModel, LearnsWhatRepeats) {
  std::string text;
  for (int i = 0; i < 400; ++i) text += "abcdefg";
  const NgramModel model = Trained(5, 26, {Symbols(text)});
  EXPECT_LT(model.Bits(Symbols("abcdefgabcdefgabcdefg")) / 21, 1.0);
  EXPECT_GT(model.Bits(Symbols("gfedcbagfedcbagfedcba")) / 21, 4.0);
}

TEST(NgramModel, Refusals) {
  EXPECT_FALSE(NgramModel::Create(0, 10, 1 << 30));
  EXPECT_FALSE(NgramModel::Create(9, 10, 1 << 30));
  EXPECT_FALSE(NgramModel::Create(5, 0, 1 << 30));
  EXPECT_FALSE(NgramModel::Create(5, 10, 1000));
  NgramModel model = *NgramModel::Create(3, 10, 1 << 30);
  EXPECT_EQ(model.Train(std::vector<uint32_t>{1, 2}), 2u);  // too short for a trigram: nothing is learnt
  model.Finish();
  EXPECT_NEAR(model.Probability({}, 3), 0.1, 1e-12);
}

}  // namespace
}  // namespace fathom
