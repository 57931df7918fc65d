#include "engine/memory_plan.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace fathom {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20, kGiB = int64_t{1} << 30;

/// V2-Lite in Q4_K_M: 10.4 GB, 26 layers of 64 experts.
MemoryPlanInput Lite(int64_t budget) {
  MemoryPlanInput in;
  in.budget = budget;
  in.process = 90 * kMiB;
  in.peak = 100 * kMiB;
  in.dense = 900 * kMiB;
  in.whole = 9900 * kMiB;
  in.experts = 26 * 64;
  in.slot_bytes = 5672960;
  in.expert_bytes = 5660000;
  in.experts_per_token = 26 * 6;
  in.least_slots = 12;
  in.kv_block_bytes = 27 * 64 * 1152;
  in.most_context = 32768;
  in.rows = 1024;
  in.least_rows = 32;
  in.scratch = [](int32_t rows, int32_t context) { return rows * int64_t{300} * 1024 + context * int64_t{64} + 4 * kMiB; };
  return in;
}

void ExpectSound(const MemoryPlan& plan, const MemoryPlanInput& in) {
  EXPECT_LE(plan.used(), plan.budget);
  EXPECT_GE(plan.spare(), 0);
  EXPECT_GE(plan.reserve, 24 * kMiB);
  EXPECT_EQ(plan.process, in.process);
  EXPECT_EQ(plan.extra, in.extra);
  EXPECT_EQ(plan.scratch, in.scratch(plan.rows, plan.context));
  EXPECT_GE(plan.kv_memory, plan.kv_bytes);
  EXPECT_EQ(plan.all_resident, plan.slots == 0);
  EXPECT_EQ(plan.weights, plan.all_resident ? in.whole : in.dense);
  if (!plan.all_resident) {
    EXPECT_GE(plan.slots, in.fixed_slots > 0 ? in.fixed_slots : in.least_slots);
    EXPECT_LE(plan.slots, in.experts);
  }
  EXPECT_GE(plan.lent_slots, 0);
  if (plan.lent_slots > 0) {
    EXPECT_GT(in.short_rows, 0);
    EXPECT_EQ(in.fixed_slots, 0);
    EXPECT_LE(plan.slots + plan.lent_slots, in.experts);
    // While it is lent, all is within the budget too.
    EXPECT_LE(plan.used() - plan.scratch + in.scratch(in.short_rows, plan.context) + plan.lent_slots * plan.slot_bytes,
              plan.budget);
  }
  if (in.context > 0) {
    EXPECT_EQ(plan.context, in.context);
  } else {
    EXPECT_GE(plan.context, std::min(in.most_context, kLeastContext));
    EXPECT_LE(plan.context, in.most_context);
  }
  if (!in.shared_pool || in.kv_bytes < 0) {
    EXPECT_GE(plan.kv_bytes, (plan.context + in.kv_block_tokens - 1) / in.kv_block_tokens * in.kv_block_bytes);
  } else {
    EXPECT_EQ(plan.kv_bytes, in.kv_bytes);
  }
  EXPECT_LE(plan.rows, in.rows);
  EXPECT_GE(plan.rows, in.least_rows);
}

TEST(MemoryPlan, SlotsTakeWhatIsLeft) {
  const MemoryPlanInput in = Lite(3 * kGiB);
  const auto plan = PlanMemory(in);
  ASSERT_TRUE(plan) << plan.error().message;
  ExpectSound(*plan, in);
  EXPECT_FALSE(plan->all_resident);
  EXPECT_LT(plan->spare(), in.slot_bytes);
  EXPECT_GT(plan->slots, 200);
  EXPECT_NEAR(plan->hit_share, static_cast<double>(plan->slots) / (26 * 64), 1e-12);
  // 156 experts of 5.66 MB, the missing share of them, at 1.5 GB/s.
  const double missing = 156 * 5660000.0 * (1 - plan->hit_share);
  EXPECT_NEAR(plan->missing_bytes(), missing, 1);
  EXPECT_NEAR(plan->disk_bound(1.5e9), 1.5e9 / missing, 1e-9);
}

TEST(MemoryPlan, LongPassesBuffersAreLentToSlots) {
  MemoryPlanInput in = Lite(3 * kGiB);
  const auto kept = PlanMemory(in);
  ASSERT_TRUE(kept);
  EXPECT_EQ(kept->lent_slots, 0);
  in.short_rows = 64;
  const auto plan = PlanMemory(in);
  ASSERT_TRUE(plan);
  ExpectSound(*plan, in);
  EXPECT_EQ(plan->slots, kept->slots);
  // 960 rows of 300 KiB, and what was left over for less than a slot.
  EXPECT_NEAR(static_cast<double>(plan->lent_slots), 960.0 * 300 * 1024 / in.slot_bytes, 1);
  EXPECT_NEAR(plan->hit_share, static_cast<double>(plan->slots + plan->lent_slots) / (26 * 64), 1e-12);
  // Where that is less than one in a hundred, experts need not move for it.
  in.scratch = [](int32_t rows, int32_t) { return rows * int64_t{8} * 1024; };
  const auto few = PlanMemory(in);
  ASSERT_TRUE(few);
  EXPECT_EQ(few->lent_slots, 0);
}

