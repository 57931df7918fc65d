// An engine whose experts come from slots gives, to the bit, what one gives whose experts are mapped.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <utility>

#include "base/source_dir_for_test.h"
#include "engine/engine.h"
#include "experts/routing_trace.h"
#include "io/temp_folder_for_test.h"

namespace fathom {
namespace {

const std::string kFolder = SourceDirForTest() + "/tests/golden/gguf/";

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

/// Of one prompt in pieces of `chunk`; and what each piece read, in experts.
struct Streamed {
  std::vector<float> logits;
  std::vector<int64_t> reads;
};
Result<Streamed> Stream(Engine& engine, int64_t chunk, int64_t pieces) {
  FATHOM_TRY(const auto session, engine.NewSession());
  Streamed out;
  std::vector<float> some;
  const auto ids = Ids(static_cast<int>(chunk * pieces));
  int64_t before = 0;
  for (int64_t i = 0; i < pieces; ++i) {
    FATHOM_CHECK_OK(session->EvalAll(std::span(ids).subspan(i * chunk, chunk), some));
    out.logits.insert(out.logits.end(), some.begin(), some.end());
    const auto stats = engine.expert_stats();
    if (!stats) continue;
    const int64_t reads = stats->demand_reads + stats->prefetch_reads + stats->ahead_reads;
    out.reads.push_back(reads - std::exchange(before, reads));
  }
  return out;
}

// Long pieces: whole layers ahead, in windows where slots are few, each expert once a piece.
TEST_P(ExpertMemoryTest, LongPiecesReadEveryExpertOnceAndGiveTheSameBits) {
  auto options = With(0);
  options.prefill_chunk = 32;
  const auto mapped = Engine::Load(path_, options);
  ASSERT_TRUE(mapped) << mapped.error().message;
  const auto expected = Stream(**mapped, 32, 3);
  ASSERT_TRUE(expected);
  const ModelConfig& config = (*mapped)->config();
  const int64_t layers = config.num_hidden_layers - config.moe.first_k_dense_replace;
  const int64_t all = layers * config.moe.n_routed_experts;
  options.experts.memory_bytes = int64_t{1} << 30;
  const int64_t slot = (*Engine::Load(path_, options))->expert_stats()->slot_bytes;
  for (const int64_t slots : {int64_t{2} * config.moe.num_experts_per_tok, config.moe.n_routed_experts + int64_t{1}, all}) {
    options.experts.memory_bytes = std::min(slots, all) * slot;
    const auto engine = Engine::Load(path_, options);
    ASSERT_TRUE(engine) << engine.error().message;
    const auto streamed = Stream(**engine, 32, 3);
    ASSERT_TRUE(streamed) << streamed.error().message;
    EXPECT_TRUE(streamed->logits == expected->logits) << slots;
    for (const int64_t reads : streamed->reads) EXPECT_LE(reads, all) << slots;
    const auto stats = (*engine)->expert_stats();
    EXPECT_GT(stats->ahead_reads, 0);
    EXPECT_EQ(stats->hinted, 0);
    EXPECT_EQ(stats->leased, 0);
    // Nothing gives way: what the first piece did not choose, and was not read in time beside it, comes later, once.
    if (slots >= all) {
      EXPECT_LE(streamed->reads[0] + streamed->reads[1] + streamed->reads[2], all);
    }
  }
}

TEST_P(ExpertMemoryTest, PiecesAreAsLongAsIsSaid) {
  auto options = With(1 << 30);
  options.experts.heat_directory.clear();
  options.streamed_prefill_chunk = 1;
  const auto engine = Engine::Load(path_, options);
  ASSERT_TRUE(engine) << engine.error().message;
  const auto session = (*engine)->NewSession();
  ASSERT_TRUE((*session)->Eval(Ids(20)));
  const auto stats = (*engine)->expert_stats();
  // One token at a time: as many uses as choices, and nothing read a layer ahead.
  const ModelConfig& config = (*engine)->config();
  EXPECT_EQ(stats->uses, 20 * config.moe.num_experts_per_tok *
                             (config.num_hidden_layers - config.moe.first_k_dense_replace));
  EXPECT_EQ(stats->ahead_reads, 0);
  options.streamed_prefill_chunk = -1;
  EXPECT_EQ(Engine::Load(path_, options).error().code, ErrorCode::kInvalidArgument);
}

TEST_P(ExpertMemoryTest, ABiasToResidentsReadsLessAndIsAnotherModel) {
  auto options = With(1 << 30);
  const int64_t slot = (*Engine::Load(path_, options))->expert_stats()->slot_bytes;
  const ModelConfig config = (*Engine::Load(path_, options))->config();
  options.experts.memory_bytes = 2 * config.moe.num_experts_per_tok * slot;
  options.streamed_prefill_chunk = 1;
  std::vector<float> unbiased, biased;
  double hits[2] = {};
  for (const float bias : {0.0f, 1.0f}) {
    options.experts.resident_bias = bias;
    const auto engine = Engine::Load(path_, options);
    ASSERT_TRUE(engine) << engine.error().message;
    const auto session = (*engine)->NewSession();
    ASSERT_TRUE((*session)->EvalAll(Ids(40), bias > 0 ? biased : unbiased));
    const auto stats = *(*engine)->expert_stats();
    hits[bias > 0] = static_cast<double>(stats.hits + stats.arriving) / static_cast<double>(stats.uses);
  }
  EXPECT_GT(hits[1], hits[0]);
  EXPECT_FALSE(biased == unbiased);
  // In a pass over about all experts the gates choose as without.
  options.streamed_prefill_chunk = 40;
  const auto engine = Engine::Load(path_, options);
  ASSERT_TRUE(engine);
  std::vector<float> whole;
  const auto session = (*engine)->NewSession();
  ASSERT_TRUE((*session)->EvalAll(Ids(40), whole));
  EXPECT_TRUE(whole == unbiased);
  options.experts.resident_bias = 1.5f;
  EXPECT_EQ(Engine::Load(path_, options).error().code, ErrorCode::kInvalidArgument);
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
