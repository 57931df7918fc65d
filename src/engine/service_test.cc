// The service on the tiny golden models: the same greedy answers as a lone session gives, alone, in company, from the
// cache and after being parked; cancelling, limits, errors.
#include "engine/service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <random>

#include "base/source_dir_for_test.h"
#include "engine/kv_cache_for_test.h"

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

ServiceRequest Ask(std::vector<TokenId> prompt, int max_tokens) {
  ServiceRequest request;
  request.prompt = std::move(prompt);
  request.params = Greedy(max_tokens);
  return request;
}

std::unique_ptr<Engine> Load(const std::string& name, int32_t context = 300) {
  auto engine = Engine::Load(kGolden + name, {.threads = 2, .context_length = context, .kv_type = KvType::kF32,
                                              .prefill_chunk = 64});
  EXPECT_TRUE(engine) << engine.error().message;
  return engine ? std::move(*engine) : nullptr;
}

// One request as its caller sees it.
struct Watched {
  std::promise<Result<ServiceResult>> promise;
  std::future<Result<ServiceResult>> future = promise.get_future();
  std::atomic<int> done{0};
  std::mutex mutex;
  std::vector<ServiceToken> tokens;
  std::vector<ServiceProgress> progress;
  std::function<void()> on_token;
  RequestId id = 0;

  ServiceCallbacks Callbacks() {
    return {.on_progress =
                [this](const ServiceProgress& p) {
                  EXPECT_EQ(done, 0);
                  std::lock_guard lock(mutex);
                  progress.push_back(p);
                },
            .on_token =
                [this](const ServiceToken& token) {
                  EXPECT_EQ(done, 0);
                  {
                    std::lock_guard lock(mutex);
                    tokens.push_back(token);
                  }
                  if (on_token) on_token();
                },
            .on_done =
                [this](Result<ServiceResult> result) {
                  if (++done == 1) promise.set_value(std::move(result));
                }};
  }
  Result<ServiceResult> Wait() {
    if (future.wait_for(std::chrono::seconds(60)) != std::future_status::ready) {
      ADD_FAILURE() << "a request does not end";
      return Fail(ErrorCode::kInternal, "hangs");
    }
    return future.get();
  }
};

class ServiceTest : public testing::Test {
 protected:
  void SetUp() override { Use("gguf/v3-mainline.gguf"); }
  void TearDown() override { service_.reset(); }
  void Use(const std::string& model) {
    service_.reset();
    engine_ = Load(model);
    ASSERT_NE(engine_, nullptr);
  }
  int64_t block_bytes() const { return engine_->memory().kv_bytes_per_token * KvLayout::kBlockTokens; }

  void Start(ServiceOptions options = {}, bool with_cache = true) {
    service_.reset();
    if (with_cache) {
      options.make_cache = [this](const KvSpace& space, KvPool& pool) -> Result<std::unique_ptr<KvCache>> {
        EXPECT_EQ(space.model_fingerprint.size(), 64u);
        pool_ = &pool;
        auto cache = std::make_unique<KvCacheForTest>(pool);
        cache_ = cache.get();
        return cache;
      };
    } else {
      options.cache.enabled = false;
    }
    auto service = Service::Create(*engine_, options);
    ASSERT_TRUE(service) << service.error().message;
    service_ = std::move(*service);
  }
  std::unique_ptr<Watched> Submit(ServiceRequest request) {
    auto watched = std::make_unique<Watched>();
    auto id = service_->Submit(std::move(request), watched->Callbacks());
    EXPECT_TRUE(id) << id.error().message;
    if (!id) return nullptr;
    watched->id = *id;
    return watched;
  }
  Result<ServiceResult> Answer(ServiceRequest request) { return Submit(std::move(request))->Wait(); }
  GenerationResult Alone(const ServiceRequest& request) {
    auto session = std::move(*engine_->NewSession());
    auto result = session->Generate(request.prompt, request.params, {});
    EXPECT_TRUE(result) << result.error().message;
    return result ? std::move(*result) : GenerationResult{};
  }

  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Service> service_;
  KvCacheForTest* cache_ = nullptr;  // of service_
  KvPool* pool_ = nullptr;
};

class ServiceGolden : public ServiceTest, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override { Use(GetParam()); }
};