TEST(MemoryPlan, AllResidentWhereItFits) {
  MemoryPlanInput in = Lite(12 * kGiB);
  auto plan = PlanMemory(in);
  ASSERT_TRUE(plan) << plan.error().message;
  ExpectSound(*plan, in);
  EXPECT_TRUE(plan->all_resident);
  EXPECT_EQ(plan->context, 32768);
  EXPECT_EQ(plan->rows, 1024);
  EXPECT_EQ(plan->disk_bound(1e9), 0);
  EXPECT_EQ(plan->missing_bytes(), 0);
  // Rather a shorter context than experts on disk, but not shorter than the floor.
  in.budget = 10800 * kMiB;
  plan = PlanMemory(in);
  ASSERT_TRUE(plan);
  ExpectSound(*plan, in);
  EXPECT_TRUE(plan->all_resident);
  EXPECT_LT(plan->context, 32768);
  EXPECT_GE(plan->context, kFloorContext);
  in.budget = 10000 * kMiB;
  plan = PlanMemory(in);
  ASSERT_TRUE(plan);
  EXPECT_FALSE(plan->all_resident);
  // Who asks for slots gets them.
  in = Lite(12 * kGiB);
  in.fixed_slots = 300;
  plan = PlanMemory(in);
  ASSERT_TRUE(plan);
  ExpectSound(*plan, in);
  EXPECT_EQ(plan->slots, 300);
}

TEST(MemoryPlan, RefusesWithWhatWouldDo) {
  MemoryPlanInput in = Lite(800 * kMiB);
  auto plan = PlanMemory(in);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, ErrorCode::kResource);
  const std::string& said = plan.error().message;
  const int64_t least = LeastMemory(in);
  EXPECT_NE(said.find(fmt::format("at least {} MiB", least / kMiB)), std::string::npos) << said;
  EXPECT_NE(said.find("weights 900 MiB"), std::string::npos) << said;
  EXPECT_NE(said.find("12 experts at a time"), std::string::npos) << said;
  in.budget = least;
  plan = PlanMemory(in);
  ASSERT_TRUE(plan) << plan.error().message;
  ExpectSound(*plan, in);
  in.budget = least - kMiB;
  EXPECT_FALSE(PlanMemory(in));
}

TEST(MemoryPlan, SaysWhichContextWouldFit) {
  MemoryPlanInput in = Lite(2 * kGiB);
  in.context = in.most_context = 131072;  // 4 GB of rows
  const auto plan = PlanMemory(in);
  ASSERT_FALSE(plan);
  const std::string& said = plan.error().message;
  const size_t at = said.find("--ctx ");
  ASSERT_NE(at, std::string::npos) << said;
  in.context = std::stoi(said.substr(at + 6));
  EXPECT_GT(in.context, 1000);
  EXPECT_TRUE(PlanMemory(in));
  in.context += 64;
  EXPECT_FALSE(PlanMemory(in));

  in = Lite(700 * kMiB);
  in.context = 20000;
  EXPECT_NE(PlanMemory(in).error().message.find("--ctx 4096"), std::string::npos) << PlanMemory(in).error().message;
}

TEST(MemoryPlan, APoolOfManySequences) {
  MemoryPlanInput in = Lite(3 * kGiB);
  in.shared_pool = true;
  auto plan = PlanMemory(in);
  ASSERT_TRUE(plan) << plan.error().message;
  ExpectSound(*plan, in);
  EXPECT_GT(plan->kv_bytes, 100 * kMiB);
  EXPECT_LT(plan->spare(), in.slot_bytes);
  in.kv_bytes = 64 * kMiB;
  plan = PlanMemory(in);
  ASSERT_TRUE(plan);
  ExpectSound(*plan, in);
  // Where experts have what they need, all else is the pool's.
  in = Lite(16 * kGiB);
  in.shared_pool = true;
  plan = PlanMemory(in);
  ASSERT_TRUE(plan);
  ExpectSound(*plan, in);
  EXPECT_TRUE(plan->all_resident);
  EXPECT_LT(plan->spare(), plan->kv_bytes / 32);
  EXPECT_GT(plan->kv_bytes, 4 * kGiB);
}

TEST(MemoryPlan, ABudgetThatIsBrokenAlready) {
  MemoryPlanInput in = Lite(12 * kGiB);
  in.peak = 13 * kGiB;
  EXPECT_FALSE(PlanMemory(in));
  EXPECT_EQ(LeastMemory(in), 13 * kGiB);
}

