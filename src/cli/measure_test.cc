// Perplexity and bench on a fake engine, where the right figures are known.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "cli/bench_run.h"
#include "cli/fake_engine_for_test.h"
#include "cli/inspect.h"
#include "cli/options.h"
#include "eval/perplexity.h"
#include "cli/weight_traffic.h"

namespace fathom {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<TokenId> Text(int count) {
  std::vector<TokenId> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(i % 250);
  return tokens;
}

TEST(Perplexity, UniformModelHasThePerplexityOfItsVocabulary) {
  FakeEngine engine;
  const auto session = *engine.NewSession();
  const auto result = MeasurePerplexity(*session, Text(100), 259, {.window = 20}, {});
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_NEAR(result->perplexity, 259, 1e-9);
  EXPECT_NEAR(result->standard_error, 0, 1e-6);
  EXPECT_EQ(result->windows, 5);
  EXPECT_EQ(result->scored_tokens, 5 * 9);  // llama.cpp: window - 1 - window / 2 of each
}

TEST(Perplexity, EachTokenIsScoredByTheLogitsBeforeIt) {
  FakeEngine engine;
  // The model is sure that i is followed by i + 1; the text does so, but for one place.
  engine.script.logits = [](TokenId last) {
    std::vector<float> row(259, 0.0f);
    row[static_cast<size_t>(last + 1)] = 10.0f;
    return row;
  };
  const auto session = *engine.NewSession();
  std::vector<TokenId> tokens = Text(40);
  const double sure = std::log(std::exp(10.0) + 258) - 10, wrong = std::log(std::exp(10.0) + 258);
  auto result = MeasurePerplexity(*session, tokens, 259, {.window = 20}, {});
  EXPECT_NEAR(result->mean_nll, sure, 1e-6);
  tokens[35] = 200;  // token 35 and the one after it are now surprising; both are in the scored half
  result = MeasurePerplexity(*session, tokens, 259, {.window = 20}, {});
  EXPECT_NEAR(result->mean_nll * 18, 16 * sure + 2 * wrong, 1e-5);
  tokens = Text(40);
  tokens[5] = 200;  // in the first half: not scored
  result = MeasurePerplexity(*session, tokens, 259, {.window = 20}, {});
  EXPECT_NEAR(result->mean_nll, sure, 1e-6);
}

TEST(Perplexity, BosReplacesTheFirstTokenOfEachChunk) {
  FakeEngine engine;
  std::vector<TokenId> firsts;
  engine.script.on_eval = [&](std::span<const TokenId> tokens) { firsts.push_back(tokens.front()); };
  const auto session = *engine.NewSession();
  ASSERT_TRUE(MeasurePerplexity(*session, Text(60), 259, {.window = 20, .bos = FakeTokenizer::kBos}, {}));
  EXPECT_EQ(std::count(firsts.begin(), firsts.end(), FakeTokenizer::kBos), 3);
}

TEST(Perplexity, StrideScoresEveryTokenOnce) {
  FakeEngine engine;
  const auto session = *engine.NewSession();
  for (const int32_t stride : {1, 3, 7, 10, 19}) {
    const auto result = MeasurePerplexity(*session, Text(57), 259, {.window = 20, .stride = stride}, {});
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(result->scored_tokens, 56) << stride;  // all but the first
  }
}

TEST(Perplexity, Refusals) {
  FakeEngine engine;
  const auto session = *engine.NewSession();
  const auto short_text = MeasurePerplexity(*session, Text(10), 259, {.window = 20}, {});
  ASSERT_FALSE(short_text);
  EXPECT_THAT(short_text.error().message, HasSubstr("10 tokens"));
  EXPECT_FALSE(MeasurePerplexity(*session, Text(50), 259, {.window = 20, .stride = 20}, {}));
  EXPECT_FALSE(MeasurePerplexity(*session, Text(50), 259, {.window = 1}, {}));
  EXPECT_FALSE(MeasurePerplexity(*session, std::vector<TokenId>(50, 300), 259, {.window = 20}, {}));
  const auto stopped = MeasurePerplexity(*session, Text(50), 259, {.window = 20},
                                         [](int64_t, int64_t, const PerplexityResult&) { return false; });
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
}

TEST(Perplexity, LikelihoodIsStable) {
  const std::vector<float> huge = {1e30f, 0, 0};
  EXPECT_EQ(NegativeLogLikelihood(huge, 0), 0);
  EXPECT_GT(NegativeLogLikelihood(huge, 1), 1e29);
}

TEST(Bench, MeasuresEachDepthWithAFakeClock) {
  FakeEngine engine;
  engine.context = 5000;
  double now = 0;
  engine.script.on_eval = [&](std::span<const TokenId> tokens) {
    now += tokens.size() == 1 ? 0.5 : 0.01 * static_cast<double>(tokens.size());  // decode 2/s, prefill 100/s
  };
  std::vector<double> bandwidths = {8e9, 12e9};
  size_t asked = 0;
  BenchHooks hooks;
  hooks.now = [&] { return now; };
  hooks.bandwidth = [&] {
    now += 0.25;  // which is not the run's
    return bandwidths[asked++ % 2];
  };
  BenchParams params;
  params.prompt_tokens = 50;
  params.generated_tokens = 10;  // probed before tokens 0, 4 and 8 and at the end
  params.depths = {1000, 0};
  params.repetitions = 2;
  params.bytes_per_token = 1e9;
  params.operations_per_token = 5e9;
  hooks.arithmetic = [] { return 1e12; };
  const auto results = RunBench(engine, params, hooks);
  ASSERT_TRUE(results) << results.error().message;
  ASSERT_EQ(results->size(), 2u);
  EXPECT_EQ((*results)[0].depth, 1000);  // in the order asked for
  EXPECT_EQ((*results)[1].depth, 0);
  for (const DepthResult& result : *results) {
    EXPECT_NEAR(result.prefill.median, 100, 1e-6);
    EXPECT_NEAR(result.decode.median, 2, 1e-6);
    EXPECT_EQ(result.decode.all.size(), 2u);
    EXPECT_EQ(result.bandwidth.all.size(), 2u);
    EXPECT_NEAR(result.bandwidth.median, 9.6e9, 1);  // as many bytes at each rate
    const double bytes = 1e9 + 100.0 * (static_cast<double>(result.depth) + 5);
    EXPECT_NEAR(result.bytes_per_token, bytes, 1);
    EXPECT_NEAR(result.bandwidth_share.median, bytes * 2 / 9.6e9, 1e-9);
    EXPECT_NEAR(result.arithmetic_share.median, 5e9 * 100 / 1e12, 1e-9);
  }
}

TEST(Bench, DepthIsFilledOnce) {
  FakeEngine engine;
  engine.context = 5000;
  size_t evaluated = 0;
  engine.script.on_eval = [&](std::span<const TokenId> tokens) { evaluated += tokens.size(); };
  BenchParams params;
  params.prompt_tokens = 10;
  params.generated_tokens = 5;
  params.depths = {4000, 1000};
  params.repetitions = 3;
  ASSERT_TRUE(RunBench(engine, params, {}));
  EXPECT_LE(evaluated, 4000u + 2 * 3 * 15 + 20);
}

TEST(Bench, RooflinesComeFromRunsOfTheirOwn) {
  struct ProfiledEngine : FakeEngine {
    void UseProfile(Profile* to) override { profile = to; }
    Profile* profile = nullptr;
  };
  ProfiledEngine engine;
  int64_t unprofiled = 0;
  engine.script.on_eval = [&](std::span<const TokenId> tokens) {
    if (engine.profile == nullptr) {
      unprofiled += static_cast<int64_t>(tokens.size());
      return;
    }
    engine.profile->Start();
    engine.profile->counter()->int8 = 1e6 * static_cast<double>(tokens.size());
    engine.profile->Lap(Stage::kOutput);
  };
  BenchHooks hooks;
  hooks.ceilings = [] { return MachineCeilings{1e9, 2e9, 1e9, 1e9}; };
  BenchParams params;
  params.prompt_tokens = 20;
  params.generated_tokens = 5;
  params.repetitions = 1;
  auto results = RunBench(engine, params, hooks);
  ASSERT_TRUE(results);
  EXPECT_TRUE((*results)[0].prefill_roofline.rows.empty());
  const int64_t without = unprofiled;
  params.roofline = true;
  results = RunBench(engine, params, hooks);
  ASSERT_TRUE(results);
  EXPECT_EQ(unprofiled, 2 * without);  // what is reported as speed ran without a profile
  EXPECT_EQ(engine.profile, nullptr);
  ASSERT_EQ((*results)[0].prefill_roofline.rows.size(), 1u);
  EXPECT_DOUBLE_EQ((*results)[0].prefill_roofline.total.operations, 20e6);
  EXPECT_DOUBLE_EQ((*results)[0].decode_roofline.total.operations, 5e6);
}

TEST(Bench, Refusals) {
  FakeEngine engine;
  BenchParams params;
  params.depths = {990};
  EXPECT_FALSE(RunBench(engine, params, {}));  // context is 1000
  params.depths = {-1};
  EXPECT_FALSE(RunBench(engine, params, {}));
  params.depths = {0};
  params.prompt_tokens = params.generated_tokens = 0;
  EXPECT_FALSE(RunBench(engine, params, {}));
  params.prompt_tokens = 10;
  BenchHooks hooks;
  hooks.progress = [](const std::string&, int64_t, int64_t) { return false; };
  EXPECT_EQ(RunBench(engine, params, hooks).error().code, ErrorCode::kCancelled);
}

TEST(Bench, Spread) {
  EXPECT_EQ(SpreadOf({3, 1, 2}).median, 2);
  EXPECT_EQ(SpreadOf({4, 1}).median, 2.5);
  EXPECT_EQ(SpreadOf({4, 1}).least, 1);
  EXPECT_TRUE(SpreadOf({}).all.empty());
}

TensorInfo Tensor(const char* name, int64_t bytes) {
  TensorInfo tensor;
  tensor.name = name;
  tensor.bytes = bytes;
  return tensor;
}

TEST(WeightTraffic, CountsWhatATokenReads) {
  FakeModelFile model;
  model.config_.num_hidden_layers = 2;
  model.config_.moe.n_routed_experts = 8;
  model.config_.moe.num_experts_per_tok = 2;
  model.tensors_ = {Tensor("token_embd.weight", 1000), Tensor("output.weight", 500), Tensor("blk.0.attn_q.weight", 70),
                    Tensor("blk.1.ffn_gate_exps.weight", 800), Tensor("blk.1.ffn_up_shexp.weight", 30),
                    Tensor("blk.2.nextn.eh_proj.weight", 9999)};
  const WeightTraffic traffic = CountWeightTraffic(model);
  EXPECT_EQ(traffic.per_token(), 500 + 70 + 30 + 800 / 4);
  EXPECT_EQ(traffic.embedding_bytes, 1000);
  EXPECT_EQ(traffic.skipped_bytes, 9999);
}

TEST(WeightTraffic, TiedHeadReadsTheEmbedding) {
  FakeModelFile model;
  model.config_.num_hidden_layers = 1;
  model.config_.tie_word_embeddings = true;
  model.tensors_ = {Tensor("token_embd.weight", 1000), Tensor("blk.0.attn_q.weight", 70)};
  EXPECT_EQ(CountWeightTraffic(model).per_token(), 1070);
}

TEST(WeightTraffic, HuggingFaceNames) {
  FakeModelFile model;
  model.config_.num_hidden_layers = 1;
  model.config_.moe.n_routed_experts = 4;
  model.config_.moe.num_experts_per_tok = 1;
  model.tensors_ = {Tensor("model.embed_tokens.weight", 100), Tensor("lm_head.weight", 50),
                    Tensor("model.layers.0.mlp.experts.3.up_proj.weight", 40),
                    Tensor("model.layers.0.mlp.shared_experts.up_proj.weight", 7),
                    Tensor("model.layers.1.eh_proj.weight", 1234)};
  EXPECT_EQ(CountWeightTraffic(model).per_token(), 50 + 10 + 7);
}

TEST(Inspect, MemoryNeedsStopAtTheTrainedLength) {
  FakeModelFile model;
  model.config_.num_hidden_layers = 27;
  model.config_.mla.kv_lora_rank = 512;
  model.config_.mla.qk_rope_head_dim = 64;
  model.config_.max_position_embeddings = 163840;
  model.tensors_ = {Tensor("x", 1000)};
  EXPECT_EQ(KvBytesPerToken(model.config_), 576 * 27 * 2);
  auto needs = MemoryNeeds(model);
  ASSERT_EQ(needs.size(), 3u);
  EXPECT_EQ(needs[2].context, 163840);
  EXPECT_EQ(needs[0].total_bytes, 1000 + 4096 * 576 * 27 * 2);
  model.config_.max_position_embeddings = 2048;
  needs = MemoryNeeds(model);
  ASSERT_EQ(needs.size(), 1u);
  EXPECT_EQ(needs[0].context, 2048);
}

TEST(Options, LogitBias) {
  EXPECT_EQ(ParseLogitBias("12=-5.5")->first, 12);
  EXPECT_FLOAT_EQ(ParseLogitBias("12=-5.5")->second, -5.5f);
  EXPECT_FLOAT_EQ(ParseLogitBias("0=+2")->second, 2.0f);
  EXPECT_TRUE(std::isinf(ParseLogitBias("7=-inf")->second));
  for (const char* bad :
       {"", "=", "1=", "=1", "a=1", "1=b", "1=1x", "-1=1", "1 =1", "1=nan", "1=inf", "99999999999=1"}) {
    const auto bias = ParseLogitBias(bad);
    ASSERT_FALSE(bias) << bad;
    EXPECT_EQ(bias.error().code, ErrorCode::kInvalidArgument) << bad;
  }
}

}  // namespace
}  // namespace fathom