TEST_P(ServiceGolden, GreedyAnswersEqualALoneSessions) {
  std::vector<ServiceRequest> requests;
  for (int i = 0; i < 9; ++i) requests.push_back(Ask(Ids(1 + 23 * i, i), 1 + 9 * (i % 4)));
  std::vector<std::vector<TokenId>> expected;
  for (const auto& request : requests) expected.push_back(Alone(request).tokens);
  for (const bool with_cache : {false, true}) {
    for (const auto& [sequences, step] : {std::pair{1, 4096}, {3, 16}, {4, 33}, {9, 4096}}) {
      Start({.max_sequences = sequences, .step_tokens = step}, with_cache);
      for (int round = 0; round < 2; ++round) {
        std::vector<std::unique_ptr<Watched>> watched;
        for (const auto& request : requests) watched.push_back(Submit(request));
        for (size_t i = 0; i < requests.size(); ++i) {
          const auto result = watched[i]->Wait();
          ASSERT_TRUE(result) << result.error().message;
          EXPECT_EQ(result->generation.tokens, expected[i]) << i << " of " << sequences << ", step " << step;
          EXPECT_EQ(result->generation.finish_reason, FinishReason::kLength);
          const auto& timings = result->generation.timings;
          EXPECT_EQ(timings.prompt_tokens + timings.cached_tokens, static_cast<int64_t>(requests[i].prompt.size()));
          EXPECT_EQ(timings.cached_tokens, with_cache && round == 1 ? static_cast<int64_t>(requests[i].prompt.size()) : 0);
        }
      }
      const ServiceStats stats = service_->stats();
      EXPECT_EQ(stats.finished, 18);
      EXPECT_EQ(stats.running + stats.waiting, 0);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, ServiceGolden,
                         testing::Values("gguf/v3-mainline.gguf", "gguf/v2lite-mainline.gguf", "gguf/llama.gguf",
                                         "gguf/qwen2.gguf", "hf/kimi", "hf/v3_bf16"));

TEST_F(ServiceTest, AKnownBeginningOfAnyLengthIsTaken) {
  const auto prompt = Ids(200, 3);
  for (const int common : {1, 5, 63, 64, 65, 100, 127, 128, 150, 199}) {
    Start();
    ASSERT_TRUE(Answer(Ask(prompt, 4)));
    auto other = prompt;
    other[static_cast<size_t>(common)] = 7;
    other.resize(210, 9);
    const auto result = Answer(Ask(other, 12));
    ASSERT_TRUE(result);
    EXPECT_EQ(result->generation.timings.cached_tokens, common);
    EXPECT_EQ(result->generation.tokens, Alone(Ask(other, 12)).tokens) << common;
    EXPECT_EQ(result->cache_reason, "test");
  }
}

TEST_F(ServiceTest, TheNextTurnKnowsTheAnswerToo) {
  Start();
  auto request = Ask(Ids(70, 1), 30);
  const auto first = Answer(request);
  ASSERT_TRUE(first);
  for (const TokenId token : first->generation.tokens) request.prompt.push_back(token);
  for (const TokenId token : Ids(10, 5)) request.prompt.push_back(token);
  const auto second = Answer(request);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->generation.timings.cached_tokens, 99);  // the last token drawn was never evaluated
  EXPECT_EQ(second->generation.tokens, Alone(request).tokens);
}

TEST_F(ServiceTest, AWholePromptIsAnsweredWithoutAPass) {
  Start();
  const auto request = Ask(Ids(100, 1), 1);
  const auto first = Answer(request);
  const int64_t steps = service_->stats().steps;
  const auto again = Answer(request);
  ASSERT_TRUE(first && again);
  EXPECT_EQ(again->generation.tokens, first->generation.tokens);
  EXPECT_EQ(again->generation.timings.cached_tokens, 100);
  EXPECT_EQ(service_->stats().steps, steps);
  cache_->faults.forget_logits = true;
  const auto third = Answer(request);
  ASSERT_TRUE(third);
  EXPECT_EQ(third->generation.tokens, first->generation.tokens);
  EXPECT_EQ(third->generation.timings.cached_tokens, 99);
  EXPECT_EQ(service_->stats().steps, steps + 1);
}

TEST_F(ServiceTest, EqualPromptsAtOnceAreComputedOnce) {
  Start({.max_sequences = 16, .step_tokens = 32});
  const auto request = Ask(Ids(250, 1), 10);
  std::vector<std::unique_ptr<Watched>> watched;
  for (int i = 0; i < 8; ++i) watched.push_back(Submit(request));
  const auto expected = Alone(request).tokens;
  for (auto& w : watched) {
    const auto result = w->Wait();
    ASSERT_TRUE(result);
    EXPECT_EQ(result->generation.tokens, expected);
  }
  EXPECT_EQ(service_->stats().prompt_tokens, 250);
  EXPECT_EQ(service_->stats().cached_tokens, 7 * 250);
}

TEST_F(ServiceTest, ASharedBeginningIsComputedOnceWhileItIsBeingComputed) {
  Start({.max_sequences = 16, .step_tokens = 32});
  std::vector<ServiceRequest> requests;
  std::vector<std::unique_ptr<Watched>> watched;
  for (int i = 0; i < 6; ++i) {
    auto prompt = Ids(150, 1);
    for (const TokenId token : Ids(20 + i, 40 + i)) prompt.push_back(token);
    requests.push_back(Ask(prompt, 8));
    watched.push_back(Submit(requests.back()));
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto result = watched[i]->Wait();
    ASSERT_TRUE(result);
    EXPECT_EQ(result->generation.tokens, Alone(requests[i]).tokens) << i;
    // For fewer than 32 tokens nobody waits: one that comes late may compute those itself.
    EXPECT_LE(result->generation.timings.cached_tokens, i == 0 ? 0 : 150) << i;
    EXPECT_GE(result->generation.timings.cached_tokens, i == 0 ? 0 : 150 - 32) << i;
  }
}

TEST_F(ServiceTest, SampledAnswersEqualALoneSessionsWithTheSameSeed) {
  Start();
  std::vector<ServiceRequest> requests;
  std::vector<std::unique_ptr<Watched>> watched;
  for (int i = 0; i < 5; ++i) {
    requests.push_back(Ask(Ids(20, i), 12));
    requests.back().params.sampling.temperature = 0.7f;
    requests.back().params.sampling.repetition_penalty = 1.1f;
    requests.back().params.sampling.seed = 100 + static_cast<uint64_t>(i);
    watched.push_back(Submit(requests.back()));
  }
  for (size_t i = 0; i < requests.size(); ++i) EXPECT_EQ(watched[i]->Wait()->generation.tokens, Alone(requests[i]).tokens);
}

TEST_F(ServiceTest, RequestsThatCannotBeAnsweredAreRefused) {
  Start({.max_sequences = 1, .max_queue = 2});
  const auto refused = [&](ServiceRequest request) {
    auto id = service_->Submit(std::move(request), {.on_done = [](Result<ServiceResult>) { ADD_FAILURE(); }});
    EXPECT_FALSE(id);
    return id ? SubmitError{} : id.error();
  };
  EXPECT_EQ(refused(Ask({}, 1)).why, Refusal::kInvalid);
  EXPECT_EQ(refused(Ask(Ids(300, 1), 1)).why, Refusal::kTooLong);
  EXPECT_THAT(refused(Ask({1 << 30}, 1)).message, HasSubstr("1073741824"));
  EXPECT_EQ(refused(Ask({1 << 30}, 1)).why, Refusal::kInvalid);
  auto request = Ask(Ids(5, 1), 1);
  request.logprobs = 21;
  EXPECT_THAT(refused(request).message, HasSubstr("logprobs"));
  request.logprobs = -1;
  request.priority = 9;
  EXPECT_THAT(refused(request).message, HasSubstr("priority"));
  request.priority = 0;
  request.params.sampling.top_p = 7;
  EXPECT_THAT(refused(request).message, HasSubstr("top_p"));
  EXPECT_FALSE(Service::Create(*engine_, {.max_sequences = 0}));
  EXPECT_FALSE(Service::Create(*engine_, {.step_tokens = 1}));

  std::vector<std::unique_ptr<Watched>> watched;
  for (int i = 0; i < 3; ++i) watched.push_back(Submit(Ask(Ids(200, i), 90)));
  const SubmitError full = refused(Ask(Ids(5, 1), 1));
  EXPECT_EQ(full.why, Refusal::kQueueFull);
  EXPECT_THAT(full.message, HasSubstr("waiting"));
  for (auto& w : watched) EXPECT_TRUE(w->Wait());
}

TEST_F(ServiceTest, CancellingInEveryState) {
  Start({.max_sequences = 2, .step_tokens = 16});
  Service* service = service_.get();
  auto running = std::make_unique<Watched>();
  Watched* raw = running.get();
  running->on_token = [raw, service] {
    if (raw->tokens.size() == 3) service->Cancel(raw->id);
  };
  auto request = Ask(Ids(20, 1), 250);
  // The id is known before the third token: the prompt alone takes two steps and this thread holds the lock.
  std::unique_lock lock(raw->mutex);
  raw->id = *service_->Submit(request, raw->Callbacks());
  lock.unlock();
  auto prefilling = Submit(Ask(Ids(250, 2), 40));
  auto waiting = Submit(Ask(Ids(250, 3), 40));
  service_->Cancel(waiting->id);
  service_->Cancel(prefilling->id);
  service_->Cancel(987654);
  for (auto* w : {raw, prefilling.get(), waiting.get()}) {
    const auto result = w->Wait();
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(result->generation.finish_reason, FinishReason::kCancelled);
  }
  EXPECT_EQ(raw->tokens.size(), 3u);
  EXPECT_EQ(service_->stats().cancelled, 3);
  cache_->Clear();
  EXPECT_EQ(pool_->used_bytes(), 0);
}

TEST_F(ServiceTest, DrainingFinishesOrCancelsAndRefuses) {
  Start();
  auto quick = Submit(Ask(Ids(20, 1), 5));
  service_->Drain(60);
  EXPECT_EQ(quick->done, 1);
  EXPECT_EQ(quick->Wait()->generation.finish_reason, FinishReason::kLength);
  auto refused = service_->Submit(Ask(Ids(20, 1), 5), quick->Callbacks());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().why, Refusal::kDraining);
  EXPECT_GE(cache_->flushes, 1);

  Start({.max_sequences = 1});
  std::vector<std::unique_ptr<Watched>> watched;
  for (int i = 0; i < 40; ++i) watched.push_back(Submit(Ask(Ids(100, i), 200)));
  service_->Drain(0.01);
  int cancelled = 0;
  for (auto& w : watched) {
    EXPECT_EQ(w->done, 1);
    cancelled += w->Wait()->generation.finish_reason == FinishReason::kCancelled;
  }
  EXPECT_GT(cancelled, 0);
}