TEST(MemoryPlan, ADenseModelFitsOrNot) {
  MemoryPlanInput in = Lite(2 * kGiB);
  in.experts = in.slot_bytes = in.least_slots = in.expert_bytes = in.experts_per_token = 0;
  in.whole = in.dense;
  auto plan = PlanMemory(in);
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_TRUE(plan->all_resident);
  in.budget = LeastMemory(in);
  plan = PlanMemory(in);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->context, kLeastContext);
  EXPECT_EQ(plan->rows, in.least_rows);
  in.budget -= kMiB;
  EXPECT_FALSE(PlanMemory(in));
}

TEST(MemoryPlan, AnySizes) {
  std::mt19937_64 random(7);
  const auto any = [&](int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random); };
  int planned = 0;
  for (int i = 0; i < 3000; ++i) {
    MemoryPlanInput in;
    in.budget = any(1, 1) << any(20, 40);
    in.process = any(0, 300) * kMiB;
    in.peak = in.process + any(0, 100) * kMiB;
    in.extra = any(0, 1) * any(0, 200) * kMiB;
    in.dense = any(1, int64_t{1} << any(20, 36));
    in.experts = any(0, 3) * any(1, 4000);
    if (in.experts > 0) {
      in.slot_bytes = any(1, 5000) * 4096;
      in.expert_bytes = any(1, in.slot_bytes);
      in.least_slots = any(1, std::min<int64_t>(in.experts, 32));
      in.fixed_slots = any(0, 3) == 0 ? any(in.least_slots, in.experts) : 0;
      in.experts_per_token = any(0, in.experts);
    }
    in.whole = in.dense + in.experts * in.expert_bytes;
    in.kv_block_bytes = any(1, 1000) * 4096;
    in.most_context = static_cast<int32_t>(any(64, 200000));
    in.context = any(0, 1) == 0 ? 0 : static_cast<int32_t>(any(1, in.most_context));
    in.shared_pool = any(0, 1) == 1;
    in.kv_bytes = in.shared_pool && any(0, 1) == 1 ? any(1, 1000) * kMiB : -1;
    in.least_rows = static_cast<int32_t>(any(1, 64));
    in.rows = static_cast<int32_t>(any(in.least_rows, 2048));
    in.short_rows = any(0, 1) == 1 ? static_cast<int32_t>(any(1, 128)) : 0;
    const int64_t row = any(1, 1 << 20);
    in.scratch = [row](int32_t rows, int32_t context) { return rows * row + context * int64_t{100}; };
    const auto plan = PlanMemory(in);
    if (plan) {
      ++planned;
      ExpectSound(*plan, in);
      EXPECT_LE(LeastMemory(in), in.budget + kMiB);
    } else {
      ASSERT_EQ(plan.error().code, ErrorCode::kResource) << plan.error().message;
      MemoryPlanInput enough = in;
      enough.budget = LeastMemory(in);
      ASSERT_GT(enough.budget, in.budget);
      const auto other = PlanMemory(enough);
      ASSERT_TRUE(other) << other.error().message;
      ExpectSound(*other, enough);
    }
    if (testing::Test::HasFailure()) FAIL() << "round " << i;
  }
  EXPECT_GT(planned, 300);
  EXPECT_LT(planned, 2900);
}

TEST(MemoryPlan, WrongSizesAreNamed) {
  const auto wrong = [](auto change, const char* field) {
    MemoryPlanInput in = Lite(3 * kGiB);
    change(in);
    const auto plan = PlanMemory(in);
    ASSERT_FALSE(plan) << field;
    EXPECT_EQ(plan.error().code, ErrorCode::kInvalidArgument) << field;
    EXPECT_NE(plan.error().message.find(field), std::string::npos) << plan.error().message;
  };
  wrong([](auto& in) { in.budget = 0; }, "budget");
  wrong([](auto& in) { in.dense = -1; }, "dense");
  wrong([](auto& in) { in.whole = in.dense - 1; }, "whole");
  wrong([](auto& in) { in.slot_bytes = 0; }, "slot_bytes");
  wrong([](auto& in) { in.experts = 1 << 25, in.slot_bytes = int64_t{1} << 35; }, "experts");
  wrong([](auto& in) { in.fixed_slots = in.experts + 1; }, "fixed_slots");
  wrong([](auto& in) { in.kv_block_bytes = 0; }, "kv_block_bytes");
  wrong([](auto& in) { in.least_rows = in.rows + 1; }, "least_rows");
  wrong([](auto& in) { in.scratch = nullptr; }, "scratch");
}

TEST(HotShare, CountsTheMostUsed) {
  const std::vector<float> heat = {0.1f, 0.4f, 0.0f, 0.3f, 0.2f};
  EXPECT_NEAR(HotShare(heat, 2), 0.7, 1e-6);
  EXPECT_NEAR(HotShare(heat, 5), 1.0, 1e-6);
  EXPECT_NEAR(HotShare(heat, 99), 1.0, 1e-6);
  EXPECT_EQ(HotShare(heat, 0), 0);
  EXPECT_EQ(HotShare({}, 3), -1);
  EXPECT_EQ(HotShare(std::vector<float>(4), 3), -1);
}

}  // namespace
}  // namespace fathom
