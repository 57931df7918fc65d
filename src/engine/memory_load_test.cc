// A promise of memory under load: many long prompts at once, more than the pool of keys and values holds, clients that
// leave, expert slots for less than a layer. What is counted stays within the plan at any moment, and the process's peak
// within the promise.
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <random>
#include <thread>

#include "base/process_memory.h"
#include "engine/engine.h"
#include "engine/service.h"
#include "engine/synth.h"
#include "io/temp_folder_for_test.h"

namespace fathom {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

bool ForgetPeak() {
  std::ofstream("/proc/self/clear_refs") << "5";
  const ProcessMemory now = ReadProcessMemory();
  return now.resident > 0 && now.peak < now.resident + 2 * kMiB;
}

/// From the words that refuse too small a promise.
int64_t LeastPromise(const std::string& path, EngineOptions options) {
  ForgetPeak();
  options.promise.bytes = kMiB;
  const auto refused = Engine::Load(path, options);
  EXPECT_FALSE(refused);
  if (refused) return 0;
  const std::string& said = refused.error().message;
  const size_t at = said.find("at least ");
  EXPECT_NE(at, std::string::npos) << said;
  return at == std::string::npos ? 0 : (std::stoll(said.substr(at + 9)) + 8) * kMiB;
}

TEST(MemoryUnderLoad, ManyLongPromptsStayWithinThePromise) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers take memory of their own";
#endif
  if (!ForgetPeak()) GTEST_SKIP() << "the kernel does not forget a process's peak here";
  const TempFolderForTest folder;
  SynthOptions synth;
  synth.config = "deepseek-v2-lite";  // its widths: 64 experts of 5.4 MiB in the one MoE layer
  synth.output = folder / "model.gguf";
  synth.layers = 2;
  synth.vocab_size = 4096;
  synth.threads = 2;
  ASSERT_TRUE(WriteSynth(synth));

  EngineOptions options{.threads = 2, .context_length = 1024};
  options.promise = {.serving = true, .rows = 128, .sequences = 8, .logit_rows = 8, .extra_bytes = 8 * kMiB};
  options.promise.bytes = LeastPromise(synth.output, options) + 24 * kMiB;
  ASSERT_TRUE(ForgetPeak());
  const auto loaded = Engine::Load(synth.output, options);
  ASSERT_TRUE(loaded) << loaded.error().message;
  Engine& engine = **loaded;
  const auto plan = engine.memory_plan();
  ASSERT_TRUE(plan);
  ASSERT_FALSE(plan->all_resident);
  ASSERT_LT(plan->slots, 64);
  ServiceOptions serving{.max_sequences = 8, .step_tokens = plan->rows};
  serving.cache.memory_bytes = plan->kv_bytes;
  const auto made = Service::Create(engine, serving);
  ASSERT_TRUE(made) << made.error().message;
  Service& service = **made;
  // One that is under way is no leak of the others: 8 prompts of 500 tokens and more in blocks for a few of them.
  ASSERT_LT(plan->kv_bytes, 8 * 500 * engine.memory().kv_bytes_per_token);

  std::atomic<bool> stop{false};
  std::atomic<int> samples{0}, done{0}, failed{0};
  std::thread watch([&] {
    while (!stop) {
      const ServiceStats stats = service.stats();
      ASSERT_TRUE(stats.experts);
      EXPECT_LE(stats.experts->leased, stats.experts->slots);
      EXPECT_LE(stats.experts->resident, stats.experts->slots);
      // Slots and pool share: neither grows without the other giving.
      EXPECT_LE(stats.experts->slots * stats.experts->slot_bytes + stats.kv_share_bytes,
                plan->slots * plan->slot_bytes + plan->kv_bytes);
      EXPECT_LE(ReadProcessMemory().resident, options.promise.bytes);
      ++samples;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  });
  std::vector<std::thread> clients;
  for (int c = 0; c < 4; ++c) {
    clients.emplace_back([&, c] {
      std::mt19937 random(static_cast<uint32_t>(c));
      for (int i = 0; i < 3; ++i) {
        ServiceRequest request;
        request.prompt.resize(500 + random() % 300);
        for (TokenId& token : request.prompt) token = static_cast<TokenId>(random() % 4000);
        request.params.sampling.temperature = 0;
        request.params.max_tokens = 6;
        request.params.ignore_eos = true;
        const auto id = service.Submit(std::move(request), {.on_done = [&](const Result<ServiceResult>& result) {
                                                              if (!result) {
                                                                ++failed;
                                                                ADD_FAILURE() << result.error().message;
                                                              }
                                                              ++done;
                                                            }});
        ASSERT_TRUE(id) << id.error().message;
        if (random() % 4 == 0) {
          std::this_thread::sleep_for(std::chrono::milliseconds(random() % 200));
          service.Cancel(*id);
        }
      }
    });
  }
  for (std::thread& client : clients) client.join();
  service.Drain(600);
  stop = true;
  watch.join();
  EXPECT_EQ(done, 12);
  EXPECT_EQ(failed, 0);
  EXPECT_GT(samples, 20);
  EXPECT_EQ(engine.expert_stats()->leased, 0);
  const int64_t peak = ReadProcessMemory().peak + engine.page_cache_growth();
  RecordProperty("promised_mib", static_cast<int>(options.promise.bytes / kMiB));
  RecordProperty("peak_mib", static_cast<int>(peak / kMiB));
  EXPECT_LE(peak, options.promise.bytes);
}

}  // namespace
}  // namespace fathom
