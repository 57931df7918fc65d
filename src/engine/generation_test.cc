// The limit of reasoning: with bytes for tokens and a model that says what a script says.
#include "engine/generation.h"

#include <gtest/gtest.h>

namespace fathom {
namespace {

// 256 bytes, then </think> when `mark`, then an end token.
class ByteTokenizer final : public Tokenizer {
 public:
  explicit ByteTokenizer(bool mark) : mark_(mark) {
    for (int i = 0; i < 256; ++i) bytes_ += static_cast<char>(i);
  }
  static constexpr TokenId kMark = 256, kEnd = 257;
  using Tokenizer::Encode;
  void Encode(std::string_view text, TextTrust, std::vector<TokenId>& out) const override {
    for (const char c : text) out.push_back(static_cast<unsigned char>(c));
  }
  std::string_view TokenBytes(TokenId id) const override {
    if (id < 0 || id > kEnd) return {};
    return id < 256 ? std::string_view(bytes_).substr(static_cast<size_t>(id), 1) : id == kMark ? "</think>" : "<end>";
  }
  bool IsControl(TokenId id) const override { return id == kEnd; }
  bool IsEndOfGeneration(TokenId id) const override { return id == kEnd; }
  TokenId FindToken(std::string_view text) const override { return mark_ && text == "</think>" ? kMark : -1; }
  int32_t vocab_size() const override { return 258; }
  TokenId bos_id() const override { return -1; }
  TokenId eos_id() const override { return kEnd; }
  bool add_bos() const override { return false; }

