// --io: however experts are read, an engine computes the same; auto measures and says so, and a promise knows what it counts.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "engine/engine.h"
#include "engine/synth.h"
#include "io/page_cache.h"
#include "io/temp_folder_for_test.h"

namespace fathom {
namespace {

using Why = IoChoice::Why;
constexpr int64_t kMiB = int64_t{1} << 20;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int64_t kPromise = int64_t{64} << 30;  // sanitizers take memory of their own
#else
constexpr int64_t kPromise = int64_t{2} << 30;
#endif

Result<std::vector<float>> Logits(Engine& engine, int prompt = 30, int more = 6) {
  FATHOM_TRY(const auto session, engine.NewSession());
  std::vector<TokenId> ids(static_cast<size_t>(prompt + more));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<TokenId>((i * 37 + 5) % 200);
  FATHOM_CHECK_OK(session->Eval(std::span(ids).first(static_cast<size_t>(prompt))));
  std::vector<float> all(session->logits().begin(), session->logits().end());
  for (size_t i = static_cast<size_t>(prompt); i < ids.size(); ++i) {
    FATHOM_CHECK_OK(session->Eval({&ids[i], 1}));
    all.insert(all.end(), session->logits().begin(), session->logits().end());
  }
  return all;
}

/// One MoE layer of V2-Lite's widths: 64 experts of 5.4 MiB.
class ExpertIoTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TempFolderForTest;
    path_ = *folder_ / "model.gguf";
    SynthOptions synth;
    synth.config = "deepseek-v2-lite";
    synth.output = path_;
    synth.layers = 2;
    synth.vocab_size = 4096;
    synth.threads = 2;
    const auto written = WriteSynth(synth);
    ASSERT_TRUE(written) << written.error().message;
  }
  static void TearDownTestSuite() { delete folder_; }

  /// False where it lives in the page cache.
  static bool ForgetFile() {
    ::sync();
    return DropCached(path_, 0, INT64_MAX) && CachedBytes(path_).value_or(INT64_MAX) < kMiB;
  }
  static EngineOptions Options(ExpertIo io) {
    EngineOptions options{.threads = 2, .context_length = 256, .prefill_chunk = 16};
    options.experts.io = io;
    return options;
  }

  static inline TempFolderForTest* folder_ = nullptr;
  static inline std::string path_;
};

TEST_F(ExpertIoTest, EveryWayGivesTheSameBits) {
  const auto mapped = Engine::Load(path_, Options(ExpertIo::kAuto));
  ASSERT_TRUE(mapped) << mapped.error().message;
  const auto want = Logits(**mapped);
  ASSERT_TRUE(want) << want.error().message;
  for (const ExpertIo io : {ExpertIo::kDirect, ExpertIo::kBuffered, ExpertIo::kAuto}) {
    for (const bool promised : {false, true}) {
      EngineOptions options = Options(io);
      options.experts.memory_bytes = 100 * kMiB;
      if (promised) options.promise.bytes = kPromise;
      const auto engine = Engine::Load(path_, options);
      ASSERT_TRUE(engine) << engine.error().message;
      const auto got = Logits(**engine);
      ASSERT_TRUE(got) << got.error().message;
      EXPECT_TRUE(*got == *want) << ExpertIoName(io) << promised;
      const ExpertStoreStats stats = *(*engine)->expert_stats();
      EXPECT_EQ(stats.io.asked, io);
      EXPECT_GT(stats.bytes_read, 0);
      if (io == ExpertIo::kBuffered) {
        EXPECT_FALSE(stats.io.direct);
      }
    }
  }
}

TEST_F(ExpertIoTest, AutoMeasuresAndDoesWhatItSays) {
  EngineOptions options = Options(ExpertIo::kAuto);
  options.experts.memory_bytes = 100 * kMiB;
  if (!ForgetFile()) GTEST_SKIP() << "the file cannot be dropped from the page cache";
  {
    const auto engine = Engine::Load(path_, options);
    ASSERT_TRUE(engine) << engine.error().message;
    const IoChoice io = (*engine)->expert_stats()->io;
    if (io.why == Why::kNotDirect) GTEST_SKIP() << IoLine(io);
    EXPECT_EQ(io.why, Why::kMeasured) << IoLine(io);
    EXPECT_GT(io.measured.direct_rate, 0);
    EXPECT_GT(io.measured.cold_rate, 0);
    EXPECT_GT(io.measured.warm_rate, 0);
    EXPECT_GT(io.measured.expert_bytes, 300 * kMiB);
    EXPECT_GT(io.measured.slot_bytes, 80 * kMiB);
    EXPECT_LE(io.measured.slot_bytes, 100 * kMiB);
    EXPECT_EQ(io.direct, ChooseIo(io.measured).direct);
    EXPECT_NE(IoLine(io).find(io.direct ? "past the page cache" : "through the page cache"), std::string::npos);
  }
  // Whoever takes all the memory beside it leaves none to the page cache, so nothing is in favour of it.
  options.experts.beside_bytes = int64_t{1} << 50;
  const auto engine = Engine::Load(path_, options);
  ASSERT_TRUE(engine) << engine.error().message;
  const IoChoice io = (*engine)->expert_stats()->io;
  EXPECT_LT(io.measured.cache_bytes, 0);
  EXPECT_EQ(io.held_share, 0);
}

TEST_F(ExpertIoTest, WithSlotsForAllNothingIsMeasured) {
  EngineOptions options = Options(ExpertIo::kAuto);
  options.experts.memory_bytes = int64_t{1} << 30;
  const auto engine = Engine::Load(path_, options);
  ASSERT_TRUE(engine) << engine.error().message;
  EXPECT_EQ((*engine)->expert_stats()->io.why, Why::kAllFit);
}

TEST_F(ExpertIoTest, APromiseReadsDirectlyUnlessToldOtherwise) {
  EngineOptions options = Options(ExpertIo::kAuto);
  options.experts.memory_bytes = 80 * kMiB;
  options.promise.bytes = kPromise;
  const bool drops = ForgetFile();
  {
    const auto engine = Engine::Load(path_, options);
    ASSERT_TRUE(engine) << engine.error().message;
    ASSERT_TRUE(Logits(**engine));
    const IoChoice io = (*engine)->expert_stats()->io;
    EXPECT_EQ(io.why, Why::kPromise);
    EXPECT_EQ(io.measured.direct_rate, 0);
    EXPECT_FALSE((*engine)->memory_plan()->page_cache_outside);
    if (drops) {
      EXPECT_LT((*engine)->page_cache_growth(), kMiB);
    }
  }
  options.experts.io = ExpertIo::kBuffered;
  {
    const auto engine = Engine::Load(path_, options);
    ASSERT_TRUE(engine) << engine.error().message;
    ASSERT_TRUE(Logits(**engine));
    EXPECT_TRUE((*engine)->memory_plan()->page_cache_outside);
    const ExpertStoreStats stats = *(*engine)->expert_stats();
    EXPECT_EQ(stats.io.why, Why::kAsked);
    EXPECT_FALSE(stats.io.direct);
    if (drops) {
      EXPECT_GT((*engine)->page_cache_growth(), 50 * kMiB);
    }
  }
  // All of it resident: nothing is read, and nothing stands outside.
  options.experts.memory_bytes = 0;
  const auto engine = Engine::Load(path_, options);
  ASSERT_TRUE(engine) << engine.error().message;
  EXPECT_TRUE((*engine)->memory_plan()->all_resident);
  EXPECT_FALSE((*engine)->memory_plan()->page_cache_outside);
}

}  // namespace
}  // namespace fathom
