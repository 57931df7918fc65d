#include "plan/training.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/source_dir_for_test.h"
#include "engine/synth_configs.h"
#include "plan/accelerators.h"

namespace fathom {
namespace {

using ::testing::HasSubstr;

TrainingInput V3Input() {
  const Accelerator h800 = FindAccelerator("h800").value();
  return {.tokens = kV3Tokens, .sequence_length = kV3SequenceLength, .device_flops = h800.bf16_flops,
          .memory_bytes = h800.memory_bytes, .mfu = V3Utilisation(), .price_per_hour = kV3PricePerHour};
}

// The paper: 2.664 M H800-hours of pre-training, 5.328 M USD; some 3.9e24 operations by this count. That it is 40 % of
// the BF16 peak (20 % of FP8's) is the check: a count that were off by two would not be between 30 and 50 %.
TEST(TrainingPlan, V3sHoursImplyAPlausibleUtilisation) {
  EXPECT_NEAR(V3Utilisation(), 0.41, 0.01);
  const auto target = LoadTrainingTarget("deepseek-v3");
  ASSERT_TRUE(target) << target.error().message;
  EXPECT_EQ(target->config.num_nextn_predict_layers, 1);
  const TrainingPlan plan = PlanTraining(target->config, V3Input());
  EXPECT_NEAR(plan.parameters.total / 1e9, 671, 1);
  EXPECT_NEAR(plan.parameters.active / 1e9, 36.6, 0.5);
  EXPECT_NEAR(plan.total_flops, 3.9e24, 0.1e24);
  EXPECT_NEAR(plan.device_hours, kV3PretrainingHours, 1);
  EXPECT_NEAR(plan.cost, 5.328e6, 10);
}

// What was not used to find the utilisation: the context extension (section 4.3: 1000 steps of 1920 sequences of 32 K
// tokens, then 1000 of 480 of 128 K). The paper's 119 K hours are 1.6 times what pre-training's utilisation foretells, so
// long sequences ran at less of it; a count that forgot attention's scores would foretell a third of the paper's.
TEST(TrainingPlan, V3sContextExtension) {
  const ModelConfig config = LoadTrainingTarget("deepseek-v3")->config;
  double hours = 0;
  for (const auto& [length, batch] : {std::pair{32768.0, 1920.0}, std::pair{131072.0, 480.0}}) {
    TrainingInput input = V3Input();
    input.sequence_length = length;
    input.tokens = 1000 * batch * length;
    hours += PlanTraining(config, input).device_hours;
  }
  EXPECT_GT(hours, 0.55 * kV3ExtensionHours);
  EXPECT_LT(hours, 0.75 * kV3ExtensionHours);
  EXPECT_NEAR((kV3PretrainingHours + hours) / kV3AllHours, 0.98, 0.01);
}

TEST(TrainingPlan, LongerSequencesCostMore) {
  const ModelConfig config = LoadTrainingTarget("deepseek-v3")->config;
  double before = 0;
  for (const double length : {1024.0, 4096.0, 32768.0, 131072.0}) {
    TrainingInput input = V3Input();
    input.sequence_length = length;
    const double hours = PlanTraining(config, input).device_hours;
    EXPECT_GT(hours, before);
    before = hours;
  }
}

TEST(TrainingPlan, R2) {
  const auto target = LoadTrainingTarget("R2");
  ASSERT_TRUE(target);
  const TrainingPlan plan = PlanTraining(target->config, V3Input());
  EXPECT_NEAR(plan.parameters.total / 1e9, 1202, 1);
  EXPECT_NEAR(plan.parameters.active / 1e9, 77.4, 0.5);
  // Twice V3's active weights: about twice the hours.
  EXPECT_NEAR(plan.device_hours / kV3PretrainingHours, 2.05, 0.1);
}

TEST(TrainingPlan, ScalesAsItShould) {
  const ModelConfig config = FindSynthConfig("tiny").value();
  const TrainingInput input{.tokens = 1e9, .sequence_length = 1024, .device_flops = 1e12, .memory_bytes = 16e9,
                            .mfu = 0.5, .price_per_hour = 3};
  const TrainingPlan plan = PlanTraining(config, input);
  EXPECT_DOUBLE_EQ(plan.total_flops, 1e9 * CountFlops(config, 1024).training());
  EXPECT_DOUBLE_EQ(plan.device_hours, plan.total_flops / 5e11 / 3600);
  EXPECT_DOUBLE_EQ(plan.cost, 3 * plan.device_hours);
  EXPECT_EQ(plan.least_devices, 1);
  EXPECT_DOUBLE_EQ(plan.days, plan.device_hours / 24);
  TrainingInput other = input;
  other.mfu = 0.25;
  other.devices = 8;
  EXPECT_DOUBLE_EQ(PlanTraining(config, other).device_hours, 2 * plan.device_hours);
  EXPECT_DOUBLE_EQ(PlanTraining(config, other).days, plan.days / 4);
  other = input;
  other.recompute = true;
  const TrainingPlan repeated = PlanTraining(config, other);
  EXPECT_DOUBLE_EQ(repeated.total_flops, plan.total_flops);  // model arithmetic is the same
  EXPECT_GT(repeated.device_hours, 1.2 * plan.device_hours);
  EXPECT_LT(repeated.device_hours, 4.0 / 3 * plan.device_hours);
  EXPECT_LT(repeated.activation_bytes, plan.activation_bytes);
}

TEST(TrainingPlan, MemoryDecidesTheLeastNumberOfDevices) {
  const ModelConfig config = LoadTrainingTarget("deepseek-v3")->config;
  TrainingInput input = V3Input();
  input.recompute = true;
  const TrainingPlan plan = PlanTraining(config, input);
  EXPECT_NEAR(plan.state_bytes, 14 * 682.6e9, 20e9);
  EXPECT_GT(plan.least_devices, 130);  // 9.6 TB in 80 GB pieces, nine tenths of them usable
  EXPECT_LT(plan.least_devices, 200);
  // Without recomputation as well: V3's authors trained it on 2048 without tensor parallelism.
  input.recompute = false;
  EXPECT_GT(PlanTraining(config, input).least_devices, 500);
  EXPECT_LT(PlanTraining(config, input).least_devices, 2048);
  input.memory_bytes = 1e9;  // less than the activations of one sequence
  EXPECT_EQ(PlanTraining(config, input).least_devices, 0);
  input.memory_bytes = 0;
  EXPECT_EQ(PlanTraining(config, input).devices, 0);
  EXPECT_EQ(PlanTraining(config, input).days, 0);
}

TEST(TrainingPlan, TargetsOfEveryKind) {
  const std::string golden = SourceDirForTest() + "/tests/golden/";
  EXPECT_EQ(LoadTrainingTarget(golden + "hf/v3")->config.hidden_size, 64);
  EXPECT_EQ(LoadTrainingTarget(golden + "hf/v3/config.json")->config.hidden_size, 64);
  EXPECT_EQ(LoadTrainingTarget(golden + "gguf/v3-mainline.gguf")->config.hidden_size, 64);
  EXPECT_EQ(LoadTrainingTarget("nonesuch").error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(LoadTrainingTarget("nonesuch").error().message, HasSubstr("recipe"));
  EXPECT_FALSE(LoadTrainingTarget("none/config.json"));
  EXPECT_FALSE(LoadTrainingTarget("none.toml"));
  EXPECT_FALSE(LoadTrainingTarget("none.gguf"));
}

TEST(TrainingPlan, AcceleratorsByName) {
  EXPECT_EQ(FindAccelerator("H100")->name, "h100");
  EXPECT_THAT(FindAccelerator("tpu").error().message, HasSubstr("910b"));
  for (const Accelerator& one : Accelerators()) {
    EXPECT_GT(one.bf16_flops, 1e14);
    EXPECT_FALSE(one.source.empty());
  }
}

}  // namespace
}  // namespace fathom