TEST_F(ServiceTest, DestructionEndsEveryRequestAndKeepsItsRows) {
  Start();
  std::vector<std::unique_ptr<Watched>> watched;
  for (int i = 0; i < 5; ++i) watched.push_back(Submit(Ask(Ids(100, i), 190)));
  service_.reset();
  for (auto& w : watched) EXPECT_EQ(w->done, 1);
}

TEST_F(ServiceTest, LogprobsAreTheModelsOwn) {
  Start();
  auto request = Ask(Ids(30, 1), 4);
  request.logprobs = 3;
  request.params.sampling.logit_bias = {{5, 100.0f}};  // always drawn, whatever the model thinks
  auto watched = Submit(request);
  ASSERT_TRUE(watched->Wait());
  ASSERT_EQ(watched->tokens.size(), 4u);
  auto session = std::move(*engine_->NewSession());
  auto held = request.prompt;
  for (const auto& token : watched->tokens) {
    ASSERT_TRUE(session->Eval(std::span(held).subspan(session->tokens().size())));
    const auto logits = session->logits();
    double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
    ASSERT_TRUE(token.drawn);
    EXPECT_EQ(token.drawn->token, 5);
    EXPECT_NEAR(token.drawn->logprob, logits[5] - std::log(sum), 1e-4);
    ASSERT_EQ(token.top.size(), 3u);
    EXPECT_NEAR(token.top[0].logprob, *std::max_element(logits.begin(), logits.end()) - std::log(sum), 1e-4);
    EXPECT_GE(token.top[0].logprob, token.top[1].logprob);
    held.push_back(5);
  }
}

