// Answers with guesses are those without, whatever is guessed: alone, in company, from the cache, however tokens are
// drawn and answers end. Guesses are forced, so that they happen on models of random weights too; a bias towards few
// tokens makes enough of them right and enough wrong.
#include <gtest/gtest.h>

#include <cstring>
#include <future>

#include "base/source_dir_for_test.h"
#include "engine/kv_cache_for_test.h"
#include "engine/service.h"

namespace fathom {
namespace {

const std::string kGolden = SourceDirForTest() + "/tests/golden/";

std::vector<TokenId> Ids(int count, int first) {
  std::vector<TokenId> ids(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) ids[static_cast<size_t>(i)] = 20 + (i * 7 + first * 11) % 9;
  return ids;
}

std::unique_ptr<Engine> Load(const std::string& name, SpeculationMode mode, int32_t forced, int32_t context = 300) {
  auto engine = Engine::Load(kGolden + name, {.threads = 2, .context_length = context, .kv_type = KvType::kBF16,
                                              .prefill_chunk = 64, .speculation = mode, .forced_draft = forced});
  EXPECT_TRUE(engine) << engine.error().message;
  return engine ? std::move(*engine) : nullptr;
}

// Ways to draw and to end.
std::vector<GenerationParams> Ways() {
  GenerationParams greedy;
  greedy.sampling.temperature = 0;
  greedy.sampling.seed = 1;
  greedy.max_tokens = 60;
  greedy.ignore_eos = true;
  std::vector<GenerationParams> ways = {greedy};
  GenerationParams few = greedy;  // few tokens, so that they repeat
  for (const TokenId id : {30, 31, 32}) few.sampling.logit_bias.push_back({id, 30.0f});
  ways.push_back(few);
  few.sampling.temperature = 1;
  for (const uint64_t seed : {7, 8, 9}) {
    few.sampling.seed = seed;
    ways.push_back(few);
  }
  GenerationParams penalties = few;
  penalties.sampling.repetition_penalty = 1.2f;
  penalties.sampling.presence_penalty = 0.5f;
  penalties.sampling.frequency_penalty = 0.3f;
  ways.push_back(penalties);
  penalties.sampling.top_k = 2;
  ways.push_back(penalties);
  GenerationParams ends = few;  // at its own end token, as soon as that is drawn
  ends.ignore_eos = false;
  ends.sampling.logit_bias.push_back({1, 28.0f});
  ways.push_back(ends);
  GenerationParams shorter = few;
  for (const int32_t most : {0, 1, 2, 17}) {
    shorter.max_tokens = most;
    ways.push_back(shorter);
  }
  GenerationParams full = few;  // until the context is full
  full.max_tokens = -1;
  ways.push_back(full);
  GenerationParams replay = few;
  for (int i = 0; i < 50; ++i) replay.replay.push_back(40 + (i * i) % 5);
  ways.push_back(replay);
  return ways;
}

void ExpectSame(const GenerationResult& a, const GenerationResult& b) {
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.content, b.content);
  EXPECT_EQ(a.reasoning, b.reasoning);
  EXPECT_EQ(a.finish_reason, b.finish_reason);
}

struct Case {
  const char* model;
  SpeculationMode mode;
};

class Speculate : public testing::TestWithParam<Case> {};

TEST_P(Speculate, ASessionsAnswersAndWhatItHoldsAfterwards) {
  const auto plain = Load(GetParam().model, SpeculationMode::kOff, 0);
  int64_t drafted = 0, accepted = 0;
  for (const int32_t forced : {1, 3, 16}) {
    const auto engine = Load(GetParam().model, GetParam().mode, forced);
    ASSERT_TRUE(plain && engine);
    int way = 0;
    for (const GenerationParams& params : Ways()) {
      SCOPED_TRACE(testing::Message() << "way " << way++ << ", drafts of " << forced);
      const auto a = std::move(*plain->NewSession()), b = std::move(*engine->NewSession());
      const auto expected = a->Generate(Ids(70, way), params, {});
      std::vector<TokenId> emitted;
      const auto result = b->Generate(Ids(70, way), params, [&](const Emission& e) {
        if (e.token >= 0) emitted.push_back(e.token);
        return true;
      });
      ASSERT_TRUE(expected && result);
      ExpectSame(*result, *expected);
      EXPECT_EQ(expected->timings.draft_tokens, 0);
      drafted += result->timings.draft_tokens;
      accepted += result->timings.draft_accepted;
      EXPECT_LE(result->timings.draft_accepted, result->timings.draft_tokens);
      // Held: the same tokens, with the same rows (to the bit) and logits.
      ASSERT_TRUE(std::equal(a->tokens().begin(), a->tokens().end(), b->tokens().begin(), b->tokens().end()));
      ASSERT_EQ(a->logits().size(), b->logits().size());
      EXPECT_EQ(std::memcmp(a->logits().data(), b->logits().data(), a->logits().size_bytes()), 0);
      if (a->tokens().size() < 290) {
        ASSERT_TRUE(a->Eval(Ids(5, 3)) && b->Eval(Ids(5, 3)));
        EXPECT_EQ(std::memcmp(a->logits().data(), b->logits().data(), a->logits().size_bytes()), 0);
      }
    }
  }
  EXPECT_GT(accepted, 50);  // both ways were gone, many times; how often is the random model's business
  EXPECT_GT(drafted - accepted, 50);
}

// A service's answers, in company, are a plain session's; so is what it has kept for the next turn.
TEST_P(Speculate, AnswersInCompanyAndFromTheCache) {
  const auto plain = Load(GetParam().model, SpeculationMode::kOff, 0);
  const auto engine = Load(GetParam().model, GetParam().mode, 4);
  ASSERT_TRUE(plain && engine);
  const auto alone = [&](const std::vector<TokenId>& prompt, const GenerationParams& params) {
    auto result = std::move(*plain->NewSession())->Generate(prompt, params, {});
    EXPECT_TRUE(result);
    return std::move(*result);
  };
  const int64_t block_bytes = engine->memory().kv_bytes_per_token * KvLayout::kBlockTokens;
  for (const int64_t blocks : {int64_t{0}, int64_t{14}}) {  // plenty of memory, and too little for all at once
    ServiceOptions options{.max_sequences = 8, .step_tokens = 40};
    options.cache.memory_bytes = blocks * block_bytes;
    options.make_cache = [&](const KvSpace&, KvPool& pool) -> Result<std::unique_ptr<KvCache>> {
      return std::make_unique<KvCacheForTest>(pool);
    };
    const auto service = std::move(*Service::Create(*engine, options));
    for (const int turn : {0, 1}) {
      std::vector<std::future<Result<ServiceResult>>> futures;
      std::vector<ServiceRequest> requests;
      int way = 0;
      for (const GenerationParams& params : Ways()) {
        for (const bool logprobs : {false, true}) {
          ServiceRequest request{.prompt = Ids(40 + 7 * way, way), .params = params, .logprobs = logprobs ? 2 : -1};
          if (turn == 1 && blocks == 0) {
            const auto before = alone(request.prompt, params).tokens;
            request.prompt.insert(request.prompt.end(), before.begin(), before.end());
            for (const TokenId token : Ids(4, 50)) request.prompt.push_back(token);
            if (request.prompt.size() >= 300) continue;
          }
          auto promise = std::make_shared<std::promise<Result<ServiceResult>>>();
          futures.push_back(promise->get_future());
          requests.push_back(request);
          auto id = service->Submit(std::move(request), {.on_token =
                                                             [logprobs](const ServiceToken& token) {
                                                               if (token.emission.token >= 0) {
                                                                 EXPECT_EQ(token.drawn.has_value(), logprobs);
                                                               }
                                                             },
                                                         .on_done = [promise](Result<ServiceResult> result) {
                                                           promise->set_value(std::move(result));
                                                         }});
          ASSERT_TRUE(id) << id.error().message;
        }
        ++way;
      }
      for (size_t i = 0; i < requests.size(); ++i) {
        SCOPED_TRACE(testing::Message() << "request " << i << ", turn " << turn << ", blocks " << blocks);
        ASSERT_EQ(futures[i].wait_for(std::chrono::seconds(60)), std::future_status::ready);
        const auto result = futures[i].get();
        ASSERT_TRUE(result) << result.error().message;
        ExpectSame(result->generation, alone(requests[i].prompt, requests[i].params));
        const Timings& timings = result->generation.timings;
        EXPECT_LE(timings.draft_accepted, timings.draft_tokens);
        if (turn == 1 && blocks == 0) {
          EXPECT_GT(timings.cached_tokens, 0);
        }
      }
    }
    const ServiceStats stats = service->stats();
    EXPECT_GT(stats.draft_accepted, 50);
    EXPECT_GT(stats.draft_tokens, stats.draft_accepted);
    EXPECT_LT(stats.steps, stats.generated_tokens);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Speculate,
                         testing::Values(Case{"gguf/v3-mainline.gguf", SpeculationMode::kLookup},
                                         Case{"gguf/v2lite-mainline.gguf", SpeculationMode::kLookup},
                                         Case{"gguf/llama.gguf", SpeculationMode::kAuto},
                                         Case{"../../models/fathom-nano/fathom-nano-q8_0.gguf", SpeculationMode::kMtp},
                                         Case{"../../models/fathom-nano/fathom-nano-q8_0.gguf", SpeculationMode::kAuto}));

// Left to itself it decides by what it measures, and the answer is the same still.
TEST(SpeculateAuto, TheAnswerDoesNotDependOnWhatWasMeasured) {
  const auto plain = Load("gguf/v3-mainline.gguf", SpeculationMode::kOff, 0);
  const auto engine = Load("gguf/v3-mainline.gguf", SpeculationMode::kLookup, 0);
  ASSERT_TRUE(plain && engine);
  const auto session = std::move(*engine->NewSession());
  int64_t drafted = 0;
  for (const GenerationParams& params : Ways()) {
    const auto expected = std::move(*plain->NewSession())->Generate(Ids(50, 2), params, {});
    const auto result = session->Generate(Ids(50, 2), params, {});
    ASSERT_TRUE(expected && result);
    ExpectSame(*result, *expected);
    drafted += result->timings.draft_tokens;
  }
  EXPECT_GT(drafted, 0);
}

TEST(SpeculateAuto, AModelWithoutAnMtpLayerSaysSo) {
  const auto engine = Engine::Load(kGolden + "gguf/v3-mainline.gguf", {.speculation = SpeculationMode::kMtp});
  ASSERT_FALSE(engine);
  EXPECT_NE(engine.error().message.find("no MTP layer"), std::string::npos) << engine.error().message;
}

// On text that the model was made for, the layer's guesses are mostly right: this is what it was trained to do. (After a
// gap it begins anew, and what it then lacks of the context costs guesses only.)
TEST(SpeculateAuto, TheMtpLayerGuessesWell) {
  const auto engine = Load("../../models/fathom-nano/fathom-nano-q8_0.gguf", SpeculationMode::kMtp, 1, 1000);
  ASSERT_TRUE(engine);
  const auto session = std::move(*engine->NewSession());
  GenerationParams params;
  params.sampling.temperature = 0;
  params.max_tokens = 200;
  params.ignore_eos = true;
  const auto prompt = EncodePrompt(*engine->tokenizer(), "Tom has 12 apples and buys 5 more. How many apples has he now?\n");
  const auto result = session->Generate(prompt, params, {});
  ASSERT_TRUE(result);
  std::printf("%lld of %lld right\n", static_cast<long long>(result->timings.draft_accepted),
              static_cast<long long>(result->timings.draft_tokens));
  EXPECT_GT(result->timings.draft_tokens, 100);
  EXPECT_GT(result->timings.draft_accepted, result->timings.draft_tokens / 3);
}

// Stopped by the caller in the middle of right guesses: nothing behind that is emitted or held.
TEST(SpeculateAuto, StoppingInTheMiddle) {
  const auto engine = Load("gguf/v3-mainline.gguf", SpeculationMode::kLookup, 16);
  const auto session = std::move(*engine->NewSession());
  GenerationParams params = Ways()[1];
  params.replay.assign(60, 33);
  for (const int most : {1, 5, 20, 23}) {
    int seen = 0;
    const auto result = session->Generate(Ids(30, 1), params, [&](const Emission& e) { return e.token < 0 || ++seen < most; });
    ASSERT_TRUE(result);
    EXPECT_EQ(result->finish_reason, FinishReason::kCancelled);
    EXPECT_EQ(result->tokens.size(), static_cast<size_t>(most));
    EXPECT_EQ(session->tokens().size(), 30u + static_cast<size_t>(most) - 1);
  }
}

}  // namespace
}  // namespace fathom
