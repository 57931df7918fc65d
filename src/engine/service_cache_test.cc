// The service on the real cache manager: memory that is short, an SSD tier under it, a restart between two requests.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <random>

#include "base/source_dir_for_test.h"
#include "engine/service.h"

namespace fathom {
namespace {

std::vector<TokenId> Ids(int count, int first) {
  std::vector<TokenId> ids(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) ids[static_cast<size_t>(i)] = 10 + (i * 37 + first * 11) % 200;
  return ids;
}

ServiceRequest Ask(std::vector<TokenId> prompt, int max_tokens) {
  ServiceRequest request;
  request.prompt = std::move(prompt);
  request.params.sampling.temperature = 0;
  request.params.max_tokens = max_tokens;
  request.params.ignore_eos = true;
  return request;
}

class ServiceOnCache : public testing::Test {
 protected:
  void SetUp() override {
    static std::atomic<int> count{0};
    folder_ = std::filesystem::temp_directory_path() / fmt::format("fathom-service-{}-{}", getpid(), count++);
    std::filesystem::create_directories(folder_);
    Load("gguf/v2lite-mainline.gguf", KvType::kBF16);
  }
  void Load(const std::string& model, KvType kv_type) {
    service_.reset();
    auto engine = Engine::Load(SourceDirForTest() + "/tests/golden/" + model,
                               {.threads = 1, .context_length = 250, .kv_type = kv_type, .prefill_chunk = 64});
    ASSERT_TRUE(engine) << engine.error().message;
    engine_ = std::move(*engine);
  }
  void TearDown() override {
    service_.reset();
    engine_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  int64_t block_bytes() const { return engine_->memory().kv_bytes_per_token * KvLayout::kBlockTokens; }
  void Start(int64_t memory_blocks, int64_t disk_blocks, int32_t max_sequences = 8, int32_t step_tokens = 64) {
    service_.reset();
    ServiceOptions options{.max_sequences = max_sequences, .max_queue = 1000, .step_tokens = step_tokens};
    options.cache.memory_bytes = memory_blocks * block_bytes();
    // No time goes by for who waits for the disk: what comes, and not whether it came within milliseconds, is asked here.
    options.cache.clock = [] { return std::chrono::steady_clock::time_point(); };
    if (disk_blocks > 0) {
      options.cache.directory = folder_.string();
      options.cache.disk_bytes = std::max<int64_t>(disk_blocks * (block_bytes() + 8192), 16 << 20);
    }
    auto service = Service::Create(*engine_, options);
    ASSERT_TRUE(service) << service.error().message;
    service_ = std::move(*service);
  }
  std::future<Result<ServiceResult>> Submit(ServiceRequest request, RequestId* id = nullptr) {
    auto promise = std::make_shared<std::promise<Result<ServiceResult>>>();
    auto submitted = service_->Submit(std::move(request), {.on_done = [promise](Result<ServiceResult> result) {
      promise->set_value(std::move(result));  // throws when it is the second time
    }});
    EXPECT_TRUE(submitted) << submitted.error().message;
    if (id != nullptr && submitted) *id = *submitted;
    return promise->get_future();
  }
  Result<ServiceResult> Answer(ServiceRequest request) { return Submit(std::move(request)).get(); }
  std::vector<TokenId> Alone(const ServiceRequest& request) {
    auto session = std::move(*engine_->NewSession());
    return session->Generate(request.prompt, request.params, {})->tokens;
  }

  std::filesystem::path folder_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Service> service_;
};

TEST_F(ServiceOnCache, AConversationGoesOnAfterARestart) {
  auto request = Ask(Ids(150, 1), 20);
  const auto expected = Alone(request);
  Start(100, 1000);
  const auto first = Answer(request);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->generation.tokens, expected);
  const auto again = Answer(request);
  EXPECT_EQ(again->generation.tokens, expected);
  EXPECT_GE(again->generation.timings.cached_tokens, 149);
  EXPECT_EQ(again->timings.cached_disk_tokens, 0);

  Start(100, 1000);
  auto next = request;
  for (const TokenId token : expected) next.prompt.push_back(token);
  for (const TokenId token : Ids(20, 9)) next.prompt.push_back(token);
  const auto turn = Answer(next);
  ASSERT_TRUE(turn) << turn.error().message;
  EXPECT_EQ(turn->generation.timings.cached_tokens, 169) << turn->cache_reason;
  EXPECT_EQ(turn->timings.cached_disk_tokens, 169);
  EXPECT_EQ(turn->generation.tokens, Alone(next));
  const Status sound = service_->cache()->Check();
  EXPECT_TRUE(sound) << sound.error().message;
}

// The whole prompt is known after a restart, its logits too: the first token costs no pass of the model.
TEST_F(ServiceOnCache, TheFirstTokenAfterARestartNeedsNoModel) {
  for (const int length : {150, 128, 1}) {
    auto request = Ask(Ids(length, length), 20);
    const auto expected = Alone(request);
    Start(100, 1000);
    ASSERT_EQ(Answer(request)->generation.tokens, expected);
    Start(100, 1000);
    const auto again = Answer(request);
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(again->generation.tokens, expected);
    EXPECT_EQ(again->generation.timings.cached_tokens, length) << again->cache_reason;
    EXPECT_EQ(again->timings.cached_disk_tokens, length);
    EXPECT_EQ(service_->stats().steps, 19);
    EXPECT_EQ(service_->stats().prompt_tokens, 0);
    EXPECT_GE(service_->stats().cache.logits.reads, 1);

    Start(100, 1000);
    auto one = request;
    one.params.max_tokens = 1;
    const auto first = Answer(one);
    ASSERT_TRUE(first) << first.error().message;
    EXPECT_EQ(first->generation.tokens, std::vector<TokenId>(expected.begin(), expected.begin() + 1));
    EXPECT_EQ(service_->stats().steps, 0);
    const Status sound = service_->cache()->Check();
    EXPECT_TRUE(sound) << sound.error().message;
  }
}

TEST_F(ServiceOnCache, LogitsThatDoNotVerifyCostAPass) {
  auto request = Ask(Ids(150, 1), 20);
  const auto expected = Alone(request);
  Start(100, 1000);
  ASSERT_EQ(Answer(request)->generation.tokens, expected);
  service_.reset();
  int damaged = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_ / "logits")) {
    if (entry.path().extension() != ".seg") continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    int64_t slots = 0;  // whose headers stand before the rows
    file.seekg(56);
    file.read(reinterpret_cast<char*>(&slots), sizeof(slots));
    file.seekp(4096 + slots * 4096 + 8);
    file.put('!');
    ++damaged;
  }
  ASSERT_EQ(damaged, 1);
  Start(100, 1000);
  const auto again = Answer(request);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->generation.tokens, expected);
  EXPECT_EQ(again->generation.timings.cached_tokens, 149);
  EXPECT_EQ(service_->stats().steps, 20);
  EXPECT_EQ(service_->stats().prompt_tokens, 1);
  EXPECT_EQ(service_->stats().cache.corrupt, 1);
}