 private:
  bool mark_;
  std::string bytes_;
};

struct Said {
  GenerationResult result;
  int64_t reasoning_tokens = 0;
  std::string emitted_reasoning, emitted_content;
};

// Lets the model say `script` byte by byte (what it would say at each step, whether or not it is asked), then end.
Said Say(const Tokenizer* tokenizer, GenerationParams params, std::optional<int64_t> limit, const std::string& script) {
  params.sampling.temperature = 0;
  Generation generation(tokenizer, params, 1000);
  if (limit) generation.LimitThinking(*limit);
  Said said;
  std::vector<TokenId> held = {1};
  for (size_t i = 0; !generation.AtLimit(); ++i) {
    std::vector<float> logits(258, 0.0f);
    logits[i < script.size() ? static_cast<unsigned char>(script[i]) : static_cast<size_t>(ByteTokenizer::kEnd)] = 9;
    const auto next = generation.Next(logits, held, [&](const Emission& emission) {
      said.emitted_reasoning += emission.reasoning;
      said.emitted_content += emission.content;
      return true;
    });
    if (!next) break;
    held.push_back(*next);
  }
  said.reasoning_tokens = generation.reasoning_tokens();
  said.result = generation.Finish([&](const Emission& emission) {
    said.emitted_reasoning += emission.reasoning;
    said.emitted_content += emission.content;
    return true;
  });
  EXPECT_EQ(said.emitted_reasoning, said.result.reasoning);
  EXPECT_EQ(said.emitted_content, said.result.content);
  return said;
}

GenerationParams Thinking() {
  GenerationParams params;
  params.starts_in_thinking = true;
  return params;
}

TEST(ThinkingLimit, ClosesTheReasoningWithOneMark) {
  const ByteTokenizer tokenizer(true);
  const Said said = Say(&tokenizer, Thinking(), 5, "aaaaaaaaaaaa");
  EXPECT_EQ(said.result.reasoning, "aaaaa");
  EXPECT_EQ(said.result.content, "aaaaaa");  // one of the twelve was spoken over by the mark
  EXPECT_EQ(said.reasoning_tokens, 5);
  EXPECT_EQ(said.result.tokens[5], ByteTokenizer::kMark);
}

TEST(ThinkingLimit, ClosesItWithSeveralTokens) {
  const ByteTokenizer tokenizer(false);
  const Said said = Say(&tokenizer, Thinking(), 5, std::string(20, 'a'));
  EXPECT_EQ(said.result.reasoning, "aaaaa");
  EXPECT_EQ(said.result.content, "aaaaaaa");  // 20 less 5 less the eight bytes of the mark
  EXPECT_EQ(said.reasoning_tokens, 5);
}

TEST(ThinkingLimit, OfNothingClosesAtOnce) {
  const ByteTokenizer tokenizer(true);
  const Said said = Say(&tokenizer, Thinking(), 0, "aaaa");
  EXPECT_EQ(said.result.reasoning, "");
  EXPECT_EQ(said.result.content, "aaa");
  EXPECT_EQ(said.reasoning_tokens, 0);
}

TEST(ThinkingLimit, DoesNothingToReasoningThatEndsByItself) {
  const ByteTokenizer tokenizer(true);
  const Said said = Say(&tokenizer, Thinking(), 50, "hm</think>yes");
  EXPECT_EQ(said.result.reasoning, "hm");
  EXPECT_EQ(said.result.content, "yes");
}

TEST(ThinkingLimit, DoesNothingToAnAnswerWithoutReasoning) {
  const ByteTokenizer tokenizer(true);
  const Said said = Say(&tokenizer, {}, 0, "plain words");
  EXPECT_EQ(said.result.content, "plain words");
  EXPECT_EQ(said.reasoning_tokens, 0);
}

TEST(ThinkingLimit, HoldsForReasoningThatTheModelOpens) {
  const ByteTokenizer tokenizer(true);
  const Said said = Say(&tokenizer, {}, 3, "<think>aaaaaaaa");
  // The token that completes the opening mark is inside already.
  EXPECT_EQ(said.result.reasoning, "aa");
  EXPECT_EQ(said.result.content, "aaaaa");
  EXPECT_EQ(said.reasoning_tokens, 3);
}

TEST(ThinkingLimit, CountsWithoutALimit) {
  const ByteTokenizer tokenizer(true);
  EXPECT_EQ(Say(&tokenizer, Thinking(), std::nullopt, "aaaa").reasoning_tokens, 4);
}

TEST(ThinkingLimit, HoldsWhereReasoningIsNotSplitOff) {
  const ByteTokenizer tokenizer(true);
  auto params = Thinking();
  params.parse_reasoning = false;
  const Said said = Say(&tokenizer, params, 2, "aaaaa");
  EXPECT_EQ(said.result.content, "aa</think>aa");
  EXPECT_EQ(said.result.reasoning, "");
}

TEST(ThinkingLimit, MaxTokensComesFirst) {
  const ByteTokenizer tokenizer(false);
  auto params = Thinking();
  params.max_tokens = 4;
  const Said said = Say(&tokenizer, params, 2, "aaaaaaaa");
  EXPECT_EQ(said.result.tokens.size(), 4u);
  EXPECT_EQ(said.result.finish_reason, FinishReason::kLength);
}

TEST(ThinkingLimit, WithoutATokenizerNothingIsKnown) {
  const Said said = Say(nullptr, [] { auto p = Thinking(); p.max_tokens = 3; return p; }(), 0, "aaaa");
  EXPECT_EQ(said.result.tokens, (std::vector<TokenId>{'a', 'a', 'a'}));
}

TEST(GenerationCancel, EndsAndGivesWhatWasHeldBack) {
  const ByteTokenizer tokenizer(true);
  GenerationParams params;
  params.sampling.temperature = 0;
  params.stop = {"abc"};
  Generation generation(&tokenizer, params, 100);
  std::vector<float> logits(258, 0.0f);
  logits['a'] = 1;
  std::string shown;
  const auto emit = [&](const Emission& e) { shown += e.content; return true; };
  EXPECT_EQ(generation.Next(logits, std::vector<TokenId>{1}, emit), 'a');
  EXPECT_EQ(shown, "");  // may begin the stop string
  generation.Cancel();
  const auto result = generation.Finish(emit);
  EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(shown, "a");
  EXPECT_EQ(result.content, "a");
}

}  // namespace
}  // namespace fathom