TEST_F(ServiceTest, ProgressGrowsAndSaysWhatIsCached) {
  Start({.step_tokens = 16});
  ASSERT_TRUE(Answer(Ask(Ids(80, 1), 1)));
  auto prompt = Ids(80, 1);
  prompt.resize(200, 3);
  auto watched = Submit(Ask(prompt, 3));
  ASSERT_TRUE(watched->Wait());
  ASSERT_GE(watched->progress.size(), 2u);
  EXPECT_EQ(watched->progress.front().done_tokens, 80);
  EXPECT_EQ(watched->progress.back().done_tokens, 200);
  for (const auto& p : watched->progress) {
    EXPECT_EQ(p.prompt_tokens, 200);
    EXPECT_EQ(p.cached_tokens, 80);
  }
}

TEST_F(ServiceTest, NothingIsKeptOrTakenWhereTheRequestSaysSo) {
  Start();
  auto request = Ask(Ids(100, 1), 5);
  request.use_cache = false;
  ASSERT_TRUE(Answer(request));
  EXPECT_EQ(cache_->kept(), 0u);
  request.use_cache = true;
  ASSERT_TRUE(Answer(request));
  EXPECT_GT(cache_->kept(), 0u);
  request.use_cache = false;
  EXPECT_EQ(Answer(request)->generation.timings.cached_tokens, 0);
  request.use_cache = true;
  request.tenant = "somebody else";
  EXPECT_EQ(Answer(request)->generation.timings.cached_tokens, 0);
}

