// Sessions on a tiny model (tests/golden/gguf): limits, reuse, cancelling, stopping. What the numbers should be is
// golden_test.cc's business.
#include <gtest/gtest.h>

#include <numeric>

#include "base/source_dir_for_test.h"
#include "engine/engine.h"
#include "model/profile.h"

namespace fathom {
namespace {

const std::string kModel = SourceDirForTest() + "/tests/golden/gguf/v3-mainline.gguf";

class SessionTest : public testing::Test {
 protected:
  void SetUp() override { Load({.threads = 2, .context_length = 100, .prefill_chunk = 16}); }
  void Load(const EngineOptions& options) {
    session_.reset();
    auto engine = Engine::Load(kModel, options);
    ASSERT_TRUE(engine) << engine.error().message;
    engine_ = std::move(*engine);
    session_ = std::move(*engine_->NewSession());
  }
  static std::vector<TokenId> Ids(int count, int first = 5) {
    std::vector<TokenId> ids(count);
    for (int i = 0; i < count; ++i) ids[i] = 10 + (i * 37 + first) % 200;
    return ids;
  }
  static GenerationParams Greedy(int max_tokens) {
    GenerationParams params;
    params.sampling.temperature = 0;
    params.max_tokens = max_tokens;
    params.ignore_eos = true;
    return params;
  }

  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Session> session_;
};

TEST_F(SessionTest, AProfileCountsEveryStageAndChangesNothing) {
  const auto prompt = Ids(40);
  ASSERT_TRUE(session_->Eval(prompt));
  const std::vector<float> expected(session_->logits().begin(), session_->logits().end());
  session_->Truncate(0);
  Profile profile;
  engine_->UseProfile(&profile);
  ASSERT_TRUE(session_->Eval(prompt));
  engine_->UseProfile(nullptr);
  EXPECT_EQ(std::vector<float>(session_->logits().begin(), session_->logits().end()), expected);

  const int64_t passes = 3, layers = engine_->config().num_hidden_layers;  // chunks of 16
  EXPECT_EQ(profile.of(Stage::kHead).calls, passes);
  EXPECT_EQ(profile.of(Stage::kAttention).calls, passes * layers);
  EXPECT_EQ(profile.of(Stage::kOutput).calls, passes * layers);
  const WorkCount& attention = profile.of(Stage::kAttention).work;
  const ModelConfig& config = engine_->config();
  const int64_t values = config.num_attention_heads * (config.mla.latent_dim() + config.mla.kv_lora_rank);
  EXPECT_DOUBLE_EQ(attention.operations(), 2.0 * static_cast<double>(layers * values) * 40 * 41 / 2);
  EXPECT_GT(attention.bytes, 0);
  // Only the last token's logits are made, and only of the last chunk.
  EXPECT_DOUBLE_EQ(profile.of(Stage::kHead).work.operations(),
                   2.0 * static_cast<double>(config.vocab_size) * static_cast<double>(config.hidden_size));
  EXPECT_EQ(profile.of(Stage::kSwiGlu).work.operations(), 0);
  double seconds = 0;
  for (int i = 0; i < kStages; ++i) seconds += profile.of(static_cast<Stage>(i)).seconds;
  EXPECT_GT(seconds, 0);
  ASSERT_TRUE(session_->Eval(Ids(1)));  // nobody counts any more
  EXPECT_EQ(profile.of(Stage::kHead).calls, passes);
}

TEST_F(SessionTest, KnownPrefixesAreNotComputedAgain) {
  const auto prompt = Ids(40);
  auto first = session_->Generate(prompt, Greedy(8), {});
  ASSERT_TRUE(first);
  EXPECT_EQ(first->timings.prompt_tokens, 40);
  EXPECT_EQ(first->timings.cached_tokens, 0);

  // The same again: only the last token's logits are needed.
  auto again = session_->Generate(prompt, Greedy(8), {});
  ASSERT_TRUE(again);
  EXPECT_EQ(again->tokens, first->tokens);
  EXPECT_EQ(again->timings.cached_tokens, 39);

  // Prompt and answer and more: all but the answer's last token (never evaluated) is known.
  auto longer = prompt;
  longer.insert(longer.end(), first->tokens.begin(), first->tokens.end());
  const auto more = Ids(5, 77);
  longer.insert(longer.end(), more.begin(), more.end());
  auto turn = session_->Generate(longer, Greedy(8), {});
  ASSERT_TRUE(turn);
  EXPECT_EQ(turn->timings.cached_tokens, 47);
  auto fresh = std::move(*engine_->NewSession());
  EXPECT_EQ(fresh->Generate(longer, Greedy(8), {})->tokens, turn->tokens);

  // A prompt that leaves the known path in the middle.
  auto other = prompt;
  other[20] = 7;
  auto branch = session_->Generate(other, Greedy(8), {});
  ASSERT_TRUE(branch);
  EXPECT_EQ(branch->timings.cached_tokens, 20);
  fresh = std::move(*engine_->NewSession());
  EXPECT_EQ(fresh->Generate(other, Greedy(8), {})->tokens, branch->tokens);
}

TEST_F(SessionTest, ContextLimits) {
  auto too_long = session_->Generate(Ids(100), Greedy(4), {});
  ASSERT_FALSE(too_long);
  EXPECT_EQ(too_long.error().code, ErrorCode::kResource);
  EXPECT_NE(too_long.error().message.find("100 tokens"), std::string::npos) << too_long.error().message;
  auto full = session_->Generate(Ids(95), Greedy(50), {});
  ASSERT_TRUE(full);
  EXPECT_EQ(full->finish_reason, FinishReason::kContext);
  EXPECT_EQ(full->tokens.size(), 6u);  // five that fit, and one more that needs no place
  EXPECT_FALSE(session_->Eval(Ids(1)));
  EXPECT_EQ(session_->tokens().size(), 100u);
}

TEST_F(SessionTest, BadTokensChangeNothing) {
  ASSERT_TRUE(session_->Eval(Ids(10)));
  for (TokenId bad : {-1, engine_->config().vocab_size}) {
    auto status = session_->Eval({&bad, 1});
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(session_->tokens().size(), 10u);
  }
  EXPECT_FALSE(session_->Generate({}, Greedy(4), {}));
}

TEST_F(SessionTest, CancellingPrefillKeepsWholeChunks) {
  int calls = 0;
  int64_t last_done = 0;
  auto result = session_->Generate(Ids(60), Greedy(4), {}, [&](int64_t done, int64_t total) {
    EXPECT_GE(done, last_done);
    EXPECT_EQ(total, 60);
    last_done = done;
    return ++calls < 8;  // three layers a chunk: inside the third
  });
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(session_->tokens().size(), 32u);
  auto again = session_->Generate(Ids(60), Greedy(4), {});
  ASSERT_TRUE(again);
  EXPECT_EQ(again->timings.cached_tokens, 32);
  auto fresh = std::move(*engine_->NewSession());
  EXPECT_EQ(fresh->Generate(Ids(60), Greedy(4), {})->tokens, again->tokens);
}

TEST_F(SessionTest, CancellingDecode) {
  int seen = 0;
  auto result = session_->Generate(Ids(10), Greedy(50), [&](const Emission&) { return ++seen < 3; });
  ASSERT_TRUE(result);
  EXPECT_EQ(result->finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(result->tokens.size(), 3u);
}

TEST_F(SessionTest, EmissionsAddUpToTheResult) {
  std::string content, reasoning;
  std::vector<TokenId> tokens;
  auto params = Greedy(40);
  params.starts_in_thinking = true;
  auto result = session_->Generate(Ids(10), params, [&](const Emission& emission) {
    content += emission.content;
    reasoning += emission.reasoning;
    if (emission.token >= 0) tokens.push_back(emission.token);
    return true;
  });
  ASSERT_TRUE(result);
  EXPECT_EQ(content, result->content);
  EXPECT_EQ(reasoning, result->reasoning);
  EXPECT_EQ(tokens, result->tokens);
  EXPECT_FALSE(reasoning.empty());  // never closed
  EXPECT_TRUE(content.empty());
}

TEST_F(SessionTest, StopStringsAreNotShown) {
  auto free = session_->Generate(Ids(10), Greedy(40), {});
  ASSERT_TRUE(free);
  ASSERT_GT(free->content.size(), 6u);
  // A piece from the middle of what it says, on code point borders.
  size_t begin = free->content.size() / 2;
  while ((free->content[begin] & 0xc0) == 0x80) ++begin;
  size_t end = begin + 1;
  while (end < free->content.size() && (free->content[end] & 0xc0) == 0x80) ++end;
  const std::string stop = free->content.substr(begin, end - begin);
  auto params = Greedy(40);
  params.stop = {stop};
  auto stopped = session_->Generate(Ids(10), params, {});
  ASSERT_TRUE(stopped);
  EXPECT_EQ(stopped->finish_reason, FinishReason::kStop);
  EXPECT_EQ(stopped->content, free->content.substr(0, free->content.find(stop)));
}

TEST_F(SessionTest, SameSeedSameText) {
  GenerationParams params;
  params.sampling.temperature = 1.5f;
  params.sampling.seed = 11;
  params.max_tokens = 20;
  params.ignore_eos = true;
  auto a = session_->Generate(Ids(10), params, {});
  auto b = session_->Generate(Ids(10), params, {});
  ASSERT_TRUE(a && b);
  EXPECT_EQ(a->tokens, b->tokens);
  EXPECT_EQ(a->seed, 11u);
  params.sampling.top_p = 7;
  auto bad = session_->Generate(Ids(10), params, {});
  ASSERT_FALSE(bad);
  EXPECT_NE(bad.error().message.find("top_p"), std::string::npos);
}

TEST_F(SessionTest, ChunkSizeDoesNotMatter) {
  std::vector<TokenId> expected;
  for (int chunk : {1, 5, 512}) {
    Load({.threads = 2, .context_length = 100, .prefill_chunk = chunk});
    auto result = session_->Generate(Ids(60), Greedy(20), {});
    ASSERT_TRUE(result);
    if (expected.empty()) expected = result->tokens;
    EXPECT_EQ(result->tokens, expected) << chunk;
  }
}

TEST_F(SessionTest, ThreadsDoNotChangeLogits) {
  std::vector<float> expected;
  for (int threads : {1, 2, 3}) {
    Load({.threads = threads});
    ASSERT_TRUE(session_->Eval(Ids(60)));
    const std::vector<float> logits(session_->logits().begin(), session_->logits().end());
    if (expected.empty()) expected = logits;
    EXPECT_EQ(logits, expected) << threads;
  }
}

TEST(EngineTest, OptionsOutOfRange) {
  EXPECT_FALSE(Engine::Load(kModel, {.threads = -1}));
  EXPECT_FALSE(Engine::Load(kModel, {.context_length = -5}));
  EXPECT_FALSE(Engine::Load(kModel, {.prefill_chunk = 0}));
  auto missing = Engine::Load("/nonexistent/model.gguf", {});
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().message.find("/nonexistent/model.gguf"), std::string::npos);
}

}  // namespace
}  // namespace fathom