// Rows in 8 bits are what attention reads from the first pass on, so that taking them from memory or the disk changes no
// bit: the tokens are those that this row type gives without a cache.
TEST_F(ServiceOnCache, RowsInEightBitsComeBackExactly) {
  for (const char* model : {"gguf/v2lite-mainline.gguf", "gguf/llama.gguf"}) {
    Load(model, KvType::kBF16);
    const int64_t plain_bytes = engine_->memory().kv_bytes_per_token;
    for (const KvType type : {KvType::kFp8, KvType::kInt8}) {
      Load(model, type);
      EXPECT_LT(engine_->memory().kv_bytes_per_token, plain_bytes) << model;
      auto request = Ask(Ids(150, 1), 20);
      const auto expected = Alone(request);
      Start(100, 1000);
      const auto first = Answer(request);
      ASSERT_TRUE(first) << first.error().message;
      // Of the other types' blocks of the same tokens, which this folder holds, none is taken.
      EXPECT_EQ(first->generation.timings.cached_tokens, 0);
      EXPECT_EQ(first->generation.tokens, expected);
      const auto again = Answer(request);
      ASSERT_TRUE(again) << again.error().message;
      EXPECT_EQ(again->generation.tokens, expected);
      EXPECT_GE(again->generation.timings.cached_tokens, 149);

      Start(100, 1000);
      auto next = request;
      next.prompt.insert(next.prompt.end(), expected.begin(), expected.end());
      for (const TokenId token : Ids(20, 9)) next.prompt.push_back(token);
      const auto turn = Answer(next);
      ASSERT_TRUE(turn) << turn.error().message;
      EXPECT_EQ(turn->timings.cached_disk_tokens, 169) << turn->cache_reason;
      EXPECT_EQ(turn->generation.tokens, Alone(next));
      const Status sound = service_->cache()->Check();
      EXPECT_TRUE(sound) << sound.error().message;
    }
  }
}

class ServiceOnCacheSoak : public ServiceOnCache, public testing::WithParamInterface<int> {};

TEST_P(ServiceOnCacheSoak, EveryRequestEndsOnceAndSaysWhatItWouldAlone) {
  std::mt19937 random(static_cast<uint32_t>(GetParam()));
  const auto pick = [&](int low, int high) { return low + static_cast<int>(random() % static_cast<uint32_t>(high - low + 1)); };
  const int disk = GetParam() % 2 == 0 ? 0 : 300;
  for (int life = 0; life < 2; ++life) {
    Start(pick(4, 14), disk, pick(1, 8), pick(16, 100));
    struct One {
      ServiceRequest request;
      std::future<Result<ServiceResult>> result;
      RequestId id = 0;
    };
    std::vector<One> all;
    for (int event = 0; event < 60; ++event) {
      if (pick(0, 6) == 0 && !all.empty()) service_->Cancel(all[static_cast<size_t>(pick(0, static_cast<int>(all.size()) - 1))].id);
      if (pick(0, 4) == 0) std::this_thread::sleep_for(std::chrono::microseconds(pick(0, 2000)));
      auto prompt = Ids(pick(1, 200), pick(0, 2));
      if (pick(0, 1) != 0) {
        for (const TokenId token : Ids(pick(1, 30), pick(0, 50))) prompt.push_back(token);
      }
      One one{Ask(prompt, pick(0, 25)), {}};
      one.request.priority = pick(-2, 2);
      one.request.tenant = pick(0, 3) == 0 ? "b" : "a";
      one.result = Submit(one.request, &one.id);
      all.push_back(std::move(one));
    }
    std::vector<Result<ServiceResult>> results;
    for (One& one : all) results.push_back(one.result.get());
    service_->Drain(10);
    const Status sound = service_->cache()->Check();
    EXPECT_TRUE(sound) << sound.error().message;
    for (size_t i = 0; i < all.size(); ++i) {
      ASSERT_TRUE(results[i]) << results[i].error().message;
      const auto expected = Alone(all[i].request);
      const auto& tokens = results[i]->generation.tokens;
      ASSERT_LE(tokens.size(), expected.size());
      EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), expected.begin())) << i;
      if (results[i]->generation.finish_reason == FinishReason::kCancelled) continue;
      EXPECT_EQ(tokens.size(), expected.size());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, ServiceOnCacheSoak, testing::Range(1, 7));

}  // namespace
}  // namespace fathom