// --- Rows from elsewhere.

TEST_F(ServiceTest, RowsThatArriveLateAreWaitedForLayerByLayer) {
  for (const int common : {64, 128, 150, 199}) {
    Start();
    auto prompt = Ids(200, 3);
    ASSERT_TRUE(Answer(Ask(prompt, 4)));
    cache_->faults.load_seconds = 0.05;
    prompt[static_cast<size_t>(common)] = 7;
    prompt.resize(230, 9);
    const auto result = Answer(Ask(prompt, 12));
    ASSERT_TRUE(result);
    EXPECT_EQ(result->generation.timings.cached_tokens, common);
    EXPECT_EQ(result->timings.cached_disk_tokens, common);
    EXPECT_EQ(result->generation.tokens, Alone(Ask(prompt, 12)).tokens) << common;
    EXPECT_GT(result->timings.load_seconds, 0.01);
  }
}

TEST_F(ServiceTest, OthersGoOnWhileRowsArrive) {
  Start();
  ASSERT_TRUE(Answer(Ask(Ids(200, 3), 4)));
  cache_->faults.load_seconds = 0.2;
  auto late = Submit(Ask(Ids(200, 3), 4));
  auto quick = Submit(Ask(Ids(20, 5), 8));
  ASSERT_TRUE(quick->Wait());
  EXPECT_EQ(late->done, 0);
  EXPECT_EQ(late->Wait()->generation.tokens, Alone(Ask(Ids(200, 3), 4)).tokens);
}

TEST_F(ServiceTest, ALoadThatFailsCostsOnlyItsOwnRequest) {
  for (const int valid : {0, 63, 64, 130, 192}) {
    for (const bool company : {false, true}) {
      Start({.step_tokens = 64});
      ASSERT_TRUE(Answer(Ask(Ids(220, 3), 4)));
      cache_->faults.fail_after_tokens = valid;
      cache_->faults.load_seconds = 0.01;
      std::unique_ptr<Watched> other;
      if (company) {
        auto request = Ask(Ids(30, 9), 60);
        request.use_cache = false;
        other = Submit(request);
      }
      auto prompt = Ids(220, 3);
      prompt.resize(240, 5);
      const auto result = Answer(Ask(prompt, 10));
      ASSERT_TRUE(result);
      EXPECT_EQ(result->generation.tokens, Alone(Ask(prompt, 10)).tokens) << valid;
      EXPECT_EQ(result->generation.timings.cached_tokens, valid / 64 * 64);
      EXPECT_EQ(result->generation.timings.cached_tokens + result->generation.timings.prompt_tokens, 240);
      EXPECT_THAT(result->cache_reason, HasSubstr("could not be read"));
      if (!other) continue;
      EXPECT_EQ(other->Wait()->generation.tokens, Alone(Ask(Ids(30, 9), 60)).tokens);
    }
  }
}

