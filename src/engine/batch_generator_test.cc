// Batches on the tiny golden models: the same answers as a lone session gives, whatever the batch's shape; limits,
// errors of single prompts, cancelling, shared beginnings.
#include "engine/batch_generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/source_dir_for_test.h"
#include "engine/batch_impl.h"

namespace fathom {
namespace {

using testing::HasSubstr;

const std::string kGolden = SourceDirForTest() + "/tests/golden/";

std::vector<TokenId> Ids(int count, int first) {
  std::vector<TokenId> ids(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) ids[static_cast<size_t>(i)] = 10 + (i * 37 + first * 11) % 200;
  return ids;
}

GenerationParams Greedy(int max_tokens) {
  GenerationParams params;
  params.sampling.temperature = 0;
  params.max_tokens = max_tokens;
  params.ignore_eos = true;
  return params;
}

std::unique_ptr<Engine> Load(const std::string& name, int32_t context = 200) {
  auto engine = Engine::Load(kGolden + name,
                             {.threads = 2, .context_length = context, .kv_type = KvType::kF32, .prefill_chunk = 64});
  EXPECT_TRUE(engine) << engine.error().message;
  return engine ? std::move(*engine) : nullptr;
}

struct Outcome {
  Status status;
  std::map<size_t, Result<GenerationResult>> results;
  BatchProgress last;
};
Outcome RunAll(Engine& engine, const BatchOptions& options, std::span<const BatchRequest> requests) {
  Outcome outcome;
  auto batch = engine.NewBatchGenerator(options);
  EXPECT_TRUE(batch) << batch.error().message;
  outcome.status = (*batch)->Run(
      requests,
      [&](size_t index, Result<GenerationResult> result) {
        EXPECT_TRUE(outcome.results.emplace(index, std::move(result)).second) << "prompt " << index << " twice";
      },
      [&](const BatchProgress& progress) {
        outcome.last = progress;
        return true;
      });
  return outcome;
}

class BatchGolden : public testing::TestWithParam<const char*> {};

TEST_P(BatchGolden, GreedyAnswersEqualALoneSessions) {
  const auto engine = Load(GetParam());
  ASSERT_NE(engine, nullptr);
  std::vector<BatchRequest> requests;
  for (int i = 0; i < 9; ++i) requests.push_back({Ids(1 + 13 * i, i), Greedy(1 + 5 * (i % 4))});
  std::vector<std::vector<TokenId>> expected;
  for (const BatchRequest& request : requests) {
    auto session = std::move(*engine->NewSession());
    auto result = session->Generate(request.prompt, request.params, {});
    ASSERT_TRUE(result);
    expected.push_back(result->tokens);
  }
  for (const auto& [sequences, step] : {std::pair{1, 4096}, {3, 16}, {4, 33}, {9, 4096}}) {
    Outcome outcome = RunAll(*engine, {.max_sequences = sequences, .step_tokens = step}, requests);
    ASSERT_TRUE(outcome.status) << outcome.status.error().message;
    ASSERT_EQ(outcome.results.size(), requests.size());
    for (size_t i = 0; i < requests.size(); ++i) {
      const auto& result = outcome.results.at(i);
      ASSERT_TRUE(result) << result.error().message;
      EXPECT_EQ(result->tokens, expected[i]) << "prompt " << i << ", " << sequences << " sequences, " << step;
      EXPECT_EQ(result->finish_reason, FinishReason::kLength);
      EXPECT_EQ(result->timings.prompt_tokens + result->timings.cached_tokens,
                static_cast<int64_t>(requests[i].prompt.size()));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, BatchGolden,
                         testing::Values("gguf/v3-mainline.gguf", "gguf/v2lite-mainline.gguf", "gguf/llama.gguf",
                                         "gguf/qwen2.gguf", "hf/kimi", "hf/v3_bf16"));

class BatchTest : public testing::Test {
 protected:
  void SetUp() override {
    engine_ = Load("gguf/v3-mainline.gguf");
    ASSERT_NE(engine_, nullptr);
  }
  std::vector<TokenId> Alone(const BatchRequest& request) {
    auto session = std::move(*engine_->NewSession());
    return session->Generate(request.prompt, request.params, {})->tokens;
  }
  std::unique_ptr<Engine> engine_;
};

TEST_F(BatchTest, ACommonBeginningIsComputedOnce) {
  std::vector<BatchRequest> requests;
  for (int i = 0; i < 12; ++i) {  // two groups of six, each with its own 70 tokens first
    auto prompt = Ids(70, i / 6);
    for (const TokenId token : Ids(5 + i, 20 + i)) prompt.push_back(token);
    requests.push_back({prompt, Greedy(6)});
  }
  requests.push_back({Ids(70, 1), Greedy(6)});  // the second beginning and nothing else
  const Outcome outcome = RunAll(*engine_, {.max_sequences = 4, .step_tokens = 32}, requests);
  ASSERT_TRUE(outcome.status);
  int64_t all = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(outcome.results.at(i)->tokens, Alone(requests[i])) << i;
    EXPECT_EQ(outcome.results.at(i)->timings.cached_tokens, i < 12 ? 70 : 69) << i;
    all += static_cast<int64_t>(requests[i].prompt.size());
  }
  EXPECT_EQ(outcome.last.cached_tokens, 12 * 70 + 69);
  EXPECT_EQ(outcome.last.prompt_tokens, all - outcome.last.cached_tokens + 2 * 70);
}

TEST_F(BatchTest, SampledAnswersEqualALoneSessionsWithTheSameSeed) {
  std::vector<BatchRequest> requests;
  for (int i = 0; i < 5; ++i) {
    requests.push_back({Ids(20, i), Greedy(12)});
    requests.back().params.sampling.temperature = 0.7f;
    requests.back().params.sampling.seed = 100 + static_cast<uint64_t>(i);
  }
  const Outcome outcome = RunAll(*engine_, {.max_sequences = 5}, requests);
  ASSERT_TRUE(outcome.status);
  for (size_t i = 0; i < requests.size(); ++i) EXPECT_EQ(outcome.results.at(i)->tokens, Alone(requests[i]));
}

TEST_F(BatchTest, APromptThatCannotBeAnsweredIsItsOwnError) {
  std::vector<BatchRequest> requests(6, {Ids(10, 1), Greedy(3)});
  requests[0].prompt = Ids(200, 1);  // as long as the context
  requests[2].prompt.clear();
  requests[3].prompt[4] = 1 << 30;
  requests[5].params.sampling.top_p = 7;
  const Outcome outcome = RunAll(*engine_, {.max_sequences = 2}, requests);
  ASSERT_TRUE(outcome.status);
  ASSERT_EQ(outcome.results.size(), 6u);
  EXPECT_EQ(outcome.results.at(0).error().code, ErrorCode::kResource);
  EXPECT_THAT(outcome.results.at(0).error().message, HasSubstr("200 tokens"));
  EXPECT_EQ(outcome.results.at(2).error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(outcome.results.at(3).error().message, HasSubstr("1073741824"));
  EXPECT_THAT(outcome.results.at(5).error().message, HasSubstr("top_p"));
  EXPECT_EQ(outcome.results.at(1)->tokens, Alone(requests[1]));
  EXPECT_EQ(outcome.results.at(4)->tokens, Alone(requests[4]));
  EXPECT_EQ(outcome.last.finished, 6);
}

TEST_F(BatchTest, TheContextEndsAnAnswer) {
  std::vector<BatchRequest> requests = {{Ids(190, 1), Greedy(-1)}, {Ids(30, 2), Greedy(0)}};
  const Outcome outcome = RunAll(*engine_, {}, requests);
  ASSERT_TRUE(outcome.status);
  EXPECT_EQ(outcome.results.at(0)->finish_reason, FinishReason::kContext);
  EXPECT_EQ(outcome.results.at(0)->tokens, Alone(requests[0]));
  EXPECT_EQ(outcome.results.at(1)->finish_reason, FinishReason::kLength);
  EXPECT_TRUE(outcome.results.at(1)->tokens.empty());
}

TEST_F(BatchTest, KvMemoryIsBounded) {
  const int64_t block = engine_->memory().kv_bytes_per_token * KvLayout::kBlockTokens;
  std::vector<BatchRequest> requests;
  for (int i = 0; i < 8; ++i) requests.push_back({Ids(60, i), Greedy(20)});  // two blocks each
  requests.push_back({Ids(150, 3), Greedy(50)});                             // four blocks: never
  const Outcome outcome = RunAll(*engine_, {.max_sequences = 8, .kv_bytes = 3 * block}, requests);
  ASSERT_TRUE(outcome.status);
  for (size_t i = 0; i < 8; ++i) ASSERT_TRUE(outcome.results.at(i)) << outcome.results.at(i).error().message;
  EXPECT_EQ(outcome.results.at(8).error().code, ErrorCode::kResource);
  EXPECT_THAT(outcome.results.at(8).error().message, HasSubstr("192"));
  EXPECT_LE(engine_->memory().kv_allocated, 3 * block);
}

TEST_F(BatchTest, ASharedBeginningDoesNotOverdrawTheMemory) {
  const int64_t block = engine_->memory().kv_bytes_per_token * KvLayout::kBlockTokens;
  std::vector<BatchRequest> requests;
  for (int i = 0; i < 6; ++i) {
    auto prompt = Ids(100, 0);
    prompt.push_back(20 + i);
    requests.push_back({prompt, Greedy(8)});
  }
  for (const int64_t blocks : {2, 3, 4, 5, 8}) {
    auto engine = Load("gguf/v3-mainline.gguf");
    const Outcome outcome = RunAll(*engine, {.max_sequences = 8, .kv_bytes = blocks * block}, requests);
    ASSERT_TRUE(outcome.status);
    for (size_t i = 0; i < 6; ++i) EXPECT_EQ(outcome.results.at(i)->tokens, Alone(requests[i])) << blocks;
    EXPECT_LE(engine->memory().kv_allocated, blocks * block);
    EXPECT_EQ(outcome.last.cached_tokens > 0, blocks >= 4) << blocks;
  }
}

TEST_F(BatchTest, CancellingKeepsWhatWasFinished) {
  std::vector<BatchRequest> requests;
  for (int i = 0; i < 10; ++i) requests.push_back({Ids(10, i), Greedy(4)});
  auto batch = std::move(*engine_->NewBatchGenerator({.max_sequences = 2}));
  size_t finished = 0;
  const Status status = batch->Run(
      requests, [&](size_t, Result<GenerationResult> result) { finished += result.has_value(); },
      [&](const BatchProgress& progress) { return progress.finished < 4; });
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(finished, 4u);
}

TEST_F(BatchTest, StopStringsAndOptions) {
  BatchRequest request{Ids(10, 3), Greedy(30)};
  auto session = std::move(*engine_->NewSession());
  auto free = session->Generate(request.prompt, request.params, {});
  ASSERT_TRUE(free);
  if (engine_->tokenizer() != nullptr && free->content.size() > 6) {
    request.params.stop = {free->content.substr(4, 2)};
    auto stopped = session->Generate(request.prompt, request.params, {});
    const Outcome outcome = RunAll(*engine_, {}, {&request, 1});
    EXPECT_EQ(outcome.results.at(0)->content, stopped->content);
    EXPECT_EQ(outcome.results.at(0)->finish_reason, stopped->finish_reason);
  }
  EXPECT_FALSE(engine_->NewBatchGenerator({.max_sequences = 0}));
  EXPECT_FALSE(engine_->NewBatchGenerator({.step_tokens = 1}));
  EXPECT_FALSE(engine_->NewBatchGenerator({.kv_bytes = 0}));
}

TEST(CommonPrefix, CountsEqualTokens) {
  const std::vector<TokenId> a = {1, 2, 3, 4}, b = {1, 2, 5}, c;
  EXPECT_EQ(CommonPrefix(a, b), 2);
  EXPECT_EQ(CommonPrefix(a, a), 4);
  EXPECT_EQ(CommonPrefix(a, c), 0);
}

}  // namespace
}  // namespace fathom
