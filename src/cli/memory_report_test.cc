#include "cli/memory_report.h"

#include <gtest/gtest.h>

#include "cli/fake_engine_for_test.h"

namespace fathom {
namespace {

MemoryPlan Plan() {
  return {.budget = int64_t{3} << 30,
          .process = 100 << 20,
          .reserve = 85 << 20,
          .weights = 900 << 20,
          .all_resident = false,
          .slots = 300,
          .slot_bytes = 5 << 20,
          .experts = 1664,
          .kv_bytes = 200 << 20,
          .kv_memory = 210 << 20,
          .scratch = 150 << 20,
          .context = 6400,
          .rows = 512,
          .hit_share = 0.18,
          .bytes_per_token = 800'000'000};
}

TEST(MemoryReport, SaysWhatGoesWhere) {
  const std::string text = PlanTable(Plan(), 2e9);
  EXPECT_NE(text.find("memory 3.0 GiB:\n"), std::string::npos) << text;
  EXPECT_NE(text.find("  weights                   900 MiB  all but the routed experts\n"), std::string::npos) << text;
  EXPECT_NE(text.find("300 of 1664;"), std::string::npos) << text;
  EXPECT_NE(text.find("a context of 6400 tokens"), std::string::npos) << text;
  EXPECT_NE(text.find("passes of 512 rows"), std::string::npos) << text;
  // 800 MB of which 82 % is missing, at 2 GB/s.
  EXPECT_NE(text.find("expected: 18 % of experts resident if all are used alike; 626 MiB a token from disk, which at 2.0 GB/s "
                      "(measured) allows 3.0 tokens/s\n"),
            std::string::npos)
      << text;
}

TEST(MemoryReport, SaysWhatIsNotPromised) {
  MemoryPlan plan = Plan();
  EXPECT_EQ(PlanTable(plan, 0).find("not promised"), std::string::npos);
  plan.page_cache_outside = true;
  EXPECT_NE(PlanTable(plan, 0).find("  beside it, not promised: what the page cache holds of the experts read (--io buffered)\n"),
            std::string::npos)
      << PlanTable(plan, 0);
}

TEST(MemoryReport, MeasuredRoutingCountsWhereThereIsSome) {
  MemoryPlan plan = Plan();
  plan.hot_share = 0.6;
  const std::string text = PlanTable(plan, 0);
  EXPECT_NE(text.find("60 % of experts resident by earlier runs' routing (18 % if all are used alike); 305 MiB a token from "
                      "disk\n"),
            std::string::npos)
      << text;
  plan.all_resident = true;
  plan.slots = 0;
  EXPECT_EQ(PlanTable(plan, 2e9).find("expected"), std::string::npos);
  EXPECT_NE(PlanTable(plan, 2e9).find("experts too"), std::string::npos);
}

TEST(MemoryReport, SaysWhetherItWasKept) {
  EXPECT_EQ(PromiseLine({int64_t{3} << 30, int64_t{2} << 30, 0}), "memory: 2.0 GiB of 3.0 GiB promised");
  EXPECT_EQ(PromiseLine({int64_t{3} << 30, int64_t{2} << 30, 10 << 20}),
            "memory: 2.0 GiB of 3.0 GiB promised, and 10.0 MiB of the model in the page cache");
  EXPECT_NE(PromiseLine({int64_t{3} << 30, int64_t{3} << 30, 10 << 20}).find("NOT KEPT"), std::string::npos);
  // Experts read through the page cache on purpose: what it holds is told and breaks nothing; what the process takes does.
  EXPECT_EQ(PromiseLine({int64_t{3} << 30, int64_t{3} << 30, 10 << 20, true}),
            "memory: 3.0 GiB of 3.0 GiB promised, and 10.0 MiB of the model in the page cache, which was not promised (--io "
            "buffered)");
  EXPECT_NE(PromiseLine({int64_t{3} << 30, int64_t{4} << 30, 10 << 20, true}).find("NOT KEPT"), std::string::npos);
  FakeEngine engine;
  EXPECT_FALSE(MeasurePromise(engine));
}

}  // namespace
}  // namespace fathom