TEST_F(ServiceTest, ALoadThatTakesTooLongIsGivenUp) {
  Start();
  ASSERT_TRUE(Answer(Ask(Ids(200, 3), 4)));
  cache_->faults.load_seconds = 30;
  cache_->faults.patience = 0.1;
  const auto start = std::chrono::steady_clock::now();
  const auto result = Answer(Ask(Ids(200, 3), 4));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(15));
  EXPECT_EQ(result->generation.tokens, Alone(Ask(Ids(200, 3), 4)).tokens);
  EXPECT_EQ(result->generation.timings.cached_tokens, 0);
}

TEST_F(ServiceTest, HungReadsHoldUpNobodyForLong) {
  Start();
  ASSERT_TRUE(Answer(Ask(Ids(200, 3), 4)));
  cache_->faults.hang = true;
  auto hung = Submit(Ask(Ids(200, 3), 4));
  auto other = Submit(Ask(Ids(20, 5), 100));
  EXPECT_EQ(other->Wait()->generation.tokens, Alone(Ask(Ids(20, 5), 100)).tokens);
  const auto result = hung->Wait();
  ASSERT_TRUE(result);
  EXPECT_EQ(result->generation.tokens, Alone(Ask(Ids(200, 3), 4)).tokens);
  EXPECT_EQ(result->generation.timings.cached_tokens, 0);
}

TEST_F(ServiceTest, WhoeverWaitsForAHungDeviceCanLeaveAndOthersCanCome) {
  Start();
  ASSERT_TRUE(Answer(Ask(Ids(200, 3), 4)));
  cache_->faults.hang = true;
  cache_->faults.hang_seconds = 6;
  auto prompt = Ids(200, 3);
  prompt[128] = 7;  // two whole blocks are known: the step begins and waits for its first layer
  auto other = Ask(Ids(20, 5), 10);
  other.use_cache = false;
  const auto expected = Alone(other).tokens;  // before: a service has its engine to itself while it waits
  const auto start = std::chrono::steady_clock::now();
  auto hung = Submit(Ask(prompt, 4));
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(Answer(other)->generation.tokens, expected);
  service_->Cancel(hung->id);
  EXPECT_EQ(hung->Wait()->generation.finish_reason, FinishReason::kCancelled);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

// --- Too little memory, priorities.

TEST_F(ServiceTest, AParkedSequenceComesBackAndSaysTheSame) {
  for (const bool with_cache : {false, true}) {
    Start({.max_sequences = 8, .cache = {.memory_bytes = 6 * block_bytes()}}, with_cache);
    std::vector<ServiceRequest> requests;
    std::vector<std::unique_ptr<Watched>> watched;
    for (int i = 0; i < 5; ++i) {
      requests.push_back(Ask(Ids(50 + i, i), 120));  // one block each at first, three at last
      requests.back().params.sampling.temperature = i % 2 == 0 ? 0 : 0.9f;
      requests.back().params.sampling.seed = 7;
      watched.push_back(Submit(requests.back()));
    }
    int64_t preemptions = 0;
    for (size_t i = 0; i < requests.size(); ++i) {
      const auto result = watched[i]->Wait();
      ASSERT_TRUE(result) << result.error().message;
      EXPECT_EQ(result->generation.tokens, Alone(requests[i]).tokens) << i;
      std::string content;
      for (const auto& token : watched[i]->tokens) content += token.emission.content;
      EXPECT_EQ(content, result->generation.content);
      preemptions += result->timings.preemptions;
    }
    EXPECT_GT(preemptions, 0);
    EXPECT_EQ(service_->stats().preempted, preemptions);
    EXPECT_EQ(service_->stats().failed, 0);
  }
}

TEST_F(ServiceTest, MemoryForExactlyOneIsEnough) {
  for (const bool with_cache : {false, true}) {
    Start({.max_sequences = 8, .cache = {.memory_bytes = 2 * block_bytes()}}, with_cache);
    // 100 tokens and an answer up to the last row that there is memory for; its prompt's tail is shared with the cache.
    const auto result = Answer(Ask(Ids(100, 1), -1));
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(result->generation.finish_reason, FinishReason::kContext);
    EXPECT_EQ(result->generation.tokens.size(), 29u);
    const auto expected = Alone(Ask(Ids(100, 1), 29)).tokens;
    EXPECT_EQ(result->generation.tokens, expected);
    auto refused = service_->Submit(Ask(Ids(128, 1), 5), {.on_done = [](auto) {}});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().why, Refusal::kTooLong);
    EXPECT_THAT(refused.error().message, HasSubstr("KV memory"));
  }
}

