// A system that gives fewer threads than are asked for: an error that says so, or the work is done without; never an end of
// the program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <future>

#include "base/source_dir_for_test.h"
#include "base/start_thread.h"
#include "engine/layer_waiter.h"
#include "engine/service.h"
#include "engine/synth.h"

namespace fathom {
namespace {

using testing::HasSubstr;

const std::string kModel = SourceDirForTest() + "/tests/golden/gguf/v2lite-mainline.gguf";

class ThreadLimit : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) / fmt::format("fathom-threads-{}", ::getpid());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  std::filesystem::path folder_;
};

TEST_F(ThreadLimit, TheEngineSaysHowManyThereWere) {
  const ThreadLimitForTest limit(1);
  const auto engine = Engine::Load(kModel, {.threads = 4, .context_length = 100});
  ASSERT_FALSE(engine);
  EXPECT_EQ(engine.error().code, ErrorCode::kResource);
  EXPECT_THAT(engine.error().message, HasSubstr("2 of 4 threads"));
}

// One more thread each time, until all are there: whichever is the first to be refused. Twice in the same folder, so that a
// prefix stands on the disk and is wanted back.
TEST_F(ThreadLimit, AServiceWithoutItsThreadsIsAnErrorAndOneThatStartsAnswers) {
  std::vector<TokenId> prompt;
  for (int i = 0; i < 150; ++i) prompt.push_back(10 + i);
  int refused = 0, answered = 0;
  for (int more = 0; more < 30 && answered < 6; ++more) {
    SCOPED_TRACE(more);
    const ThreadLimitForTest limit(more);
    const auto engine = Engine::Load(kModel, {.threads = 3, .context_length = 250});
    if (!engine) {
      EXPECT_EQ(engine.error().code, ErrorCode::kResource);
      ++refused;
      continue;
    }
    ServiceOptions options;
    options.cache.directory = folder_.string();
    options.cache.disk_bytes = 64 << 20;
    const auto service = Service::Create(**engine, options);
    if (!service) {
      EXPECT_EQ(service.error().code, ErrorCode::kResource) << service.error().message;
      ++refused;
      continue;
    }
    std::promise<Result<ServiceResult>> promise;
    ServiceRequest request;
    request.prompt = prompt;
    request.params.max_tokens = 4;
    request.params.ignore_eos = true;
    ASSERT_TRUE((*service)->Submit(request, {.on_done = [&](Result<ServiceResult> done) { promise.set_value(std::move(done)); }}));
    auto future = promise.get_future();
    ASSERT_EQ(future.wait_for(std::chrono::seconds(60)), std::future_status::ready);
    const auto result = future.get();
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(result->generation.tokens.size(), 4u);
    ++answered;
  }
  EXPECT_GE(refused, 4);
  EXPECT_EQ(answered, 6);
}

TEST_F(ThreadLimit, WeightsAreNotMadeAndNothingStays) {
  SynthOptions options;
  options.config = "tiny";
  options.type = "q8_0";
  options.threads = 2;
  options.output = (folder_ / "tiny.gguf").string();
  for (const int more : {0, 1}) {  // the pool's; the one that writes
    const ThreadLimitForTest limit(more);
    const auto made = WriteSynth(options);
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error().code, ErrorCode::kResource) << made.error().message;
    EXPECT_TRUE(std::filesystem::is_empty(folder_));
  }
}

class ArrivedLoad : public KvLoad {
 public:
  bool WaitLayer(int64_t) override { return true; }
  bool Done() const override { return true; }
  int64_t valid_tokens() const override { return 64; }
};

TEST_F(ThreadLimit, ALoadThatNobodyCanWaitForHasFailed) {
  const auto load = std::make_shared<ArrivedLoad>();
  {
    LayerWaiter waiter(load, 2);
    EXPECT_EQ(waiter.Wait(1, std::chrono::seconds(30)), LayerWaiter::State::kThere);
  }
  const ThreadLimitForTest limit(0);
  LayerWaiter waiter(load, 2);
  EXPECT_EQ(waiter.Wait(1, std::chrono::seconds(30)), LayerWaiter::State::kFailed);
  EXPECT_TRUE(waiter.finished());
}

}  // namespace
}  // namespace fathom
