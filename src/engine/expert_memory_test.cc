// An engine whose experts come from slots gives, to the bit, what one gives whose experts are mapped.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "engine/engine.h"
#include "experts/routing_trace.h"
#include "io/temp_folder_for_test.h"

namespace fathom {
namespace {

const std::string kFolder = FATHOM_SOURCE_DIR "/tests/golden/gguf/";

std::vector<TokenId> Ids(int count) {
  std::vector<TokenId> ids(count);
  for (int i = 0; i < count; ++i) ids[i] = 10 + (i * 37 + 5) % 200;
  return ids;
}

/// Logits of a prompt in pieces of several sizes, then token by token.
Result<std::vector<float>> Logits(Engine& engine) {
  FATHOM_TRY(const auto session, engine.NewSession());
  std::vector<float> all, some;
  const auto ids = Ids(40);
  size_t at = 0;
  for (const size_t count : {17, 8, 5, 1, 3, 1, 1, 1, 1, 1, 1}) {
    FATHOM_CHECK_OK(session->EvalAll(std::span(ids).subspan(at, count), some));
    all.insert(all.end(), some.begin(), some.end());
    at += count;
  }
  return all;
}

Result<std::vector<float>> Logits(const std::string& path, const EngineOptions& options) {
  FATHOM_TRY(const auto engine, Engine::Load(path, options));
  return Logits(*engine);
}

class ExpertMemoryTest : public testing::TestWithParam<std::string> {
 protected:
  static EngineOptions With(int64_t memory) {
    EngineOptions options{.threads = 2, .context_length = 100, .prefill_chunk = 16};
    options.experts.memory_bytes = memory;
    return options;
  }
  const std::string path_ = kFolder + GetParam();
};
INSTANTIATE_TEST_SUITE_P(Models, ExpertMemoryTest,
                         testing::Values("v3-mainline.gguf", "v2lite-mainline.gguf", "v3-split-00001-of-00003.gguf"),
                         [](const auto& info) { return info.param.substr(0, info.param.find('-')) +
                                                       (info.param.find("split") != std::string::npos ? "split" : ""); });

TEST_P(ExpertMemoryTest, SameToTheBit) {
  const auto mapped = Logits(path_, With(0));
  ASSERT_TRUE(mapped) << mapped.error().message;
  // Find out how small it may be from what is said of too little.
  const auto refused = Engine::Load(path_, With(1));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  const std::string& said = refused.error().message;
  const int64_t least = std::stoll(said.substr(said.find("which take ") + 11));
  for (const int64_t memory : {least, 2 * least, int64_t{1} << 30}) {
    auto engine = Engine::Load(path_, With(memory));
    ASSERT_TRUE(engine) << engine.error().message;
    const auto streamed = Logits(**engine);
    ASSERT_TRUE(streamed) << streamed.error().message;
    EXPECT_TRUE(*streamed == *mapped) << memory;
    const auto stats = (*engine)->expert_stats();
    ASSERT_TRUE(stats);
    EXPECT_GT(stats->uses, 0);
    EXPECT_GT(stats->hinted, 0);
    EXPECT_LE(stats->slots * stats->slot_bytes, memory);
    EXPECT_EQ(stats->leased, 0);
  }
}

TEST_P(ExpertMemoryTest, HeatIsKept) {
  const TempFolderForTest folder;
  auto options = With(1 << 30);
  options.experts.heat_directory = folder / "heat";
  ASSERT_TRUE(Logits(path_, options));
  ASSERT_TRUE(std::filesystem::exists(folder / "heat"));
  ASSERT_FALSE(std::filesystem::is_empty(folder / "heat"));
  const auto engine = Engine::Load(path_, options);
  ASSERT_TRUE(engine);
  EXPECT_GT((*engine)->expert_stats()->prefetch_reads, 0);  // it begins to read what was hot
}

TEST_P(ExpertMemoryTest, RecordedRoutingReplays) {
  const TempFolderForTest folder;
  auto options = With(0);
  options.experts.record_routing = folder / "routing";
  const auto first = Logits(path_, options);
  ASSERT_TRUE(first) << first.error().message;
  const auto trace = ReadRoutingTrace(Env::Default(), folder / "routing");
  ASSERT_TRUE(trace) << trace.error().message;
  EXPECT_EQ(trace->tokens(), 40);

  // Replayed from the beginning, the same choices with the same weights: the same logits.
  options = With(0);
  options.experts.replay_routing = folder / "routing";
  const auto replayed = Logits(path_, options);
  ASSERT_TRUE(replayed) << replayed.error().message;
  EXPECT_TRUE(*replayed == *first);
  options.experts.memory_bytes = 1 << 30;
  EXPECT_TRUE(*Logits(path_, options) == *first);

  // Another routing gives something else.
  std::ofstream lines(folder / "other");
  const auto& g = trace->geometry;
  for (int t = 0; t < 3; ++t) {
    lines << "{\"layers\": [[";
    for (int k = 0; k < g.top_k; ++k) lines << (k > 0 ? "," : "") << (g.experts - 1 - k);
    lines << "]]}\n";
  }
  lines.close();
  options.experts.replay_routing = folder / "other";
  const auto other = Logits(path_, options);
  ASSERT_TRUE(other) << other.error().message;
  EXPECT_FALSE(*other == *first);

  options.experts.record_routing = folder / "both";
  EXPECT_EQ(Engine::Load(path_, options).error().code, ErrorCode::kInvalidArgument);
}

TEST(ExpertMemoryOfDense, IsRefused) {
  EngineOptions options{.threads = 1};
  options.experts.memory_bytes = 1 << 30;
  EXPECT_EQ(Engine::Load(kFolder + "llama.gguf", options).error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace fathom