TEST_F(ServiceTest, HigherPriorityTakesThePlace) {
  Start({.max_sequences = 1});
  auto request = Ask(Ids(40, 2), 5);
  request.priority = 3;
  Watched low, high;
  low.on_token = [&] {
    if (low.tokens.size() != 3) return;
    EXPECT_TRUE(service_->Submit(request, high.Callbacks()));
  };
  ASSERT_TRUE(service_->Submit(Ask(Ids(50, 1), 200), low.Callbacks()));
  EXPECT_EQ(high.Wait()->generation.tokens, Alone(request).tokens);
  const auto result = low.Wait();
  EXPECT_EQ(result->timings.preemptions, 1);
  EXPECT_EQ(result->generation.tokens, Alone(Ask(Ids(50, 1), 200)).tokens);
}

// A thousand events in a random order on little memory and unreliable storage.
class ServiceSoak : public ServiceTest, public testing::WithParamInterface<int> {};

TEST_P(ServiceSoak, EveryRequestEndsOnceAndSaysWhatItWouldAlone) {
  std::mt19937 random(static_cast<uint32_t>(GetParam()));
  const auto pick = [&](int low, int high) { return low + static_cast<int>(random() % static_cast<uint32_t>(high - low + 1)); };
  const bool with_cache = GetParam() % 4 != 0;
  Start({.max_sequences = pick(1, 8), .max_queue = 1000, .step_tokens = pick(16, 100),
         .cache = {.memory_bytes = pick(4, 12) * block_bytes()}}, with_cache);
  if (with_cache && GetParam() % 3 == 0) {
    cache_->faults = {.load_seconds = 0.001, .fail_after_tokens = GetParam() % 2 == 0 ? pick(0, 200) : -1};
  }
  struct One {
    ServiceRequest request;
    std::unique_ptr<Watched> watched;
    bool cancelled = false;
  };
  std::vector<One> all;
  for (int event = 0; event < 80; ++event) {
    switch (pick(0, 5)) {
      case 0:
        if (!all.empty()) {
          One& one = all[static_cast<size_t>(pick(0, static_cast<int>(all.size()) - 1))];
          service_->Cancel(one.watched->id);
          one.cancelled = true;
        }
        break;
      case 1: std::this_thread::sleep_for(std::chrono::microseconds(pick(0, 3000))); break;
      default: {
        // A few families of prompts with common beginnings.
        auto prompt = Ids(pick(1, 200), pick(0, 2));
        if (pick(0, 1) != 0) {
          for (const TokenId token : Ids(pick(1, 30), pick(0, 50))) prompt.push_back(token);
        }
        One one{Ask(prompt, pick(0, 25)), nullptr};
        one.request.priority = pick(-2, 2);
        one.request.tenant = pick(0, 3) == 0 ? "b" : "a";
        one.request.use_cache = pick(0, 5) != 0;
        one.request.params.sampling.temperature = pick(0, 1) != 0 ? 0 : 0.8f;
        one.request.params.sampling.seed = 1 + random();
        one.watched = Submit(one.request);
        ASSERT_NE(one.watched, nullptr);
        all.push_back(std::move(one));
      }
    }
  }
  for (One& one : all) {
    const auto result = one.watched->Wait();
    ASSERT_TRUE(result) << result.error().message;
    const auto expected = Alone(one.request).tokens;
    const auto& tokens = result->generation.tokens;
    if (result->generation.finish_reason == FinishReason::kCancelled) {
      EXPECT_TRUE(one.cancelled);
      ASSERT_LE(tokens.size(), expected.size());
      EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), expected.begin()));
    } else {
      EXPECT_EQ(tokens, expected);
    }
  }
  service_->Drain(10);
  for (One& one : all) EXPECT_EQ(one.watched->done, 1);
  const ServiceStats stats = service_->stats();
  EXPECT_EQ(stats.requests, static_cast<int64_t>(all.size()));
  EXPECT_EQ(stats.finished + stats.cancelled, stats.requests);
  EXPECT_EQ(stats.failed, 0);
  EXPECT_EQ(stats.running + stats.waiting, 0);
  if (with_cache) {
    cache_->Clear();
    EXPECT_EQ(pool_->used_bytes(), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, ServiceSoak, testing::Range(1, 13));

}  // namespace
}  // namespace fathom
